"""Autologging makes no runs of what trains inside of a training, and keeps apart what trains side by side."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlplat
import numpy as np
import pytest
from autolog_runs import RX, X, X_test, only_run, runs, ry, y, y_test
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import permutation_importance
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import learning_curve, permutation_test_score, validation_curve

estimator_checks: Any = importlib.import_module("sklearn.utils.estimator_checks")


@pytest.mark.parametrize("jobs", [1, 2])
def test_functions_that_train_for_a_purpose_of_their_own_make_no_runs(logged: str, jobs: int):
    class Incremental(SGDClassifier):
        def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
            return self.fit(X, y)

    permutation_test_score(LogisticRegression(), X, y, n_permutations=3, cv=2, n_jobs=jobs)
    learning_curve(Incremental(), X, y, cv=2, exploit_incremental_learning=True, n_jobs=1)
    validation_curve(Ridge(), RX, ry, param_name="alpha", param_range=[1.0, 2.0], cv=2, n_jobs=jobs)
    assert runs() == []
    model = LogisticRegression().fit(X, y)
    permutation_importance(model, X_test, y_test, n_repeats=2, n_jobs=jobs)
    assert [key for key in only_run().metrics if key.startswith("score")] == []


def test_the_checks_of_estimators_make_no_runs(logged: str):
    names = {"check_classifiers_train", "check_estimators_pickle", "check_fit2d_1sample"}
    for _, check in estimator_checks.estimator_checks_generator(LogisticRegression()):
        if check.func.__name__ in names:
            names.remove(check.func.__name__)
            check(LogisticRegression())
    assert (names, runs()) == (set(), [])
    Ridge().fit(RX, ry)
    assert only_run().name == "Ridge"


class InThreads(ClassifierMixin, BaseEstimator):
    """Trains its parts in threads; a pool, if it gets one, has been there before."""

    def __init__(self, how: str = "own pool", pool: Any = None) -> None:
        self.how = how
        self.pool = pool

    def fit(self, X: Any, y: Any) -> InThreads:
        self.classes_ = np.unique(y)

        def part(C: float) -> Any:
            return LogisticRegression(C=C).fit(X, y)

        if self.how == "threads":
            self.parts_: list[Any] = []
            threads = [
                threading.Thread(target=lambda C=C: self.parts_.append(part(C))) for C in (0.5, 1.0, 2.0)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        elif self.pool is not None:
            self.parts_ = list(self.pool.map(part, (0.5, 1.0, 2.0)))
        else:
            with ThreadPoolExecutor(3) as pool:
                self.parts_ = list(pool.map(part, (0.5, 1.0, 2.0)))
        return self

    def predict(self, X: Any) -> Any:
        return self.parts_[0].predict(X)


@pytest.mark.parametrize("how", ["own pool", "threads", "pool"])
def test_threads_of_a_training_are_part_of_it(project: str, how: str):
    mlplat.autolog(log_models=False)
    try:
        with ThreadPoolExecutor(3) as pool:
            model = InThreads(how, pool if how == "pool" else None).fit(X, y)
            assert len(model.parts_) == 3
            assert [run["name"] for run in runs()] == ["InThreads"]
            # A pool that served a training serves its user again.
            list(pool.map(lambda C: Ridge(C).fit(RX, ry), (1.0, 2.0)))
            assert sorted(run["name"] for run in runs()) == ["InThreads", "Ridge", "Ridge"]
    finally:
        mlplat.autolog(disable=True)


def test_threads_that_train_while_another_trains_have_runs_of_their_own(project: str):
    """Also those that were started by a training and have outlived it."""
    begun, go_on = threading.Event(), threading.Event()

    class Waits(ClassifierMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Waits:
            self.thread_ = threading.Thread(target=later)
            self.thread_.start()
            begun.set()
            assert go_on.wait(60)
            return self

        def predict(self, X: Any) -> Any:
            return np.zeros(len(X), int)

    ended = threading.Event()

    def later() -> None:
        assert ended.wait(60)
        Lasso().fit(RX, ry)

    mlplat.autolog(log_models=False)
    try:
        model = Waits()
        outer = threading.Thread(target=lambda: model.fit(X, y))
        outer.start()
        assert begun.wait(60)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda C: Ridge(C).fit(RX, ry), (1.0, 2.0)))
        go_on.set()
        outer.join()
        ended.set()
        model.thread_.join()
        assert sorted(run["name"] for run in runs()) == ["Lasso", "Ridge", "Ridge", "Waits"]
        assert not {"run"} & vars(model.thread_).keys()
    finally:
        mlplat.autolog(disable=True)


WITHOUT_ANSWER = """
import os, sys, time
import mlplat
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
mlplat.autolog(log_datasets=False, log_models=False)
X, y = np.arange(20.0).reshape(-1, 1), np.arange(20.0)
LinearRegression().fit(X, y)
begun = time.monotonic()
GridSearchCV(LinearRegression(), {"fit_intercept": [True, False]}).fit(X, y)
LinearRegression().fit(X, y)
print(time.monotonic() - begun, flush=True)
os._exit(0)
"""


def test_the_ends_of_runs_wait_for_no_server(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MLPLAT_")}
        env |= {"MLPLAT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "MLPLAT_HOME": str(tmp_path)}
        env |= {"MLPLAT_ENVIRONMENT": "0", "MLPLAT_SYSTEM_METRICS": "0", "MLPLAT_CONSOLE": "0"}
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_ANSWER], env=env, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2.0
