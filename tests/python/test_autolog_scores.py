"""Scores of the training data: what they cost, and what happens where a model's own code does not play along."""

from __future__ import annotations

import math
import signal
import sys
import time
from typing import Any

import mlplat
import numpy as np
import pytest
from autolog_runs import X, files, only_run, y
from mlplat._autolog import _session
from mlplat._model_files import _notices
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class Counting(ClassifierMixin, BaseEstimator):
    """Counts what it is asked; it may take its time, and may have a score of its own."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def fit(self, X: Any, y: Any) -> Counting:
        self.classes_ = np.unique(y)
        self.asked_: list[tuple[str, int]] = []
        return self

    def predict(self, X: Any) -> Any:
        self.asked_.append(("predict", len(X)))
        time.sleep(self.seconds)
        return (np.asarray(X)[:, 0] > 0).astype(int)

    def predict_proba(self, X: Any) -> Any:
        self.asked_.append(("predict_proba", len(X)))
        return np.full((len(X), 2), 0.5)


class Scoring(Counting):
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return float(self.predict(X).mean())


def test_training_data_is_predicted_once(project: str):
    mlplat.autolog(log_models=False)
    try:
        model = Counting().fit(X, y)
        own = Scoring().fit(X, y)
        # A score that all usual estimators have needs no predictions of its own.
        assert model.asked_ == [("predict", 200), ("predict_proba", 200)]
        assert own.asked_ == [("predict", 200), ("predict_proba", 200), ("predict", 200)]
        pipeline: Any = make_pipeline(StandardScaler(), Counting()).fit(X, y)
        assert pipeline[-1].asked_ == model.asked_
        # Once it has taken long, never again.
        assert Scoring(1.1).fit(X, y).asked_ == [("predict", 200)]
    finally:
        mlplat.autolog(disable=True)
    found = {run.name: run.metrics for run in mlplat.find_runs()}
    assert found["Counting"]["training_score"] == model.score(X, y)
    assert found["Pipeline"]["training_score"] == pipeline.score(X, y)
    assert found["Counting"]["training_log_loss"] == pytest.approx(math.log(2))


def test_of_many_rows_some_are_scored(logged: str):
    data: Any = np.repeat([[1.0], [-1.0]], 10_000, axis=0)
    target = (np.arange(20_000) < 10_000).astype(int)
    model = Counting().fit(data, target)
    assert model.asked_[:2] == [("predict", 10_000), ("predict_proba", 10_000)]
    # From all over, with their targets.
    assert only_run().metrics["training_accuracy_score"] == 1.0
    assert only_run().tags["training_scores"] == "of 10000 of 20000 rows"
    model = Counting().fit(data[:10_000], target[:10_000])
    assert "training_scores" not in next(iter(mlplat.find_runs())).tags


class Leaving(ClassifierMixin, BaseEstimator):
    """One whose `predict` does what it is given."""

    def __init__(self, leave: Any) -> None:
        self.leave = leave

    def fit(self, X: Any, y: Any) -> Leaving:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        self.leave()


def test_an_exit_in_predict_is_no_end_of_the_training(logged: str, capfd: pytest.CaptureFixture[str]):
    Leaving(sys.exit).fit(X, y)
    run = only_run()
    assert run.status == "FINISHED"
    assert "model/model.pkl" in files(run)
    assert "the training data was not scored: SystemExit" in capfd.readouterr().err
    _session._warned.clear()


def test_an_exit_by_a_signal_passes_through_scoring(logged: str):
    def leave(*_: object) -> None:
        sys.exit(3)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit):
            Leaving(lambda: signal.raise_signal(signal.SIGTERM)).fit(X, y)
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(KeyboardInterrupt):
        Leaving(lambda: signal.raise_signal(signal.SIGINT)).fit(X, y)


class Fussy(Counting):
    """Takes no five rows."""

    def predict(self, X: Any) -> Any:
        if len(X) == 5:
            raise ValueError(f"{X[0, 0]}: too few")
        return super().predict(X)


def test_what_is_said_of_a_model_is_said_once(logged: str, capfd: pytest.CaptureFixture[str]):
    _notices._said.clear()
    model = Fussy()
    for at in range(3):
        model.fit(X[at:], y[at:])
    said = capfd.readouterr().err
    assert said.count("the model refers to test_autolog_scores") == 1
    assert said.count("the signature has no outputs") == 1
    assert f"ValueError: {X[0, 0]}: too few" in said
    # Whoever logs one by himself is told each time.
    for _ in range(2):
        with mlplat.start_run() as run:
            run.log_model(model)
    assert capfd.readouterr().err.count("the model refers to test_autolog_scores") == 2
    assert not _session._warned


def test_warnings_are_one_line(capfd: pytest.CaptureFixture[str]):
    _session.warn_once("made up", "it was not logged", ValueError("broken\nStack trace:\n  [bt] (0) /lib.so"))
    assert capfd.readouterr().err == (
        "mlplat: autologging of made up: it was not logged: ValueError: broken; the training is not affected\n"
    )
    _session._warned.clear()
