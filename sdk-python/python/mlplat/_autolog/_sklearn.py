"""Autologging of scikit-learn: fits become runs, searches become runs with a nested run per candidate.

Invariant: the methods of every class under `BaseEstimator` are wrapped, of those defined later too; an estimator inside
of another one, a fold of a cross-validation or a worker thread of joblib is part of what is around it.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys

from . import _patches, _session
from ._sklearn_scores import known_prediction, remember_model, scored
from ._sklearn_training import is_search, log_fitted, log_unfitted
from ._threads import Inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAME = "sklearn"
_FITS = ("fit", "fit_predict", "fit_transform")
_USES = ("predict", "predict_proba", "decision_function")
# Have integrations of their own.
_OTHERS = ("xgboost", "lightgbm")
_OURS = "_mlplat_autolog"
# Module -> functions whose fits and scores are of no interest. The private ones are where a call arrives, however the
# public ones were imported.
_QUIET = {
    "sklearn.model_selection._validation": (
        "_fit_and_score",
        "_fit_and_predict",
        "_permutation_test_score",
        "_incremental_fit_estimator",
    ),
    "sklearn.inspection._permutation_importance": ("_weights_scorer",),
}
# Every check of `check_estimator` fits, many times.
_CHECKS = "sklearn.utils.estimator_checks"


def install(module: str) -> None:
    """Patches what this module has brought."""
    if module == "sklearn.base":
        _install_base()
    elif module == "joblib.parallel":
        _install_joblib()
    elif module == "sklearn.metrics":
        _install_metrics()


def _install_base() -> None:
    from sklearn.base import BaseEstimator

    pending: list[type] = [BaseEstimator]
    seen: set[type] = set()
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending.extend(type.__subclasses__(one))
            _wrap_class(one)

    def __init_subclass__(cls: type, **arguments: Any) -> None:
        super(BaseEstimator, cls).__init_subclass__(**arguments)  # pyright: ignore[reportArgumentType]
        if _session.options(_NAME) is not None:
            try:
                _wrap_class(cls)
            except Exception as error:
                _session.warn_once(_NAME, "an estimator class could not be watched", error)

    if "__init_subclass__" not in vars(BaseEstimator):
        _patches.replace(_NAME, BaseEstimator, "__init_subclass__", classmethod(__init_subclass__))
    for name in _QUIET:
        _patches.when_imported(_NAME, name, _install_quiet)
    _patches.when_imported(_NAME, "sklearn.model_selection._search", _install_search)
    _patches.when_imported(_NAME, _CHECKS, _install_quiet)


def _wrap_class(estimator: type) -> None:
    for base in estimator.__mro__:
        # Libraries with integrations of their own log their fits themselves; what comes after is the same.
        fits = () if base.__module__.partition(".")[0] in _OTHERS else _FITS
        for name in (*fits, *_USES, "score"):
            if base is not object and name in vars(base):
                _wrap_method(base, name)


def _wrap_method(owner: type, name: str) -> None:
    found = vars(owner)[name]
    make = _logged_fit if name in _FITS else scored if name == "score" else _watched_use
    if inspect.isfunction(found):
        if not hasattr(found, _OURS):
            _patches.replace(_NAME, owner, name, _marked(make(found)))
        return
    # A method that is there only under a condition: sklearn.utils.metaestimators.available_if.
    inner = getattr(found, "fn", None)
    if inspect.isfunction(inner) and not hasattr(inner, _OURS):
        wrapped = copy.copy(found)
        wrapped.fn = _marked(make(inner))
        _patches.note(wrapped.fn)
        _patches.replace(_NAME, owner, name, wrapped)


def _marked(function: Callable[..., Any]) -> Callable[..., Any]:
    setattr(function, _OURS, True)
    return function


def _logged_fit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def logged(self: Any, *args: Any, **kwargs: Any) -> Any:
        def train() -> Any:
            return original(self, *args, **kwargs)

        if _session.options(_NAME) is None or _session.current() is not None:
            return train()
        if not _is_model(self):
            # A scaler is no training, and the models inside of a selector are not what is trained.
            return _session.quietly(train)

        def after(session: _session.Session, _result: object) -> None:
            remember_model(self, session)
            log_fitted(session, self, original, args, kwargs)

        return _session.run_logged(
            _NAME,
            type(self).__name__,
            train,
            estimator=self,
            before=lambda session: log_unfitted(session, self, original, args, kwargs),
            after=after,
        )

    return logged


def _is_model(estimator: Any) -> bool:
    """Whether it can predict, be it only after the fit, or is a search, which may keep none that can."""
    try:
        if hasattr(estimator, "predict") or hasattr(estimator, "fit_predict") or is_search(estimator):
            return True
        # Methods that are there under a condition, which before the fit may be about what comes with it. Of a selector or
        # a pipeline of transformers it is not to be met at all, and they are no classifiers either.
        from sklearn.base import is_classifier, is_regressor

        return hasattr(type(estimator), "predict") and (is_classifier(estimator) or is_regressor(estimator))
    except Exception:
        return False


def _watched_use(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if _session.current() is None and _session.options(_NAME) is not None:
            data = args[0] if args else kwargs.get("X")
            known_prediction(self, result, data, sys._getframe(1))
        return result

    return watched


def _install_quiet(module: str) -> None:
    """Functions that train or score for a purpose of their own: the folds of `cross_val_score` and its like."""
    owner = sys.modules[module]
    checks = [name for name in vars(owner) if name.startswith("check_")] if module == _CHECKS else []
    for name in _QUIET.get(module, checks):
        found = getattr(owner, name, None)
        if inspect.isfunction(found) and found.__module__ == module:
            _patches.replace(_NAME, owner, name, _session.quiet(_NAME, found))


def _install_search(module: str) -> None:
    """It has a name of its own for a function that is quiet: both are the same, or processes could not be sent it."""
    owner, name = sys.modules[module], "_fit_and_score"
    quiet = getattr(sys.modules["sklearn.model_selection._validation"], name, None)
    original = _patches.original_of(quiet)
    if original is not None and vars(owner).get(name) in (original, quiet):
        # Whichever it has got, it gets the original back.
        setattr(owner, name, original)
        _patches.replace(_NAME, owner, name, quiet)


def _install_joblib() -> None:
    """Worker threads belong to the session of the thread that hands them their work; worker processes log nothing."""
    from joblib.parallel import Parallel

    call = Parallel.__call__

    @functools.wraps(call)
    def __call__(self: Any, iterable: Any) -> Any:
        session = _session.current()
        if session is None or _session.options(_NAME) is None:
            return call(self, iterable)
        return call(self, ((Inside(session, task[0]), *task[1:]) for task in iterable))

    _patches.replace(_NAME, Parallel, "__call__", __call__)


def _install_metrics() -> None:
    from ._sklearn_scores import watched_metric

    owner = sys.modules["sklearn.metrics"]
    for name in getattr(owner, "__all__", ()):
        found = getattr(owner, name, None)
        if inspect.isfunction(found) and name.endswith(("_score", "_loss", "_error", "_deviance")):
            metric = watched_metric(found)
            # Pickles find it by this name; in the module that it is from, the name is that of the original.
            metric.__module__ = owner.__name__
            _patches.replace(_NAME, owner, name, metric)
