"""What is logged of the fit of a scikit-learn estimator."""

from __future__ import annotations

import contextlib
import csv
import inspect
import os
import time
import warnings

from .._keys import metric_key
from . import _datasets, _models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._session import Session

# What estimators without a target tell of their fit.
_ATTRIBUTES = ("inertia_", "n_iter_", "lower_bound_", "reconstruction_err_", "oob_score_")
# Scoring is to cost little beside the fit: so many rows are predicted, and again only where it took neither long nor a
# good part of the time of the fit.
_MAX_ROWS = 10_000
_LONG_SECONDS = 1.0
_LONG_PART = 0.1


def log_unfitted(
    session: Session, estimator: Any, fit: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Params, labels and data sets, before the fit."""
    session.name_estimator(estimator)
    # The params of the estimator in a search are those of its candidates.
    session.log_params(estimator.get_params(deep=not is_search(estimator)))
    given = _arguments(fit, estimator, args, kwargs)
    _datasets.log(session, lambda: _datasets.described(given.get("X"), given.get("y", given.get("Y"))))
    if given.get("X_val") is not None:
        _datasets.log(session, lambda: _datasets.described(given["X_val"], given.get("y_val")), "eval")


def log_fitted(
    session: Session, estimator: Any, fit: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Metrics, candidates and the model, after the fit."""
    attributes = {name.rstrip("_"): getattr(estimator, name, None) for name in _ATTRIBUTES}
    session.log_metrics(attributes, session.number)
    given = _arguments(fit, estimator, args, kwargs)
    if session.options.log_training_metrics:
        session.safely("the training data was not scored", lambda: _score(session, estimator, given))
    if is_search(estimator):
        session.safely("the candidates of a search were not logged", lambda: _log_search(session, estimator))
        estimator = getattr(estimator, "best_estimator_", None)
    if estimator is not None:
        _models.log_model(session, estimator, given.get("X"))


def is_search(estimator: Any) -> bool:
    """Whether it is a search over params, such as `GridSearchCV`."""
    try:
        from sklearn.model_selection._search import BaseSearchCV
    except ImportError:
        return False
    return isinstance(estimator, BaseSearchCV)


def _arguments(
    fit: Callable[..., Any], estimator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    try:
        return dict(inspect.signature(fit).bind_partial(estimator, *args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def _score(session: Session, estimator: Any, given: dict[str, Any]) -> None:
    """How the estimator does on its training data; the names are those that MLflow users know."""
    from sklearn.base import is_classifier, is_regressor

    data, target = given.get("X"), given.get("y")
    if target is None:
        target = given.get("Y")
    if data is None or target is None or not hasattr(estimator, "predict"):
        return
    classifies = is_classifier(estimator)
    if not classifies and not is_regressor(estimator):
        return
    data, target, weight = _bounded(session, data, target, given.get("sample_weight"))
    begun = time.monotonic()
    predicted = estimator.predict(data)
    now = time.monotonic()
    # Where that took long, nothing is predicted a second time.
    again = now - begun <= max(_LONG_SECONDS, _LONG_PART * (begun - session.begun))
    scores = (_classifier_scores if classifies else _regressor_scores)(target, predicted, weight)
    if classifies and again and hasattr(estimator, "predict_proba"):
        chances = estimator.predict_proba(data)
        scores |= _chance_scores(target, chances, getattr(estimator, "classes_", None), weight)
    usual = _usual_score(estimator)
    if usual is not None:
        scores["score"] = lambda: usual(target, predicted)
    elif again and callable(getattr(estimator, "score", None)):
        scores["score"] = lambda: estimator.score(data, target)
    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        # That a score is not defined for this data is no news about the training.
        warnings.simplefilter("ignore")
        for name, score in scores.items():
            with contextlib.suppress(ValueError, TypeError):
                found[f"training_{name}"] = score()
    session.log_metrics(found, session.number)


def _bounded(session: Session, *given: Any) -> tuple[Any, ...]:
    """Data, target and weights as they are, or of many rows some from all over: always the same ones."""
    import numpy
    from sklearn.utils import _safe_indexing
    from sklearn.utils.validation import _num_samples

    # What has no rows that can be cut is scored as it is.
    with contextlib.suppress(Exception):
        rows = _num_samples(given[0])
        if rows > _MAX_ROWS:
            kept = numpy.linspace(0, rows - 1, _MAX_ROWS, dtype=numpy.int64)
            few = tuple(None if one is None else _safe_indexing(one, kept) for one in given)
            session.set_tags({"training_scores": f"of {_MAX_ROWS} of {rows} rows"})
            return few
    return given


def _usual_score(estimator: Any) -> Callable[[Any, Any], Any] | None:
    """What its `score` makes of a target and its predictions, where it is the one that estimators usually have."""
    from sklearn import metrics
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.pipeline import Pipeline

    while type(estimator) is Pipeline:
        estimator = estimator.steps[-1][1]
    owner: Any = next((kind for kind in type(estimator).__mro__ if "score" in vars(kind)), None)
    # Nearest neighbours have one of their own only to predict what they were fitted to without being given it.
    if owner is ClassifierMixin or getattr(owner, "__module__", "") == "sklearn.neighbors._classification":
        return metrics.accuracy_score
    return metrics.r2_score if owner is RegressorMixin else None


def _classifier_scores(target: Any, predicted: Any, weight: Any) -> dict[str, Callable[[], Any]]:
    from sklearn import metrics

    weighted: Any = {"sample_weight": weight}
    average: Any = {"average": "weighted", "zero_division": 0, **weighted}
    return {
        "accuracy_score": lambda: metrics.accuracy_score(target, predicted, **weighted),
        "precision_score": lambda: metrics.precision_score(target, predicted, **average),
        "recall_score": lambda: metrics.recall_score(target, predicted, **average),
        "f1_score": lambda: metrics.f1_score(target, predicted, **average),
    }


def _chance_scores(target: Any, chances: Any, classes: Any, weight: Any) -> dict[str, Callable[[], Any]]:
    """By the probabilities of classes."""
    from sklearn import metrics

    if isinstance(chances, list):
        return {}  # several targets
    labels: Any = {"labels": classes, "sample_weight": weight}
    positive = chances[:, 1] if chances.shape[1] == 2 else chances
    several: Any = {"average": "weighted", "multi_class": "ovo"}
    return {
        "log_loss": lambda: metrics.log_loss(target, chances, **labels),
        "roc_auc": lambda: metrics.roc_auc_score(target, positive, **several, **labels),
    }


def _regressor_scores(target: Any, predicted: Any, weight: Any) -> dict[str, Callable[[], Any]]:
    from sklearn import metrics

    weighted: Any = {"sample_weight": weight}
    return {
        "mean_squared_error": lambda: metrics.mean_squared_error(target, predicted, **weighted),
        "root_mean_squared_error": lambda: metrics.mean_squared_error(target, predicted, **weighted) ** 0.5,
        "mean_absolute_error": lambda: metrics.mean_absolute_error(target, predicted, **weighted),
        "r2_score": lambda: metrics.r2_score(target, predicted, **weighted),
    }


def _log_search(session: Session, search: Any) -> None:
    best = getattr(search, "best_params_", None)
    if best is not None:
        session.log_params({f"best_{name}": value for name, value in best.items()})
    session.log_metrics({"best_cv_score": getattr(search, "best_score_", None)}, session.number)
    results = search.cv_results_
    _models.log_files(
        session, "", lambda folder: _write_table(os.path.join(folder, "cv_results.csv"), results)
    )
    _log_candidates(session, results)


def _write_table(path: str, columns: dict[str, Any]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _log_candidates(session: Session, results: dict[str, Any]) -> None:
    """A finished run per candidate, nested in that of the search, best first."""
    run = session.run
    ranks = next((results[name] for name in results if name.startswith("rank_test_")), None)
    if run is None or ranks is None:
        return
    from ._session import numbers, short_text

    order = sorted(range(len(ranks)), key=lambda at: ranks[at])
    for at in order[: session.options.max_tuning_runs]:
        with session.nested_run(run, f"candidate {at}") as child:
            child.log_params({key: short_text(value) for key, value in results["params"][at].items()})
            row = {name: column[at] for name, column in results.items() if not name.startswith("param")}
            child.log_metrics({metric_key(key): number for key, number in numbers(row).items()}, 0)
