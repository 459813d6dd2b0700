"""Autologging with the real xgboost and lightgbm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm
import mlplat
import numpy as np
import pandas
import pytest
import xgboost
from autolog_runs import RX, X, X_test, files, load, only_run, runs, ry, y, y_test
from mlplat._autolog import _session
from sklearn.linear_model import Ridge

# xgboost


def test_xgboost_train(logged: str):
    train, valid = xgboost.DMatrix(X[:150], y[:150]), xgboost.DMatrix(X_test, y_test)
    history: dict[str, Any] = {}
    booster = xgboost.train(
        {"max_depth": 2, "eta": 0.3, "objective": "binary:logistic", "eval_metric": ["logloss", "error"]},
        train,
        num_boost_round=30,
        evals=[(train, "train"), (valid, "valid")],
        evals_result=history,
        early_stopping_rounds=5,
        verbose_eval=False,
    )
    run = only_run()
    assert (run.name, run.status, run.tags["autolog"]) == ("xgboost.train", "FINISHED", "xgboost")
    assert (run.params["max_depth"], run.params["num_boost_round"]) == ("2", "30")
    assert run.params["early_stopping_rounds"] == "5"
    for data, metrics in history.items():
        for name, values in metrics.items():
            points = run.metric_history(f"{data}-{name}").to_dicts()
            assert [point["value"] for point in points] == values
            assert [point["step"] for point in points] == list(range(len(values)))
    assert run.metrics["best_iteration"] == booster.best_iteration
    importance = json.loads(Path(run.download_artifact("feature_importance_gain.json")).read_text())
    assert importance == pytest.approx(booster.get_score(importance_type="gain"))
    assert list(importance.values()) == sorted(importance.values(), reverse=True)
    assert (load(run).predict(valid) == booster.predict(valid)).all()


def test_xgboost_estimators(logged: str):
    model = xgboost.XGBClassifier(n_estimators=7, max_depth=2)
    model.fit(X[:150], y[:150], eval_set=[(X_test, y_test)], verbose=False)
    run = only_run()
    assert run.name == "XGBClassifier"
    assert run.params["n_estimators"] == "7"
    values = model.evals_result()["validation_0"]["logloss"]
    points = run.metric_history("validation_0-logloss").to_dicts()
    assert [point["value"] for point in points] == values
    assert {"feature_importance_weight.json", "feature_importance_gain.json"} < files(run)
    model.score(X_test, y_test)
    assert "score_X_test" in only_run().metrics


def test_linear_boosters_of_xgboost_have_weights_alone(logged: str):
    xgboost.XGBRegressor(booster="gblinear", n_estimators=2).fit(RX, ry)
    found = {path for path in files(only_run()) if path.startswith("feature_importance")}
    assert found == {"feature_importance_weight.json"}


def test_xgboost_cross_validation(logged: str):
    result: Any = xgboost.cv(
        {"max_depth": 2}, xgboost.DMatrix(RX, ry), 4, nfold=2, metrics="rmse", as_pandas=False
    )
    run = only_run()
    points = run.metric_history("test-rmse").to_dicts()
    assert [point["value"] for point in points] == result["test-rmse-mean"]


def steps(run: mlplat.ActiveRun, metric: str) -> list[int]:
    return [point["step"] for point in mlplat.get_run(run.id).metric_history(metric).to_dicts()]


def test_repeated_trainings_of_xgboost_add_steps(logged: str):
    train, valid = xgboost.DMatrix(X[:150], y[:150]), xgboost.DMatrix(X_test, y_test)
    params = {"objective": "binary:logistic"}
    with mlplat.start_run() as run:
        for _ in range(3):
            xgboost.train(params, train, 3, evals=[(valid, "valid")], verbose_eval=False)
        for _ in range(2):
            model = xgboost.XGBClassifier(n_estimators=2)
            model.fit(X[:150], y[:150], eval_set=[(X_test, y_test)], verbose=False)
    assert steps(run, "valid-logloss") == list(range(9))
    # Another kind of training counts for itself.
    assert steps(run, "XGBClassifier.validation_0-logloss") == [0, 1, 2, 3]


def test_repeated_trainings_of_lightgbm_add_steps(logged: str):
    params = {"objective": "binary", "verbose": -1, "min_data_in_leaf": 5}

    def train(**arguments: Any) -> lightgbm.Booster:
        data = lightgbm.Dataset(X[:150], y[:150], free_raw_data=False)
        valid = lightgbm.Dataset(X_test, y_test, reference=data, free_raw_data=False)
        return lightgbm.train(params, data, 3, valid_sets=[valid], valid_names=["valid"], **arguments)

    with mlplat.start_run() as run:
        train()
        booster = train()
        # This one counts its iterations on by itself.
        booster = train(init_model=booster)
        train(init_model=booster)
        train(init_model=booster)
    assert steps(run, "valid-binary_logloss") == list(range(15))


def test_an_exception_in_xgboost(logged: str):
    with pytest.raises(xgboost.core.XGBoostError):
        xgboost.train({"objective": "no:such"}, xgboost.DMatrix(RX, ry), 2)
    assert only_run().status == "FAILED"
    with pytest.raises(TypeError, match="missing"):
        xgboost.train()  # type: ignore[call-arg]  # pyright: ignore


# lightgbm


def test_lightgbm_train(logged: str):
    train = lightgbm.Dataset(X[:150], y[:150])
    valid = lightgbm.Dataset(X_test, y_test, reference=train)
    history: dict[str, Any] = {}
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 4, "verbosity": -1},
        train,
        20,
        valid_sets=[valid],
        valid_names=["valid"],
        callbacks=[lightgbm.record_evaluation(history), lightgbm.early_stopping(3, verbose=False)],
    )
    run = only_run()
    assert (run.name, run.status) == ("lightgbm.train", "FINISHED")
    assert (run.params["num_leaves"], run.params["num_boost_round"]) == ("4", "20")
    assert "valid_sets" not in run.params
    points = run.metric_history("valid-binary_logloss").to_dicts()
    assert [point["value"] for point in points] == history["valid"]["binary_logloss"]
    assert run.metrics["best_iteration"] == booster.best_iteration
    importance = json.loads(Path(run.download_artifact("feature_importance_split.json")).read_text())
    assert sum(importance.values()) == booster.feature_importance("split").sum()
    assert (load(run).predict(X_test) == booster.predict(X_test)).all()


def test_lightgbm_estimators(logged: str):
    model = lightgbm.LGBMRegressor(n_estimators=5, num_leaves=4, verbosity=-1)
    model.fit(RX, ry, eval_X=RX, eval_y=ry)
    run = only_run()
    assert run.name == "LGBMRegressor"
    assert run.params["num_leaves"] == "4"
    assert run.metric_summaries["training-l2"].count == 5
    assert "feature_importance_split.json" in files(run)


def test_what_fails_in_a_callback_stays_there(logged: str, monkeypatch: pytest.MonkeyPatch, capfd: Any):
    def fails(*_args: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(mlplat.ActiveRun, "log_metrics", fails)
    monkeypatch.setattr("mlplat._autolog._xgboost._log_iteration", fails)
    xgboost.train(
        {}, xgboost.DMatrix(RX, ry), 3, evals=[(xgboost.DMatrix(RX, ry), "train")], verbose_eval=False
    )
    lightgbm.train({"verbosity": -1}, lightgbm.Dataset(RX, ry), 3, valid_sets=[lightgbm.Dataset(RX, ry)])
    assert [mlplat.get_run(run["run_id"]).status for run in runs()] == ["FINISHED", "FINISHED"]
    said = capfd.readouterr().err
    assert said.count("an iteration was not logged: RuntimeError: no such thing") == 1
    assert said.count("of lightgbm: metrics were not logged") == 1
    _session._warned.clear()


def test_two_libraries_in_one_run_keep_their_own_files(logged: str):
    with mlplat.start_run("e") as run:
        booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(X[:150], y[:150]), 3)
        lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(X[:150], y[:150])
    stored = mlplat.get_run(run.id)
    found = {path for path in files(stored) if "feature_importance" in path}
    assert found == {
        f"{prefix}feature_importance_{kind}.json"
        for prefix, kinds in {"": ("weight", "gain"), "LGBMClassifier.": ("split", "gain")}.items()
        for kind in kinds
    }
    importance = json.loads(stored.read_artifact("feature_importance_gain.json"))
    assert importance == pytest.approx(booster.get_score(importance_type="gain"))


def manifest(run: mlplat.ActiveRun | mlplat.Run, path: str = "model") -> dict[str, Any]:
    return json.loads(mlplat.get_run(run.id).read_artifact(f"{path}/mlplat-model.json"))


def tensor(kind: str, *shape: int) -> dict[str, Any]:
    return {"kind": "tensor", "type": kind, "shape": list(shape)}


BINARY = {"objective": "binary:logistic"}
FRAME = pandas.DataFrame(X, columns=list("abcdef"))


@pytest.mark.parametrize("matrix", [xgboost.DMatrix, xgboost.QuantileDMatrix])
def test_boosters_of_xgboost_have_signatures(logged: str, matrix: Any):
    held = X.copy()
    held[1, 2] = np.nan
    with mlplat.start_run() as run:
        xgboost.train(BINARY, matrix(held, y), 2)
    found = manifest(run)
    assert found["signature"] == {"inputs": tensor("float32", -1, 6), "outputs": tensor("float32", -1)}
    example = json.loads(mlplat.get_run(run.id).read_artifact("model/input_example.json"))["data"]
    assert example[1][2] in (None, "NaN")
    if matrix is xgboost.DMatrix:
        assert example[0] == pytest.approx(held[0].tolist(), rel=1e-6)


def test_boosters_of_tables_have_signatures_with_names(logged: str):
    with mlplat.start_run() as run:
        xgboost.train(BINARY, xgboost.DMatrix(FRAME, y), 2)
        lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(FRAME, y), 2)
    for path, kind in (("model", "float32"), ("model-lightgbm.train", "float64")):
        signature = manifest(run, path)["signature"]
        assert [(column["name"], column["type"]) for column in signature["inputs"]["columns"]] == [
            (name, kind) for name in "abcdef"
        ]
        assert signature["outputs"]["shape"] == [-1]


def test_estimators_of_boosting_have_signatures(logged: str):
    with mlplat.start_run() as run:
        xgboost.XGBClassifier(n_estimators=2).fit(FRAME, y)
        lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X=X, y=y)
    found = manifest(run)
    assert [column["name"] for column in found["signature"]["inputs"]["columns"]] == list("abcdef")
    assert found["signature"]["outputs"] == tensor("int64", -1)
    assert manifest(run, "model-LGBMClassifier")["signature"]["inputs"] == tensor("float64", -1, 6)


def test_data_that_is_gone_or_coded_gives_no_signature(logged: str):
    data = lightgbm.Dataset(X, y).construct()
    coded = FRAME.assign(code=pandas.Categorical(np.where(y, "u", "v")))
    with mlplat.start_run() as run:
        lightgbm.train({"objective": "binary", "verbose": -1}, data, 2)
        xgboost.train(BINARY, xgboost.DMatrix(coded, y, enable_categorical=True), 2)
    for path in ("model", "model-xgboost.train"):
        assert manifest(run, path)["signature"] is None


def test_an_example_that_cannot_be_kept_does_not_cost_the_model(logged: str):
    wide = np.zeros((6, 250_000))
    Ridge().fit(wide, np.arange(6.0))
    run = only_run()
    assert manifest(run)["input_example"] is None
    assert load(run).predict(wide[:1]) == pytest.approx(2.5)
