"""Scores that are computed after a fit: `model.score(X_test, y_test)`, `accuracy_score(y_test, model.predict(X_test))`.

Invariant: fitted estimators and predictions are known by weak references, so that nothing lives longer for being watched.
"""

from __future__ import annotations

import functools
import sys
import weakref

from . import _session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from ._session import Session

_MAX_KNOWN = 1000


class _Known:
    """Facts about objects that may die at any time, found by identity."""

    def __init__(self) -> None:
        self._facts: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def __reduce__(self) -> Any:
        # A pickle that takes a patch along by value takes nothing of what is known here.
        return (_Known, ())

    def put(self, thing: Any, fact: Any) -> None:
        try:
            reference = weakref.ref(thing)
        except TypeError:
            return
        self._facts.pop(id(thing), None)
        while len(self._facts) >= _MAX_KNOWN:
            self._facts.pop(next(iter(self._facts)), None)
        self._facts[id(thing)] = (reference, fact)

    def get(self, thing: Any) -> Any:
        found = self._facts.get(id(thing))
        return found[1] if found is not None and found[0]() is thing else None


_models = _Known()
_predictions = _Known()


def remember_model(estimator: Any, session: Session) -> None:
    """What is scored of this estimator from now on belongs to the run of the session."""
    _models.put(estimator, session)
    best = getattr(estimator, "best_estimator_", None)
    if best is not None:
        _models.put(best, session)


def known_prediction(estimator: Any, result: Any, data: Any, frame: FrameType) -> None:
    """This result is a prediction, so that its scores are those of the estimator."""
    session = _models.get(estimator)
    if session is not None:
        _predictions.put(result, (session, _name_of(data, frame)))


def _name_of(data: Any, frame: FrameType) -> str:
    """The variable that the caller has the data in; empty where there is none."""
    for variables in (frame.f_locals, frame.f_globals):
        for name, value in list(variables.items()):
            if value is data:
                return name
    return ""


def scored(original: Callable[..., Any]) -> Callable[..., Any]:
    """The `score` of an estimator, logged as `score_<variable of the data>`."""

    @functools.wraps(original)
    def score(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = _models.get(self) if _session.current() is None else None
        if session is None or _session.options("sklearn") is None:
            return original(self, *args, **kwargs)
        # What it computes inside is not logged once more.
        result = _session.quietly(lambda: original(self, *args, **kwargs))
        data = args[0] if args else kwargs.get("X")
        _log(session, "score", _name_of(data, sys._getframe(1)), result)
        return result

    return score


def watched_metric(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `sklearn.metrics`, logged where one of its arguments is a known prediction."""

    @functools.wraps(original)
    def metric(*args: Any, **kwargs: Any) -> Any:
        if _session.current() is not None or _session.options("sklearn") is None:
            return original(*args, **kwargs)
        result = _session.quietly(lambda: original(*args, **kwargs))
        for argument in (*args, *kwargs.values()):
            # A column of the probabilities is a view of them.
            known = _predictions.get(argument) or _predictions.get(getattr(argument, "base", None))
            if known is not None:
                _log(known[0], original.__name__, known[1], result)
                break
        return result

    return metric


def _log(session: Session, name: str, data: str, result: Any) -> None:
    session.log_metrics({f"{name}_{data}" if data else name: result}, session.number)
