"""What xgboost and lightgbm have in common: a function `train` that takes callbacks, and estimators that call it."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import sys
from dataclasses import dataclass

from . import _datasets, _models, _patches, _session
from ._session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

# Too large, or no params.
_NO_PARAMS = {"params", "callbacks", "evals_result"}
_PLAIN = (bool, int, float, str, list, tuple, dict)


@dataclass(frozen=True)
class Library:
    """What differs between them."""

    name: str
    """Of the package, and of its integration."""
    engine: str
    """The module of `train` and `cv`."""
    estimator: str
    """The class in its module `sklearn` that all estimators come from."""
    make_callback: Callable[[Session], Any]
    booster_of: Callable[[Any], Any]
    """The booster of a trained estimator."""
    log_facts: Callable[[Session, Any], None]
    """Logs what is to be known of a trained booster."""
    rows_of: Callable[[Any], Any]
    """The first rows of what `train` is given, as a user would give them; None where they cannot be had."""
    predict: Callable[[Any, Any], Any]
    """What a booster says to such rows."""
    describe: Callable[[Any], dict[str, Any] | None]
    """What `train` is given, as an input of the run."""

    def log_booster(self, session: Session, booster: Any, rows: Any) -> None:
        """What `train` made."""
        self.log_facts(session, booster)
        _models.log_model(session, booster, rows, self._signature(booster, rows))

    def log_estimator(self, session: Session, estimator: Any, data: Any) -> None:
        """An estimator after its `fit`."""
        self.log_facts(session, self.booster_of(estimator))
        _models.log_model(session, estimator, data)

    def first_rows(self, data: Any) -> Any:
        """Some rows of what `train` is given, before it may let go of them."""
        with contextlib.suppress(Exception):
            rows = self.rows_of(data)
            # Not a view, which would keep all of the data.
            return rows.copy() if hasattr(rows, "copy") else copy.copy(rows)
        return None

    def _signature(self, booster: Any, rows: Any) -> Any:
        from .._model_files._signature import infer_signature

        if rows is None:
            return None
        said: Any = None
        with contextlib.suppress(Exception):
            said = self.predict(booster, rows)
        with contextlib.suppress(Exception):
            return infer_signature(rows, said)
        return None


def install(library: Library) -> None:
    """Patches a library that has been imported."""
    name = library.name
    root, engine = sys.modules[name], sys.modules[library.engine]
    estimators = sys.modules.get(f"{name}.sklearn")
    for function in ("train", "cv"):
        original = getattr(engine, function)
        wrapped = _logged_train(library, original)
        for owner in (engine, root, estimators):
            if owner is not None and vars(owner).get(function) is original:
                _patches.replace(name, owner, function, wrapped)
    estimator = getattr(estimators, library.estimator, None)
    for kind in _subclasses(estimator) if estimator is not None else ():
        fit = vars(kind).get("fit")
        if inspect.isfunction(fit):
            _patches.replace(name, kind, "fit", _logged_fit(library, fit))


def _logged_train(library: Library, original: Callable[..., Any]) -> Callable[..., Any]:
    """`train(params, data, …)`, with the callback, in a session of its own or in that of the estimator around it."""
    integration, make_callback = library.name, library.make_callback
    signature = inspect.signature(original)
    makes_model = original.__name__ == "train"

    @functools.wraps(original)
    def train(*args: Any, **kwargs: Any) -> Any:
        if _session.options(integration) is None:
            return original(*args, **kwargs)
        outer = _session.current()
        if isinstance(outer, Session) and outer.integration == integration and outer.takes_callback:
            outer.takes_callback = False
            return _with_callback(signature, original, make_callback, outer, args, kwargs)
        if outer is not None:
            return original(*args, **kwargs)
        rows: Any = None

        def before(session: Session) -> None:
            nonlocal rows
            arguments = signature.bind_partial(*args, **kwargs).arguments
            session.log_params(_params(arguments))
            data = _data(arguments)
            _datasets.log(session, lambda: library.describe(data))
            _datasets.log_evals(session, library.describe, _evals(arguments, data))
            if makes_model and session.options.log_models:
                rows = library.first_rows(data)

        def work() -> Any:
            session = _session.current()
            if not isinstance(session, Session) or session.run is None:
                return original(*args, **kwargs)
            return _with_callback(signature, original, make_callback, session, args, kwargs)

        def after(session: Session, result: Any) -> None:
            if makes_model:
                library.log_booster(session, result, rows)

        return _session.run_logged(
            integration, f"{integration}.{original.__name__}", work, before=before, after=after
        )

    return train


def _data(arguments: Mapping[str, Any]) -> Any:
    """What it trains on."""
    return arguments.get("dtrain", arguments.get("train_set"))


def _evals(arguments: Mapping[str, Any], trained_on: Any) -> list[tuple[str, Any]]:
    """What `train` evaluates, by name, without what it trains on."""
    found = [(str(name), data) for data, name in arguments.get("evals") or ()]
    sets, names = arguments.get("valid_sets") or (), arguments.get("valid_names") or ()
    sets = sets if isinstance(sets, (list, tuple)) else [sets]
    names = [names] if isinstance(names, str) else list(names)
    found += [(names[at] if at < len(names) else f"valid_{at}", data) for at, data in enumerate(sets)]
    return [(name, data) for name, data in found if data is not trained_on]


def _with_callback(
    signature: inspect.Signature,
    original: Callable[..., Any],
    make_callback: Callable[[Session], Any],
    session: Session,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    def add() -> None:
        nonlocal args, kwargs
        bound = signature.bind(*args, **kwargs)
        # First, for early stopping ends the round for those after it.
        bound.arguments["callbacks"] = [make_callback(session), *(bound.arguments.get("callbacks") or ())]
        args, kwargs = bound.args, bound.kwargs

    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return original(*args, **kwargs)  # its own error is the better one
    session.safely("the iterations were not logged", add)
    return original(*args, **kwargs)


def _params(arguments: Mapping[str, Any]) -> dict[str, object]:
    """The params of the library, and those of `train` itself that are plain values."""
    found = dict(arguments.get("params") or {})
    for name, value in arguments.items():
        if name not in _NO_PARAMS and isinstance(value, _PLAIN) and not _holds_data(value):
            found[name] = value
    return found


def _holds_data(value: object) -> bool:
    """Whether it is a list of data sets rather than of numbers and texts."""
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (list, tuple)) and not all(isinstance(item, (int, float, str)) for item in value)


def _logged_fit(library: Library, original: Callable[..., Any]) -> Callable[..., Any]:
    """The `fit` of an estimator, which calls `train` once inside."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        def before(session: Session) -> None:
            session.takes_callback = session.run is not None
            session.name_estimator(self)
            params = self.get_params()
            session.log_params({name: value for name, value in params.items() if value is not None})
            _log_data_of_fit(library, session, signature.bind_partial(self, *args, **kwargs).arguments)

        def after(session: Session, _result: object) -> None:
            from ._sklearn_scores import remember_model

            remember_model(self, session)
            arguments = signature.bind_partial(self, *args, **kwargs).arguments
            library.log_estimator(session, self, arguments.get("X"))

        return _session.run_logged(
            library.name,
            type(self).__name__,
            lambda: original(self, *args, **kwargs),
            estimator=self,
            before=before,
            after=after,
        )

    return fit


