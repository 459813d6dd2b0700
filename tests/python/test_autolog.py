"""Autologging with the real scikit-learn, xgboost and lightgbm."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lightgbm
import mlplat
import numpy as np
import pytest
import sklearn.metrics
import xgboost
from autolog_runs import RX, X, X_test, files, load, only_run, runs, ry, y, y_test
from mlplat import _active
from mlplat._autolog import _patches, _session
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import (
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, _search, _validation, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# scikit-learn


def test_a_classifier(logged: str):
    model = LogisticRegression(C=0.5).fit(X, y)
    run = only_run()
    assert (run.name, run.status) == ("LogisticRegression", "FINISHED")
    assert run.params["C"] == "0.5"
    assert run.params["fit_intercept"] == "True"
    assert run.tags["estimator_class"] == "sklearn.linear_model._logistic.LogisticRegression"
    assert run.tags["autolog"] == "sklearn"
    assert run.metrics["training_accuracy_score"] == sklearn.metrics.accuracy_score(y, model.predict(X))
    assert run.metrics["training_score"] == model.score(X, y)
    wanted = {"precision_score", "recall_score", "f1_score", "log_loss", "roc_auc"}
    assert {f"training_{name}" for name in wanted} <= run.metrics.keys()
    assert (load(run).predict(X) == model.predict(X)).all()


def test_a_regressor_in_the_run_of_the_user(logged: str):
    with mlplat.start_run("delays", "mine") as run:
        model = LinearRegression().fit(RX, y=ry)
        assert mlplat.get_run(run.id).status == "RUNNING"
    found = only_run()
    assert (found.id, found.name, found.status) == (run.id, "mine", "FINISHED")
    error = sklearn.metrics.mean_squared_error(ry, model.predict(RX))
    assert found.metrics["training_mean_squared_error"] == error
    assert found.metrics["training_root_mean_squared_error"] == pytest.approx(math.sqrt(error))


def test_several_models_of_one_run_do_not_mix(logged: str):
    with mlplat.start_run():
        for alpha in (1.0, 2.0, 3.0):
            Ridge(alpha=alpha).fit(RX, ry)
        LinearRegression(fit_intercept=False).fit(RX, ry)
    run = only_run()
    assert run.params["alpha"] == "3.0"
    assert run.metric_summaries["training_score"].count == 3
    assert run.params["fit_intercept"] == "True"
    assert run.params["LinearRegression.fit_intercept"] == "False"
    assert "LinearRegression.training_score" in run.metrics
    assert {path.split("/")[0] for path in files(run)} == {"model", "model-LinearRegression"}


def test_scores_after_the_fit(logged: str):
    model = LogisticRegression().fit(X[:150], y[:150])
    score = model.score(X_test, y_test)
    predicted = model.predict(X_test)
    accuracy = sklearn.metrics.accuracy_score(y_test, predicted)
    chances = model.predict_proba(X_test)
    area = sklearn.metrics.roc_auc_score(y_test, chances[:, 1])
    sklearn.metrics.accuracy_score(y_test, y_test)
    metrics = only_run().metrics
    assert metrics["score_X_test"] == score
    assert metrics["accuracy_score_X_test"] == accuracy
    assert metrics["roc_auc_score_X_test"] == area


def test_a_pipeline_is_one_run(logged: str):
    make_pipeline(StandardScaler(), LogisticRegression(C=2.0)).fit(X, y)
    run = only_run()
    assert run.name == "Pipeline"
    assert run.params["logisticregression__C"] == "2.0"


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(5, n_jobs=2),
        BaggingClassifier(LogisticRegression(), 3, n_jobs=2),
        VotingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(3))]),
        GridSearchCV(xgboost.XGBClassifier(n_estimators=2), {"max_depth": [1]}, cv=2),
        CalibratedClassifierCV(LogisticRegression(), cv=2, n_jobs=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_estimators_inside_of_estimators_make_no_runs(logged: str, model: Any):
    model.fit(X, y)
    tops = [run for run in runs() if run["parent_run_id"] is None]
    assert [run["name"] for run in tops] == [type(model).__name__]
    assert len(runs()) == 1 + (isinstance(model, GridSearchCV))


@pytest.mark.parametrize("jobs", [1, 2])
def test_folds_and_transformers_make_no_runs(logged: str, jobs: int):
    cross_val_score(LogisticRegression(), X, y, cv=3, n_jobs=jobs)
    SelectFromModel(LogisticRegression()).fit_transform(X, y)
    StandardScaler().fit_transform(X)
    assert runs() == []


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_a_search_has_a_nested_run_per_candidate(logged: str, backend: str):
    import joblib

    search = GridSearchCV(
        LogisticRegression(), {"C": [0.1, 1.0], "fit_intercept": [True, False]}, cv=3, n_jobs=2
    )
    with joblib.parallel_backend(backend):
        search.fit(X, y)
    [top] = [run for run in runs() if run["parent_run_id"] is None]
    children = [mlplat.get_run(run["run_id"]) for run in runs() if run["parent_run_id"] is not None]
    assert {child.parent_run_id for child in children} == {top["run_id"]}
    assert {(child.params["C"], child.params["fit_intercept"]) for child in children} == {
        ("0.1", "True"), ("0.1", "False"), ("1.0", "True"), ("1.0", "False"),
    }  # fmt: skip
    assert {child.status for child in children} == {"FINISHED"}
    for child in children:
        at = int(child.name.removeprefix("candidate "))
        assert child.metrics["mean_test_score"] == search.cv_results_["mean_test_score"][at]
    run = mlplat.get_run(top["run_id"])
    assert run.metrics["best_cv_score"] == search.best_score_
    assert run.params["best_C"] == str(search.best_params_["C"])
    with open(run.download_artifact("cv_results.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_test_score"]) for row in rows] == list(search.cv_results_["mean_test_score"])
    assert (load(run).predict(X) == search.predict(X)).all()


@pytest.mark.parametrize("scoring", ["accuracy", ["accuracy", "f1"]], ids=["one score", "several"])
def test_a_search_without_a_refit_logs_its_candidates(logged: str, scoring: Any):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, scoring=scoring, refit=False)
    search.fit(X, y)
    [top] = [run for run in runs() if run["parent_run_id"] is None]
    assert top["name"] == "GridSearchCV"
    children = [mlplat.get_run(run["run_id"]) for run in runs() if run["parent_run_id"] is not None]
    assert {child.params["C"] for child in children} == {"0.1", "1.0"}
    run = mlplat.get_run(top["run_id"])
    assert files(run) == {"cv_results.csv"}
    assert ("best_C" in run.params) == (scoring == "accuracy")


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (StackingClassifier([("a", LogisticRegression())], cv=2), (X, y)),
        (StackingRegressor([("a", Ridge())], cv=2), (RX, ry)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_estimators_that_predict_only_once_they_are_fitted(logged: str, model: Any, data: Any):
    model.fit(*data)
    run = only_run()
    assert run.name == type(model).__name__
    assert "training_score" in run.metrics
    assert (load(run).predict(data[0]) == model.predict(data[0])).all()


def test_a_search_needs_no_server(
    logged: str, server: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
):
    """What it logs is in the journal, and comes with the server."""
    monkeypatch.setenv("MLPLAT_OFFLINE_TIMEOUT", "0.2")
    monkeypatch.delenv("MLPLAT_PROJECT")
    other = type(server)(tmp_path)
    monkeypatch.setenv("MLPLAT_URL", other.url)
    other.stop()
    mlplat.connect(other.url, timeout=0.5)
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, y)
    assert "autologging" not in capfd.readouterr().err
    other = type(server)(tmp_path, other.url.removeprefix("http://"))
    try:
        mlplat.connect(other.url)
        _active.flush_at_exit()
        found = [mlplat.get_run(one["run_id"]) for one in runs()]
        [top] = [one for one in found if one.parent_run_id is None]
        assert sorted(one.params["C"] for one in found if one.parent_run_id == top.id) == ["0.1", "1.0"]
        assert "cv_results.csv" in files(top)
    finally:
        other.stop()


def test_a_random_search_logs_its_best_candidates(project: str):
    mlplat.autolog(max_tuning_runs=2, log_models=False)
    try:
        RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1, 10, 100]}, n_iter=4, cv=2, random_state=0).fit(RX, ry)
    finally:
        mlplat.autolog(disable=True)
    children = [mlplat.get_run(run["run_id"]) for run in runs() if run["parent_run_id"] is not None]
    assert sorted(child.metrics["rank_test_score"] for child in children) == [1, 2]
    [top] = [run for run in runs() if run["parent_run_id"] is None]
    assert files(mlplat.get_run(top["run_id"])) == {"cv_results.csv"}


def test_clustering_and_estimators_of_users(logged: str):
    KMeans(3, random_state=0).fit_predict(X)
    run = only_run()
    assert run.name == "KMeans"
    assert run.metrics["inertia"] > 0

    class Majority(ClassifierMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Majority:
            self.classes_ = np.unique(y)
            self.answer_ = np.bincount(y).argmax()
            return self

        def predict(self, X: Any) -> Any:
            return np.full(len(X), self.answer_)

    mlplat.autolog(log_models=False)
    Majority().fit(X, y)
    assert sorted(run["name"] for run in runs()) == ["KMeans", "Majority"]


def test_an_exception_of_the_training_passes_and_fails_the_run(logged: str):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LogisticRegression().fit(X, y[:-1])
    run = only_run()
    assert run.status == "FAILED"
    assert "inconsistent numbers of samples" in run.status_message
    assert run.params["C"] == "1.0"
    # The next one is not taken for nested.
    LogisticRegression().fit(X, y)
    assert len(runs()) == 2


def test_no_server_is_one_warning(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(mlplat._runs, "start_run", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(mlplat, "start_run", lambda *a, **k: 1 / 0)
    _session._warned.clear()
    mlplat.autolog()
    try:
        for _ in range(3):
            assert LogisticRegression().fit(X, y).score(X, y) > 0.5
    finally:
        mlplat.autolog(disable=True)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("mlplat: autologging of sklearn: no run could be started: ZeroDivisionError")


def test_a_failure_of_logging_is_no_failure_of_the_training(
    logged: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def fails(*_args: object, **_kwargs: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(mlplat.ActiveRun, "log_metrics", fails)
    monkeypatch.setattr(mlplat.ActiveRun, "_spool", fails)
    LogisticRegression().fit(X, y)
    assert only_run().status == "FINISHED"
    assert "the disk is full" in capfd.readouterr().err
    _session._warned.clear()


def test_threads_have_runs_of_their_own(logged: str):
    threads = [threading.Thread(target=lambda: LogisticRegression().fit(X, y)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = runs()
    assert len(found) == 4
    assert {run["status"] for run in found} == {"FINISHED"}
    assert all(run["metrics.training_score"] is not None for run in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_log_nothing(logged: str):
    pid = os.fork()
    if pid == 0:
        LogisticRegression().fit(X, y)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert runs() == []


def test_everything_is_taken_back(project: str):
    fit, train, score = LogisticRegression.fit, xgboost.train, sklearn.metrics.accuracy_score
    booster = lightgbm.LGBMModel.fit
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    mlplat.autolog()
    assert LogisticRegression.fit is not fit
    assert xgboost.train is not train
    patched = xgboost.train
    mlplat.autolog()
    assert xgboost.train is patched, "patched once"
    mlplat.autolog(sklearn=False)
    assert LogisticRegression.fit is fit
    assert xgboost.train is patched
    mlplat.autolog(disable=True)
    assert (xgboost.train, sklearn.metrics.accuracy_score, lightgbm.LGBMModel.fit) == (train, score, booster)
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (start, submit)
    assert "__init_subclass__" not in vars(BaseEstimator)
    assert _search._fit_and_score is _validation._fit_and_score  # pyright: ignore[reportPrivateImportUsage]
    assert _patches._finder not in sys.meta_path
    patched({}, xgboost.DMatrix(RX, ry), 1)
    LogisticRegression().fit(X, y)
    assert runs() == []


def test_scores_that_are_not_defined_are_left_out(logged: str):
    model = RandomForestClassifier(3, random_state=0)
    model.fit(X, np.zeros(len(X), dtype=int))
    three = np.arange(len(X)) % 3
    LogisticRegression().fit(X, three)
    metrics = {run["name"]: mlplat.get_run(run["run_id"]).metrics for run in runs()}
    assert metrics["RandomForestClassifier"]["training_accuracy_score"] == 1.0
    assert {"training_roc_auc", "training_log_loss"} < metrics["LogisticRegression"].keys()


# Imports


def test_libraries_imported_later_are_patched_and_importing_ours_brings_none():
    code = (
        "import sys, mlplat\n"
        "mlplat.autolog()\n"
        "print([name for name in ('sklearn', 'xgboost', 'lightgbm', 'numpy', 'transformers') if name in sys.modules])\n"
        "import xgboost, lightgbm\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from xgboost import train\n"
        "print(hasattr(LogisticRegression.fit, '__wrapped__'), hasattr(train, '__wrapped__'),\n"
        "      hasattr(lightgbm.train, '__wrapped__'), hasattr(xgboost.XGBModel.fit, '__wrapped__'))\n"
        "import inspect, sklearn.base\n"
        "print('class BaseEstimator' in inspect.getsource(sklearn.base))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "[]\nTrue True True True\nTrue\n"


def test_misuse_is_said():
    with pytest.raises(mlplat.MisuseError, match="max_tuning_runs"):
        mlplat.autolog(max_tuning_runs=-1)
