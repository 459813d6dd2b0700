"""Programs train the same with and without autologging, whatever draws random numbers."""

from __future__ import annotations

import random
from typing import Any

import mlplat
import numpy as np
import xgboost
from autolog_runs import RX, X, runs, ry, y
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class Guesses(RegressorMixin, BaseEstimator):
    """Draws in `predict`, from everything that there is."""

    def __init__(self, generator: Any = None) -> None:
        self.generator = generator

    def fit(self, X: Any, y: Any) -> Guesses:
        self.shift_ = np.random.normal() + random.random() + self.generator.normal()
        return self

    def predict(self, X: Any) -> Any:
        return self.shift_ + np.random.normal(size=len(X)) + random.random() + self.generator.normal()


def program() -> list[Any]:
    """What comes of fits one after another."""
    random.seed(1)
    np.random.seed(2)
    state, generator = np.random.RandomState(3), np.random.default_rng(4)
    found: list[Any] = []
    for _ in range(2):
        found += [Guesses(state).fit(RX, ry).shift_, Guesses(generator).fit(RX, ry).shift_]
        DummyClassifier(strategy="stratified", random_state=state).fit(X, y)
        found.append(RandomForestClassifier(3).fit(X, y).predict_proba(X).sum())
        found.append(
            xgboost.XGBClassifier(n_estimators=2, subsample=0.5, random_state=state)
            .fit(X, y)
            .predict_proba(X)
            .sum()
        )
        make_pipeline(StandardScaler(), Guesses(state)).fit(RX, ry)
        found += [random.random(), np.random.normal(), state.normal(), generator.normal()]
    return found


def test_trainings_are_the_same_with_and_without(project: str):
    without = program()
    mlplat.autolog()
    try:
        assert program() == without
    finally:
        mlplat.autolog(disable=True)
    assert len(runs()) == 12
    assert program() == without
