"""Autologging of lightgbm: `train`, `cv` and the estimators, by a callback of lightgbm's own."""

from __future__ import annotations

import inspect
import sys

from . import _models, _patches
from ._boosting import log_importance, logged_fit, logged_train, subclasses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._session import Session

_NAME = "lightgbm"


def install(module: str) -> None:
    """Patches lightgbm, which has been imported."""
    root = sys.modules[module]
    engine = sys.modules["lightgbm.engine"]
    for name, after in (("train", _log_booster), ("cv", lambda session, result: None)):
        original = getattr(engine, name)
        wrapped = logged_train(_NAME, original, _Callback, after)
        for owner in (engine, root, sys.modules.get("lightgbm.sklearn")):
            if owner is not None and vars(owner).get(name) is original:
                _patches.replace(_NAME, owner, name, wrapped)
    estimator = getattr(sys.modules.get("lightgbm.sklearn"), "LGBMModel", None)
    for kind in subclasses(estimator) if estimator is not None else ():
        fit = vars(kind).get("fit")
        if inspect.isfunction(fit):
            _patches.replace(_NAME, kind, "fit", logged_fit(_NAME, fit, _log_estimator))


class _Callback:
    """Logs what is evaluated, iteration by iteration."""

    # Before early stopping, which ends the iteration by an exception.
    order = 1
    before_iteration = False

    def __init__(self, session: Session) -> None:
        self.session = session

    def __call__(self, env: Any) -> None:
        self.session.safely("an iteration was not logged", lambda: self._log(env))

    def _log(self, env: Any) -> None:
        if env.iteration == env.begin_iteration > 0:
            # With `init_model` the iterations are counted on from those of that model.
            self.session.begin_at(env.begin_iteration)
        metrics: dict[str, object] = {}
        for entry in env.evaluation_result_list or ():
            key = f"{entry[0]}-{entry[1]}"
            metrics[key] = entry[2]
            if len(entry) > 4:
                # A cross-validation has a deviation too.
                metrics[f"{key}-std"] = entry[4]
        self.session.log_step(metrics, env.iteration)


def _log_estimator(session: Session, estimator: Any) -> None:
    _log_facts(session, estimator.booster_)
    _models.log_model(session, estimator)


def _log_booster(session: Session, booster: Any) -> None:
    _log_facts(session, booster)
    _models.log_model(session, booster)


def _log_facts(session: Session, booster: Any) -> None:
    facts: dict[str, object] = {}
    if booster.best_iteration > 0:
        facts["best_iteration"] = booster.best_iteration
    for data, scores in (booster.best_score or {}).items():
        facts.update({f"best_{data}-{name}": score for name, score in scores.items()})
    session.log_metrics(facts)
    names = booster.feature_name()
    for kind in ("split", "gain"):
        session.safely(
            "the importance of features was not logged",
            lambda kind=kind: log_importance(
                session, kind, dict(zip(names, booster.feature_importance(kind), strict=True))
            ),
        )