def _log_data_of_fit(library: Library, session: Session, given: Mapping[str, Any]) -> None:
    """What an estimator is fitted to, and what it is evaluated on, under the names that its metrics have."""

    def describe(pair: tuple[Any, Any]) -> dict[str, Any] | None:
        return _datasets.described(*pair)

    data, target = given.get("X"), given.get("y")
    _datasets.log(session, lambda: describe((data, target)))
    sets = given.get("eval_set") or ()
    sets = [sets] if isinstance(sets, tuple) and sets and not isinstance(sets[0], tuple) else list(sets)
    sets += _datasets.pairs(given.get("eval_X"), given.get("eval_y"))
    kind = "valid" if library.name == "lightgbm" else "validation"
    names = given.get("eval_names") or [f"{kind}_{at}" for at in range(len(sets))]
    found = [(str(name), pair) for name, pair in zip(names, sets, strict=False) if pair[0] is not data]
    _datasets.log_evals(session, describe, found)


def _subclasses(root: type) -> list[type]:
    """A class and all below it."""
    found = [root]
    for one in found:
        found.extend(below for below in type.__subclasses__(one) if below not in found)
    return found


def log_importance(
    session: Session, kinds: Sequence[str], importance_of: Callable[[str], Mapping[str, object]]
) -> None:
    """How much each feature counts, greatest first, as one file for each kind of counting."""

    def log(kind: str) -> None:
        ordered = sorted(_session.numbers(importance_of(kind)).items(), key=lambda item: -item[1])
        _models.log_json(session, f"feature_importance_{kind}.json", dict(ordered))

    for kind in kinds:
        session.safely("the importance of features was not logged", lambda kind=kind: log(kind))
