"""Autologging of PyTorch Lightning, as `lightning` and as `pytorch_lightning`: a logger that joins the trainer's own.

Invariant: the logger is with the trainer only while it works, and does not move the checkpoints to another folder; only
the process of global rank 0 logs.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import tempfile

from .. import _spool
from . import _models, _patches, _session
from ._session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAME = "lightning"
_SESSION = "_mlplat_session"
_SHARDED = {"FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"}
"""Strategies that spread one model over several processes."""
# Settings of a trainer that are worth a param, where it has them.
_SETTINGS = (
    "max_epochs", "min_epochs", "max_steps", "min_steps", "accumulate_grad_batches", "gradient_clip_val", "precision",
    "num_devices", "num_nodes", "log_every_n_steps", "limit_train_batches", "limit_val_batches",
)  # fmt: skip


def install(module: str) -> None:
    """Patches the trainer or the tuner of one of the two packages."""
    if module.endswith(".tuner.tuning"):
        tuner = sys.modules[module].Tuner
        for name in ("lr_find", "scale_batch_size"):
            # Fits that look for a setting are no trainings.
            _patches.replace(_NAME, tuner, name, _session.quiet(_NAME, getattr(tuner, name)))
        return
    trainer = sys.modules[module].Trainer
    package = module.removesuffix(".trainer.trainer")
    _patches.replace(_NAME, trainer, "fit", _logged_fit(trainer.fit, package))
    for name in ("validate", "test"):
        _patches.replace(_NAME, trainer, name, _logged_evaluation(getattr(trainer, name), package))


def _logged_fit(original: Callable[..., Any], package: str) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _session.options(_NAME) is None or _session.current() is not None:
            return original(self, *args, **kwargs)
        if not getattr(self, "is_global_zero", True):
            return _session.quietly(lambda: original(self, *args, **kwargs))
        model = args[0] if args else kwargs.get("model")
        goes_on = _goes_on(self, signature, args, kwargs)

        def train() -> Any:
            return _with_logger(self, package, lambda: original(self, *args, **kwargs))

        def before(session: Session) -> None:
            if goes_on:
                session.go_on(getattr(self, _SESSION, None))
            _log_settings(session, self, model)

        return _session.run_logged(
            _NAME,
            type(model).__name__,
            train,
            before=before,
            after=lambda session, result: _log_fitted(session, self, model),
        )

    return fit


def _goes_on(
    trainer: Any, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether the trainer counts its steps on: from a checkpoint, or from what it has trained already."""
    try:
        given = signature.bind_partial(trainer, *args, **kwargs).arguments
        return given.get("ckpt_path") is not None or trainer.global_step > 0
    except (TypeError, AttributeError):
        return False  # its own error is the better one


def _logged_evaluation(original: Callable[..., Any], package: str) -> Callable[..., Any]:
    """`validate` and `test` after a fit belong to its run."""

    @functools.wraps(original)
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = getattr(self, _SESSION, None)
        if session is None or _session.options(_NAME) is None or _session.current() is not None:
            return original(self, *args, **kwargs)
        return _with_logger(self, package, lambda: original(self, *args, **kwargs), session)

    return evaluate


def _with_logger(trainer: Any, package: str, work: Callable[[], Any], session: Session | None = None) -> Any:
    found = session or _session.current()
    if not isinstance(found, Session) or found.run is None:
        return work()
    logger: Any = None
    callback: Any = None

    def attach() -> None:
        nonlocal logger, callback
        setattr(trainer, _SESSION, found)
        logger = _logger_class(package)(found)
        # Last, so that the trainer's first logger still says where checkpoints go.
        trainer.loggers = [*trainer.loggers, logger]
        callback = _epochs_class(package)(logger)
        trainer.callbacks = [*trainer.callbacks, callback]

    def detach() -> None:
        trainer.loggers = [one for one in trainer.loggers if one is not logger]
        trainer.callbacks = [one for one in trainer.callbacks if one is not callback]

    found.safely("the trainer could not be watched", attach)
    try:
        return work()
    finally:
        found.safely("the trainer could not be left", detach)


@functools.cache
def _logger_class(package: str) -> type:
    base = importlib.import_module(f"{package}.loggers.logger").Logger

    class MlplatLogger(base):
        """Passes on to a session what Lightning logs; empty names, so that it does not move any folder."""

        def __init__(self, session: Session | None) -> None:
            super().__init__()
            self._session = session
            self._steps: dict[str, int | None] = {}

        def __reduce__(self) -> Any:
            # Another process logs nothing.
            return (_detached, (package,))

        def __deepcopy__(self, memo: object) -> Any:
            return self

        @property
        def name(self) -> str:
            return ""

        @property
        def version(self) -> str:
            return ""

        def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
            if self._session is not None:
                self._steps.update(dict.fromkeys(metrics, step))
                self._session.log_step(metrics, step)

        def log_missing(self, metrics: dict[str, Any], step: int) -> None:
            """Logs what of this has not been logged at this step."""
            self.log_metrics(
                {key: value for key, value in metrics.items() if self._steps.get(key) != step}, step
            )

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            session = self._session
            if session is not None and params is not None:
                session.safely(
                    "hyperparameters were not logged",
                    lambda: session.log_params(dict(params if hasattr(params, "items") else vars(params))),
                )

    return MlplatLogger


