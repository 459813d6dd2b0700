"""Autologging of xgboost: `train`, `cv` and the estimators, by a callback of xgboost's own."""

from __future__ import annotations

import contextlib
import json
import sys

from . import _datasets, _models
from ._boosting import Library, log_importance
from ._boosting import install as install_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._session import Session

_MOST_VALUES = 1_000_000


def install(module: str) -> None:
    """Patches xgboost, which has been imported."""
    install_library(
        Library(
            name=module,
            engine="xgboost.training",
            estimator="XGBModel",
            make_callback=_callback,
            booster_of=lambda estimator: estimator.get_booster(),
            log_facts=_log_facts,
            rows_of=_first_rows,
            predict=lambda booster, rows: booster.predict(sys.modules[module].DMatrix(rows)),
            describe=_describe,
        )
    )


def _first_rows(data: Any) -> Any:
    """The first rows of a `DMatrix`, which holds them as float32: a table where the features have names, else an array."""
    import numpy

    if "c" in (data.feature_types or ()):
        return None  # what the codes of its categories mean is not known
    size = min(_models.EXAMPLE_ROWS, data.num_row())
    try:
        # Of a ranking, whose groups the cut may divide; they are not looked at.
        held = data.slice(list(range(size)), allow_groups=True).get_data()
    except ValueError:
        # It is cut into quantiles already, and cannot be divided.
        if data.num_nonmissing() > _MOST_VALUES:
            return None
        held = data.get_data()[:size]
    held = held.tocoo()
    # What it does not hold is missing.
    rows = numpy.full(held.shape, numpy.nan, dtype=numpy.float32)
    rows[held.row, held.col] = held.data
    names = data.feature_names
    pandas = sys.modules.get("pandas")
    return rows if names is None or pandas is None else pandas.DataFrame(rows, columns=list(names))


def _describe(data: Any) -> dict[str, Any]:
    """By what the matrix holds; where it cannot be cut and is large, or lies in files, without a digest."""
    rows = data.num_row()
    size = data.num_nonmissing() * 8
    found: dict[str, Any] | None = None
    with contextlib.suppress(ValueError):
        if size <= _datasets.MOST and "ExtMem" not in type(data).__name__:
            found = _datasets.described(data.get_data(), data.get_label())
        elif type(data).__name__ == "DMatrix":
            part = data.slice(_datasets.spread(rows, size), allow_groups=True)
            found = _datasets.described(part.get_data(), part.get_label())
            found = found and _datasets.sampled(found, rows)
    names = data.feature_names
    kinds = data.feature_types or ["float"] * len(names or ())
    fields = list(zip(names, kinds, strict=True)) if names else [("values", f"float32[{data.num_col()}]")]
    if found is None:
        return _datasets.without_digest(fields, rows)
    return {**found, "fields": [*fields, *found["fields"][1:]]}


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


def _log_facts(session: Session, booster: Any) -> None:
    facts: dict[str, Any] = {}
    for name in ("best_iteration", "best_score"):
        try:
            facts[name] = getattr(booster, name)
        except AttributeError:
            continue  # known after early stopping only
    session.log_metrics(facts)
    # Linear ones have weights alone.
    kinds = ("weight",) if _is_linear(booster) else ("weight", "gain")
    log_importance(session, kinds, lambda kind: booster.get_score(importance_type=kind))


def _is_linear(booster: Any) -> bool:
    with contextlib.suppress(Exception):
        return json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear"
    return False
