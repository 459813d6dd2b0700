"""What xgboost and lightgbm have in common: a function `train` that takes callbacks, and estimators that call it."""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import dataclass

from . import _models, _patches, _session
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

    def log_booster(self, session: Session, booster: Any) -> None:
        """What `train` made."""
        self.log_facts(session, booster)
        _models.log_model(session, booster)

    def log_estimator(self, session: Session, estimator: Any) -> None:
        """An estimator after its `fit`."""
        self.log_facts(session, self.booster_of(estimator))
        _models.log_model(session, estimator)


def install(library: Library) -> None:
    """Patches a library that has been imported."""
    name = library.name
    root, engine = sys.modules[name], sys.modules[library.engine]
    estimators = sys.modules.get(f"{name}.sklearn")
    for function, after in (("train", library.log_booster), ("cv", lambda session, result: None)):
        original = getattr(engine, function)
        wrapped = _logged_train(name, original, library.make_callback, after)
        for owner in (engine, root, estimators):
            if owner is not None and vars(owner).get(function) is original:
                _patches.replace(name, owner, function, wrapped)
    estimator = getattr(estimators, library.estimator, None)
    for kind in _subclasses(estimator) if estimator is not None else ():
        fit = vars(kind).get("fit")
        if inspect.isfunction(fit):
            _patches.replace(name, kind, "fit", _logged_fit(name, fit, library.log_estimator))


def _logged_train(
    integration: str,
    original: Callable[..., Any],
    make_callback: Callable[[Session], Any],
    after: Callable[[Session, Any], None],
) -> Callable[..., Any]:
    """`train(params, data, …)`, with the callback, in a session of its own or in that of the estimator around it."""
    signature = inspect.signature(original)

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

        def work() -> Any:
            session = _session.current()
            if not isinstance(session, Session) or session.run is None:
                return original(*args, **kwargs)
            return _with_callback(signature, original, make_callback, session, args, kwargs)

        return _session.run_logged(
            integration,
            f"{integration}.{original.__name__}",
            work,
            before=lambda session: session.log_params(
                _params(signature.bind_partial(*args, **kwargs).arguments)
            ),
            after=after,
        )

    return train


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


def _logged_fit(
    integration: str, original: Callable[..., Any], after: Callable[[Session, Any], None]
) -> Callable[..., Any]:
    """The `fit` of an estimator, which calls `train` once inside."""

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        def before(session: Session) -> None:
            session.takes_callback = session.run is not None
            kind = type(self)
            session.set_tags(
                {"estimator_name": kind.__name__, "estimator_class": f"{kind.__module__}.{kind.__qualname__}"}
            )
            params = self.get_params()
            session.log_params({name: value for name, value in params.items() if value is not None})

        def finish(session: Session, _result: object) -> None:
            from ._sklearn_scores import remember_model

            remember_model(self, session)
            after(session, self)

        return _session.run_logged(
            integration,
            type(self).__name__,
            lambda: original(self, *args, **kwargs),
            before=before,
            after=finish,
        )

    return fit


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
