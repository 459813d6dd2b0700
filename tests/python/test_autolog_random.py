"""Programs train the same with and without autologging, whatever draws random numbers."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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


def test_threads_that_wait_change_nothing(project: str):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        test_trainings_are_the_same_with_and_without(project)


class Slow(Guesses):
    """Gives other threads the time to draw while it predicts."""

    def fit(self, X: Any, y: Any) -> Slow:
        self.drawn_ = [random.random(), np.random.random()]
        return self

    def predict(self, X: Any) -> Any:
        time.sleep(0.02)
        random.random()
        return np.random.random(size=len(X))


def test_threads_that_draw_get_no_number_twice(logged: str):
    drawn: list[float] = []
    over = threading.Event()

    def draw() -> None:
        while not over.wait(0.001):
            drawn.extend((random.random(), np.random.random()))

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(3):
            Slow().fit(RX, ry)
    finally:
        over.set()
        thread.join()
    assert len(drawn) > 40
    assert len(set(drawn)) == len(drawn)


def test_trainings_side_by_side_get_no_number_twice(logged: str):
    with ThreadPoolExecutor(3) as pool:
        fits = [pool.submit(Slow().fit, RX, ry) for _ in range(18)]
    drawn = [number for fit in fits for number in fit.result().drawn_]
    assert len(set(drawn)) == len(drawn)


def test_generators_of_ones_own_stay_as_they_were_in_threads_too(project: str):
    def draws(seed: int) -> float:
        state = np.random.RandomState(seed)
        for _ in range(3):
            Guesses(state).fit(RX, ry)
        return state.normal()

    without = [draws(seed) for seed in range(4)]
    mlplat.autolog()
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(draws, range(4))) == without
    finally:
        mlplat.autolog(disable=True)
