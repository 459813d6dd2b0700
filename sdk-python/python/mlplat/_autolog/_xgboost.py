"""Autologging of xgboost: `train`, `cv` and the estimators, by a callback of xgboost's own."""

from __future__ import annotations

import inspect
import sys

from . import _models, _patches
from ._boosting import log_importance, logged_fit, logged_train, subclasses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._session import Session

_NAME = "xgboost"


def install(module: str) -> None:
    """Patches xgboost, which has been imported."""
    root = sys.modules[module]
    training = sys.modules["xgboost.training"]
    for name, after in (("train", _log_booster), ("cv", lambda session, result: None)):
        original = getattr(training, name)
        wrapped = logged_train(_NAME, original, _callback, after)
        for owner in (training, root, sys.modules.get("xgboost.sklearn")):
            if owner is not None and vars(owner).get(name) is original:
                _patches.replace(_NAME, owner, name, wrapped)
    estimator = getattr(sys.modules.get("xgboost.sklearn"), "XGBModel", None)
    for kind in subclasses(estimator) if estimator is not None else ():
        fit = vars(kind).get("fit")
        if inspect.isfunction(fit):
            _patches.replace(_NAME, kind, "fit", logged_fit(_NAME, fit, _log_estimator))


def _callback(session: Session) -> Any:
    from xgboost.callback import TrainingCallback

    class Callback(TrainingCallback):  # type: ignore[misc]  # xgboost may have no types
        """Logs what is evaluated, iteration by iteration."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            session.safely("an iteration was not logged", lambda: _log_iteration(session, epoch, evals_log))
            return False

    return Callback()


def _log_iteration(session: Session, epoch: int, evals_log: Any) -> None:
    metrics: dict[str, object] = {}
    for data, histories in evals_log.items():
        for name, history in histories.items():
            last = history[-1]
            # A cross-validation has mean and deviation.
            metrics[f"{data}-{name}"] = last[0] if isinstance(last, tuple) else last
            if isinstance(last, tuple):
                metrics[f"{data}-{name}-std"] = last[1]
    session.log_step(metrics, epoch)


def _log_estimator(session: Session, estimator: Any) -> None:
    _log_facts(session, estimator.get_booster())
    _models.log_model(session, estimator)


def _log_booster(session: Session, booster: Any) -> None:
    _log_facts(session, booster)
    _models.log_model(session, booster)


def _log_facts(session: Session, booster: Any) -> None:
    facts: dict[str, Any] = {}
    for name in ("best_iteration", "best_score"):
        try:
            facts[name] = getattr(booster, name)
        except AttributeError:
            continue  # known after early stopping only
    session.log_metrics(facts)
    for kind in ("weight", "gain"):
        session.safely(
            "the importance of features was not logged",
            lambda kind=kind: log_importance(session, kind, booster.get_score(importance_type=kind)),
        )
