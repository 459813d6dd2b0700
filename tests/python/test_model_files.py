"""Models of real libraries, logged and given back, checked and safe."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import lightgbm
import mlplat
import numpy as np
import pandas as pd
import pytest
import sklearn
import xgboost
from logged_models import FRAME, NUMBER, TARGET, logged, packages
from mlplat._model_files import _pickles
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.usefixtures("project")


def test_scikit_learn():
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(FRAME, TARGET)
    info = logged(model, input_example=FRAME.head(3), metadata={"team": "air"})
    assert (info.flavor, info.artifact_path) == ("sklearn", "model")
    assert info.model_class == "sklearn.pipeline.Pipeline"
    assert info.signature is not None
    assert info.signature.columns == ["distance", "hour"]
    assert info.signature.inputs == {
        "kind": "table",
        "columns": [
            {"name": "distance", "type": "float64", "nullable": False},
            {"name": "hour", "type": "int64", "nullable": False},
        ],
    }
    assert info.signature.outputs == {"kind": "tensor", "type": "string", "shape": [-1]}
    assert f"scikit-learn=={sklearn.__version__}" in info.requirements
    assert f"numpy=={np.__version__}" in info.requirements
    assert not any(line.startswith(("pytest", "xgboost", "mlplat")) for line in info.requirements)
    again = mlplat.load_model(info.model_uri)
    assert (again.predict(FRAME) == model.predict(FRAME)).all()
    files = {file.path: file for file in mlplat.get_run(info.run_id).artifacts("model")}
    assert set(files) == {f"model/{name}" for name in [*info.files, "mlplat-model.json"]}
    assert all(files[f"model/{name}"].sha256 == digest for name, digest in info.files.items())
    assert info.size_bytes == sum(files[f"model/{name}"].size_bytes for name in info.files)


@pytest.mark.parametrize("kind", ["classifier", "regressor", "booster"])
def test_xgboost(kind: str):
    labels = (TARGET == "late").astype(int)
    if kind == "booster":
        model: Any = xgboost.train({"max_depth": 2}, xgboost.DMatrix(FRAME, labels), 5)
    else:
        made = xgboost.XGBClassifier if kind == "classifier" else xgboost.XGBRegressor
        model = made(n_estimators=5, max_depth=2).fit(FRAME, labels)
    info = logged(model, input_example=FRAME.head(2))
    assert info.flavor == "xgboost"
    assert "model.ubj" in info.files
    assert not any(name.endswith(".pkl") for name in info.files)
    assert info.signature is not None
    assert info.signature.outputs is not None
    again = mlplat.load_model(info)
    assert type(again) is type(model)
    data = xgboost.DMatrix(FRAME) if kind == "booster" else FRAME
    assert np.array_equal(again.predict(data), model.predict(data))
    if kind != "booster":
        assert again.get_params()["max_depth"] == 2
    if kind == "classifier":
        assert np.array_equal(again.predict_proba(FRAME), model.predict_proba(FRAME))


def own_loss(truth: Any, guess: Any) -> Any:
    return guess - truth, np.ones_like(guess)


def test_params_of_xgboost_keep_their_types(capsys: pytest.CaptureFixture[str]):
    labels = (TARGET == "late").astype(int)
    given: dict[str, Any] = {
        "n_estimators": np.int64(5), "max_depth": np.int32(3), "learning_rate": np.float32(0.1), "gamma": np.float64(0.25),
        "objective": np.str_("binary:logistic"), "enable_categorical": np.bool_(True), "base_score": 0.4, "missing": -1.0,
        "monotone_constraints": (1, 0), "eval_metric": ["auc", "logloss"], "max_leaves": None, "reg_alpha": np.float16(0.1),
        "interaction_constraints": [["distance"], ["hour"]], "feature_weights": np.array([1.0, 0.5]),
    }  # fmt: skip
    model = xgboost.XGBClassifier(**given).fit(FRAME, labels)
    info = logged(model)
    assert not any(name.endswith(".pkl") for name in info.files)
    again = mlplat.load_model(info)
    ours, theirs = again.get_params(), model.get_params()
    assert (ours.pop("feature_weights") == theirs.pop("feature_weights")).all()
    assert np.isnan(mlplat.load_model(logged(xgboost.XGBRegressor().fit(FRAME, NUMBER))).missing)
    assert ours == theirs
    assert {name: type(value) for name, value in ours.items()} == {n: type(v) for n, v in theirs.items()}
    assert np.array_equal(again.predict_proba(FRAME), model.predict_proba(FRAME))
    again.fit(FRAME, labels)
    assert np.array_equal(again.predict_proba(FRAME), model.predict_proba(FRAME))
    # What is no value is pickled, and what cannot be is named.
    model = xgboost.XGBRegressor(objective=own_loss, n_estimators=2, random_state=np.random.RandomState(3))
    again = mlplat.load_model(logged(model.fit(FRAME, NUMBER)))
    assert again.objective is own_loss
    assert isinstance(again.random_state, np.random.RandomState)
    assert np.array_equal(again.predict(FRAME), model.predict(FRAME))
    assert "refers to test_model_files, which belongs to no installed package" in capsys.readouterr().err
    vars(model)["importance_type"] = (at for at in range(2))
    again = mlplat.load_model(logged(model))
    assert (again.n_estimators, again.objective) == (2, own_loss)
    assert (
        "the XGBRegressor is stored without importance_type, which cannot be pickled"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ["classifier", "booster"])
def test_lightgbm(kind: str):
    if kind == "booster":
        data = lightgbm.Dataset(FRAME, NUMBER)
        model: Any = lightgbm.train({"num_leaves": 4, "verbose": -1}, data, 5)
    else:
        model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME, TARGET)
    info = logged(model)
    assert info.flavor == "lightgbm"
    assert "model.txt" in info.files
    again = mlplat.load_model(info)
    assert type(again) is type(model)
    assert (again.predict(FRAME) == model.predict(FRAME)).all()
    if kind == "classifier":
        assert again.classes_.tolist() == ["late", "on time"]


@pytest.mark.parametrize("made", [xgboost.XGBRegressor, lightgbm.LGBMRegressor])
def test_estimators_that_are_not_fitted_yet(made: Any):
    info = logged(made(n_estimators=7))
    assert "scikit-learn" in packages(info)
    again = mlplat.load_model(info)
    assert (type(again), again.n_estimators) == (made, 7)
    assert again.fit(FRAME, NUMBER).predict(FRAME).shape == (200,)


def test_boosters_that_stopped_early():
    data, others = (lightgbm.Dataset(FRAME, target) for target in (NUMBER, -NUMBER))
    stop = lightgbm.early_stopping(1, verbose=False)
    model = lightgbm.train({"verbose": -1}, data, 20, valid_sets=[others], callbacks=[stop])
    again = mlplat.load_model(logged(model))
    assert again.best_iteration == model.best_iteration == 1
    assert (again.predict(FRAME) == model.predict(FRAME)).all()


def test_examples_of_boosters():
    frame = FRAME.assign(day=pd.Categorical(["mon", "tue"] * 100))
    matrix = xgboost.DMatrix(frame, NUMBER, enable_categorical=True)
    model = xgboost.train({}, matrix, 2)
    for example in (frame, matrix):
        signature = logged(model, input_example=example).signature
        assert signature is not None
        assert signature.outputs == {"kind": "tensor", "type": "float32", "shape": [-1]}


def test_functions_and_other_objects():
    factor = 3

    def scaled(values: Any) -> Any:
        return np.asarray(values) * factor

    info = logged(scaled, input_example=np.array([1.0, 2.0]))
    assert info.flavor == "pickle"
    assert info.signature is not None
    assert info.signature.outputs == {"kind": "tensor", "type": "float64", "shape": [-1]}
    assert mlplat.load_model(info)([2]).tolist() == [6]
    assert mlplat.load_model(logged({"weights": [1, 2]})) == {"weights": [1, 2]}
    with pytest.raises(mlplat.MisuseError, match="cannot be pickled"):
        logged(at for at in range(3))
    with pytest.raises(mlplat.WrongTypeError, match="None"):
        logged(None)


def test_code_that_came_with_a_model_is_pickled_with_it(monkeypatch: pytest.MonkeyPatch):
    # As `trust_remote_code` of transformers brings it; "theirs" the user has registered.
    models: list[Any] = []
    for name in ("transformers_modules", "transformers_modules.ours", "transformers_modules.theirs"):
        module: Any = types.ModuleType(name)
        exec("class Net:\n    def run(self): return 7", vars(module))
        monkeypatch.setitem(sys.modules, name, module)
        models.append(module.Net())
    cloudpickle.register_pickle_by_value(sys.modules["transformers_modules.theirs"])
    try:
        assert _pickles.takes(models)
        info = logged(models)
        with _pickles.pickling():
            logged(models)
            assert "transformers_modules.ours" in cloudpickle.list_registry_pickle_by_value()
        assert cloudpickle.list_registry_pickle_by_value() == {"transformers_modules.theirs"}
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules["transformers_modules.theirs"])
    for name in list(sys.modules):
        if name.startswith("transformers_modules"):
            monkeypatch.delitem(sys.modules, name)
    assert [model.run() for model in mlplat.load_model(info)] == [7, 7, 7]


class Pair(NamedTuple):
    left: Any
    right: Any


def test_examples_of_several_parts_have_few_values():
    def taken(*_: object) -> int:
        return 0

    wide = np.zeros((50, 30_000))
    for example in (wide, (wide[:20], wide[:20]), {"a": wide[:20], "b": [wide[:20]]}, [[0.0] * 30_000] * 50):
        with pytest.raises(mlplat.MisuseError, match="more than 1,000,000 values; give a few rows"):
            logged(taken, input_example=example)
    itself: list[Any] = []
    itself += [itself, itself]
    with pytest.raises(mlplat.MisuseError):
        logged(taken, signature={"kind": "any"}, input_example={"a": itself})
    info = logged(taken, input_example=Pair(np.zeros((500, 2)), np.ones(500)))
    run = mlplat.get_run(info.run_id)
    left, right = json.loads(run.read_artifact("model/input_example.json"))["data"]
    assert (len(left), len(right)) == (100, 100)


def test_files(tmp_path: Path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "m.onnx").write_bytes(b"not parsed here")
    (tmp_path / "m.weird").write_bytes(b"weird")
    info = logged(tmp_path / "m.pkl")
    assert info.signature is None
    assert mlplat.load_model(info) == [1, 2]
    # The file is not loaded to be asked what comes out.
    asked = logged(tmp_path / "m.pkl", input_example=FRAME.head()).signature
    assert asked is not None
    assert (asked.columns, asked.outputs) == (["distance", "hour"], None)
    assert logged(str(tmp_path / "m.onnx")).flavor == "onnx"
    path = mlplat.load_model(logged(tmp_path / "m.weird"))
    assert Path(path).read_bytes() == b"weird"
    with pytest.raises(mlplat.FileError, match="no model file"):
        logged(str(tmp_path / "nothing.pkl"))


def test_a_file_of_our_name(tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("of the user")
    info = logged(tmp_path / "requirements.txt")
    assert Path(mlplat.load_model(info)).read_text() == "of the user"
    assert info.signature is None


def test_published_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    # A local directory of the same name is not what was logged.
    os.mkdir("model")
    Path("model/other").write_text("x")
    model = LinearRegression().fit(FRAME, NUMBER)
    with mlplat.start_run("e") as run:
        info = run.log_model(model, "deep/model", registered_model_name="delay")
        second = run.publish_model("delay", "deep/model")
    first = info.registered_version
    assert (first.name, first.version, first.artifact_path) == ("delay", 1, "deep/model")
    assert second.version == 2
    mlplat.models.set_alias("delay", "champion", 1)
    for name in ("models:/delay/1", "models:/delay/2", "models:/delay@champion", "models:/delay/champion", "models:/delay", "models:/delay/latest"):  # fmt: skip
        assert np.allclose(mlplat.load_model(name).predict(FRAME), NUMBER)
    for held in (first, second, info):
        assert np.allclose(mlplat.load_model(held).predict(FRAME), NUMBER)
    local = mlplat.models.download(first, into=tmp_path / "here")
    assert np.allclose(mlplat.load_model(local).predict(FRAME), NUMBER)
    with pytest.raises(mlplat.NotFoundError):
        mlplat.load_model("models:/delay/9")
    with pytest.raises(mlplat.NotFoundError):
        mlplat.load_model(f"runs:/{run.id}/nothing")
    with pytest.raises(mlplat.MisuseError, match="runs:/"):
        mlplat.load_model("s3://bucket/model")
    with pytest.raises(mlplat.FileError, match="no model at"):
        mlplat.load_model("nothing")


def test_what_is_left_of_another_model_is_not_published():
    booster = xgboost.train({"max_depth": 1}, xgboost.DMatrix(FRAME, NUMBER), 1)
    linear = LinearRegression().fit(FRAME, NUMBER)
    with mlplat.start_run("e") as run:
        # The same kind of model, without the example of the first time.
        run.log_model(linear, "model", input_example=FRAME.head())
        run.log_model(linear, "model", registered_model_name="same")
    with mlplat.start_run("e") as run:
        run.log_model(linear, "model")
        with pytest.raises(mlplat.FailedPreconditionError, match=r"holds model\.pkl of another model"):
            run.log_model(booster, "model", registered_model_name="stale")
        with pytest.raises(mlplat.FailedPreconditionError, match="name of its own"):
            run.publish_model("stale", "model")
        # It is logged nevertheless, and goes well under its own name.
        assert isinstance(mlplat.load_model(f"runs:/{run.id}/model"), xgboost.Booster)
        version = run.log_model(booster, "booster", registered_model_name="stale").registered_version
    assert version.version == 1
    assert not any(file.path.endswith(".pkl") for file in version.files)


def test_a_plain_pickle_that_was_published(tmp_path: Path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "weights.bin").write_bytes(b"x")
    with mlplat.start_run("e") as run:
        version = run.publish_model("m", tmp_path / "model.pkl")
        other = run.publish_model("n", tmp_path / "weights.bin")
    assert mlplat.load_model(version) == {"a": 1}
    with pytest.raises(mlplat.MisuseError, match=r"models\.download"):
        mlplat.load_model(other)


def test_a_version_whose_files_were_logged_again_is_refused(tmp_path: Path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps("first"))
    with mlplat.start_run("e") as run:
        version = run.publish_model("m", tmp_path / "model.pkl")
        (tmp_path / "model.pkl").write_bytes(pickle.dumps("second"))
        try:
            run.log_artifact(tmp_path / "model.pkl")
        except mlplat.FailedPreconditionError:
            return  # the server keeps what was published
        with pytest.raises(mlplat.DataLossError, match="not what was published"):
            mlplat.load_model(version)


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["BOMB"],))


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "manifest", "outside", "format"])
def test_damaged_models_are_refused_before_anything_is_executed(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    with mlplat.start_run("e") as run:
        run.log_model([1, 2, 3], "model")
    folder = Path(mlplat.get_run(run.id).download_artifact("model", into=tmp_path))
    manifest = json.loads((folder / "mlplat-model.json").read_text())
    if damage == "changed":
        (folder / "model.pkl").write_bytes(pickle.dumps(Bomb()))
    elif damage == "cut":
        (folder / "model.pkl").write_bytes((folder / "model.pkl").read_bytes()[:-1])
    elif damage == "missing":
        (folder / "model.pkl").unlink()
    elif damage == "manifest":
        (folder / "mlplat-model.json").write_text("{}")
    elif damage == "outside":
        manifest["files"][0]["path"] = "../model/model.pkl"
        (folder / "mlplat-model.json").write_text(json.dumps(manifest))
    else:
        manifest["format"] = 99
        (folder / "mlplat-model.json").write_text(json.dumps(manifest))
    with pytest.raises((mlplat.DataLossError, mlplat.FailedPreconditionError)):
        mlplat.load_model(folder)
    assert not (tmp_path / "exploded").exists()


def test_a_model_that_fails_on_its_example_is_logged_without_outputs(capsys: pytest.CaptureFixture[str]):
    model = LinearRegression().fit(FRAME, NUMBER)
    info = logged(model, input_example=np.zeros((2, 9)))
    assert info.signature is not None
    assert info.signature.inputs == {"kind": "tensor", "type": "float64", "shape": [-1, 9]}
    assert info.signature.outputs is None
    assert "failed on the input example" in capsys.readouterr().err


def test_signatures():
    infer = mlplat.infer_signature
    assert infer([1.5, 2.5]).inputs == {"kind": "tensor", "type": "float64", "shape": [-1]}
    assert infer("text", 1).to_dict() == {"inputs": {"kind": "text"}, "outputs": {"kind": "int"}}
    rows = infer([{"a": 1, "b": "x"}, {"a": 2, "b": None}]).inputs
    assert rows == {
        "kind": "table",
        "columns": [
            {"name": "a", "type": "int", "nullable": False},
            {"name": "b", "type": "string", "nullable": True},
        ],
    }
    two = infer((np.zeros((2, 3)), np.zeros((2,), np.int64))).inputs
    assert two is not None
    assert two["kind"] == "tuple"
    assert [(value["type"], value["shape"]) for value in two["values"]] == [
        ("float64", [-1, 3]),
        ("int64", [-1]),
    ]
    assert infer([np.zeros(3), np.ones(3)]).inputs == {"kind": "tensor", "type": "float64", "shape": [-1, 3]}
    frame = pd.DataFrame(
        {"c": pd.Categorical(["x"]), "t": pd.to_datetime(["2026-01-01"]), "s": ["x"], "n": [None]}
    )
    assert infer(frame).columns == ["c", "t", "s", "n"]
    both = infer({"ids": np.zeros((2, 3), np.int64), "mask": np.zeros((2, 3), bool)}).inputs
    assert both is not None
    assert both["tensors"]["ids"] == {"kind": "tensor", "type": "int64", "shape": [-1, 3]}
    signature = infer(FRAME, NUMBER)
    assert mlplat.ModelSignature.from_dict(signature.to_dict()) == signature
    assert logged([1], signature=signature).signature == signature
    assert "distance: float64" in repr(signature)
    with pytest.raises(mlplat.WrongTypeError, match="infer_signature"):
        logged([1], signature=3)


def test_asyncio_twin():
    async def work() -> Any:
        async with mlplat.aio.start_run("e") as run:
            info = await run.log_model(LinearRegression().fit(FRAME, NUMBER), registered_model_name="m")
        assert info.registered_version.version == 1
        return await mlplat.aio.load_model("models:/m/1")

    assert np.allclose(asyncio.run(work()).predict(FRAME), NUMBER)
