"""Autologging of lightgbm: `train`, `cv` and the estimators, by a callback of lightgbm's own."""

from __future__ import annotations

from . import _datasets, _models
from ._boosting import Library, log_importance
from ._boosting import install as install_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._session import Session


def install(module: str) -> None:
    """Patches lightgbm, which has been imported."""
    install_library(
        Library(
            name=module,
            engine="lightgbm.engine",
            estimator="LGBMModel",
            make_callback=_Callback,
            booster_of=lambda estimator: estimator.booster_,
            log_facts=_log_facts,
            # A data set that has been used already may have let go of its data.
            rows_of=lambda data: _models.first_rows(data.data),
            predict=lambda booster, rows: booster.predict(rows),
            describe=_describe,
        )
    )


def _describe(data: Any) -> dict[str, Any] | None:
    if data.data is not None:
        return _datasets.described(data.data, data.label)
    # It has been used already, and has let go of its data.
    return _datasets.without_digest([(name, "") for name in data.get_feature_name()], data.num_data())


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


def _log_facts(session: Session, booster: Any) -> None:
    facts: dict[str, object] = {}
    if booster.best_iteration > 0:
        facts["best_iteration"] = booster.best_iteration
    for data, scores in (booster.best_score or {}).items():
        facts.update({f"best_{data}-{name}": score for name, score in scores.items()})
    session.log_metrics(facts)
    names = booster.feature_name()
    log_importance(
        session,
        ("split", "gain"),
        lambda kind: dict(zip(names, booster.feature_importance(kind), strict=True)),
    )