def _detached(package: str) -> Any:
    return _logger_class(package)(None)


@functools.cache
def _epochs_class(package: str) -> type:
    base = importlib.import_module(f"{package}.callbacks").Callback

    class MlplatEpochs(base):
        """Logs, at the end of an epoch, the metrics that the loggers were not given, as its steps were no multiples of
        `log_every_n_steps`. It does so a little later, when Lightning has given them what it has."""

        def __init__(self, logger: Any) -> None:
            self._logger = logger
            self._before: dict[str, Any] = {}
            self._step: int | None = None

        def __reduce__(self) -> Any:
            return (_without_logger, (package,))

        def _safely(self, work: Callable[[], object]) -> None:
            session = self._logger and self._logger._session
            if session is not None:
                session.safely("the metrics of an epoch were not logged", work)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self._safely(lambda: self._flush(trainer))
            self._safely(lambda: self._begin(trainer))

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self._safely(lambda: self._end(trainer))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self._safely(lambda: self._flush(trainer))

        def _begin(self, trainer: Any) -> None:
            self._before = dict(trainer.callback_metrics)

        def _end(self, trainer: Any) -> None:
            # As Lightning counts for loggers: optimizers of one batch are one step.
            loop = trainer.fit_loop.epoch_loop
            self._step = max(0, getattr(loop, "_batches_that_stepped", trainer.global_step) - 1)

        def _flush(self, trainer: Any) -> None:
            step, self._step = self._step, None
            if step is None:
                return
            found = trainer.callback_metrics
            # What the epoch has not computed anew is from an earlier one. A metric of steps and epochs has a third name.
            new = {
                key: value
                for key, value in found.items()
                if value is not self._before.get(key) and f"{key}_epoch" not in found
            }
            self._logger.log_missing(new, step)

    return MlplatEpochs


def _without_logger(package: str) -> Any:
    return _epochs_class(package)(None)


def _log_settings(session: Session, trainer: Any, model: Any) -> None:
    settings = {name: getattr(trainer, name, None) for name in _SETTINGS}
    session.log_params({name: value for name, value in settings.items() if value is not None})
    session.set_tags(
        {"estimator_name": type(model).__name__, "accelerator": type(trainer.accelerator).__name__}
    )


def _log_fitted(session: Session, trainer: Any, model: Any) -> None:
    for at, optimizer in enumerate(trainer.optimizers):
        prefix = f"optimizer{at or ''}"
        session.log_params({f"{prefix}_name": type(optimizer).__name__})
        defaults = getattr(optimizer, "defaults", {})
        session.log_params(
            {f"{prefix}_{name}": value for name, value in defaults.items() if value is not None}
        )
    session.log_metrics({"epochs": trainer.current_epoch, "global_step": trainer.global_step})
    _models.log_text(session, "model_summary.txt", str(model))
    if session.options.log_models:
        session.safely("the model was not logged", lambda: _log_module(session, trainer, model))
        session.safely("checkpoints were not logged", lambda: _log_checkpoints(session, trainer))


def _log_module(session: Session, trainer: Any, model: Any) -> None:
    """The module as it is at the end of the fit; without its trainer, which Lightning leaves out of pickles."""
    # Not what `torch.compile` has made of it.
    module = getattr(trainer, "lightning_module", None) or model
    if {kind.__name__ for kind in type(trainer.strategy).__mro__} & _SHARDED:
        # This process has a part of the weights; the checkpoint has all of them.
        return
    _models.log_model(session, module, _example(module))


def _example(module: Any) -> Any:
    """The example that the module names for its input, if it is one that a call can take as it is."""
    example: Any = getattr(module, "example_input_array", None)
    if hasattr(example, "detach"):
        return example.detach().to(module.device)
    return None


def _log_checkpoints(session: Session, trainer: Any) -> None:
    run = session.run
    callback = trainer.checkpoint_callback
    paths = (
        {getattr(callback, name, "") for name in ("best_model_path", "last_model_path")}
        if callback
        else set()
    )
    found = sorted(path for path in paths if path and os.path.exists(path))
    directory = "checkpoints" if session.model_path == "model" else f"checkpoints-{session.model_path[6:]}"
    if run is None:
        return
    if found:
        for path in found:
            _spool.put(run, [(path, f"{directory}/{os.path.basename(path)}")])
        session.set_tags(
            {"best_checkpoint": os.path.basename(getattr(callback, "best_model_path", "") or found[-1])}
        )
        return
    if trainer.world_size > 1:
        # To make one, all processes would have to meet, and this one alone is here.
        return
    with tempfile.TemporaryDirectory(prefix="mlplat-autolog-") as folder:
        path = os.path.join(folder, "last.ckpt")
        trainer.save_checkpoint(path)
        _spool.put(run, [(path, f"{directory}/last.ckpt")])
