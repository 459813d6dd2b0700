"""Autologging of transformers: a callback of the trainer's own kind.

Invariant: only the process of rank 0 logs.
"""

from __future__ import annotations

import contextlib
import functools
import sys

from . import _datasets, _models, _patches, _session
from ._session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAME = "transformers"
_CALLBACK = "_mlplat_callback"
_RESUME = "resume_from_checkpoint"

# Ending of the name of a class -> where its config has the last size of the logits, and those before it.
_HEADS = (
    ("ForSequenceClassification", "num_labels", (-1,)),
    ("ForTokenClassification", "num_labels", (-1, -1)),
    ("ForCausalLM", "vocab_size", (-1, -1)),
    ("ForMaskedLM", "vocab_size", (-1, -1)),
)


def install(module: str) -> None:
    """Patches `Trainer.train`, also of the classes below it."""
    trainer = sys.modules[module].Trainer
    _patches.replace(_NAME, trainer, "train", _logged_train(trainer.train))


def _logged_train(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        def work() -> Any:
            return original(self, *args, **kwargs)

        if _session.options(_NAME) is None or _session.current() is not None:
            return work()
        if not self.is_world_process_zero():
            return _session.quietly(work)
        return _session.run_logged(
            _NAME,
            type(self.model).__name__,
            work,
            before=lambda session: _begin(session, self, args[0] if args else kwargs.get(_RESUME)),
            after=lambda session, result: _log_fitted(session, self),
        )

    return train


def _begin(session: Session, trainer: Any, checkpoint: object) -> None:
    if checkpoint:
        # The steps of the trainer go on from there.
        session.go_on()
    params = trainer.args.to_sanitized_dict()
    session.log_params({name: value for name, value in params.items() if value not in (None, "", "None")})
    session.set_tags({"estimator_name": type(trainer.model).__name__})
    _log_datasets(session, trainer)
    config = getattr(trainer.model, "config", None)
    if config is not None:
        session.set_tags({"model_type": getattr(config, "model_type", "")})
        _models.log_json(session, "model_config.json", config.to_dict())
    if session.run is None:
        return
    # It stays: what is evaluated later belongs to the run of the last training.
    before = getattr(trainer, _CALLBACK, None)
    if before is not None:
        trainer.remove_callback(before)
    callback = _callback_class()(session)
    trainer.add_callback(callback)
    setattr(trainer, _CALLBACK, callback)


def _log_datasets(session: Session, trainer: Any) -> None:
    """Data sets of Hugging Face, which know their digest. Of others the items would have to be made, to see them."""

    def describe(data: Any) -> dict[str, Any] | None:
        return _datasets.described(data) if hasattr(data, "_fingerprint") else None

    evals = getattr(trainer, "eval_dataset", None)
    evals = evals if isinstance(evals, dict) else {"dataset": evals}
    _datasets.log(session, lambda: describe(trainer.train_dataset))
    _datasets.log_evals(session, describe, list(evals.items()))


@functools.cache
def _callback_class() -> type:
    base = sys.modules["transformers.trainer_callback"].TrainerCallback

    class MlplatCallback(base):
        """Passes on to a session what the trainer logs."""

        def __init__(self, session: Session | None) -> None:
            self._session = session

        def __reduce__(self) -> Any:
            return (_detached, ())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self._session is not None and logs and state.is_world_process_zero:
                self._session.log_step(logs, state.global_step)

    return MlplatCallback


def _detached() -> Any:
    return _callback_class()(None)


def _log_fitted(session: Session, trainer: Any) -> None:
    best = getattr(trainer.state, "best_metric", None)
    session.log_metrics({"best_metric": best, "global_step": trainer.state.global_step})
    tokenizer: Any = getattr(trainer, "processing_class", None) or getattr(trainer, "tokenizer", None)
    signature: Any = None
    with contextlib.suppress(Exception):
        signature = _signature(trainer.model, tokenizer)
    _models.log_model(session, trainer.model, signature=signature)
    if session.options.log_models and hasattr(tokenizer, "save_pretrained"):
        directory = session.model_path.replace("model", "tokenizer", 1)
        session.safely(
            "the tokenizer was not logged",
            lambda: _models.log_files(session, directory, tokenizer.save_pretrained),
        )


def _signature(model: Any, tokenizer: Any) -> Any:
    """Of a model that takes tokens, what its kind says of it; None of others, for nothing is computed to find out."""
    from .._model_files._signature import ModelSignature

    if model.main_input_name != "input_ids":
        return None
    names = list(getattr(tokenizer, "model_input_names", None) or ["input_ids"])
    tokens = {name: {"kind": "tensor", "type": "int64", "shape": [-1, -1]} for name in names}
    outputs = None
    for ending, size, shape in _HEADS:
        if type(model).__name__.endswith(ending):
            kind = str(model.dtype).removeprefix("torch.")
            logits = {"kind": "tensor", "type": kind, "shape": [*shape, getattr(model.config, size)]}
            outputs = {"kind": "tensors", "tensors": {"logits": logits}}
    return ModelSignature({"kind": "tensors", "tensors": tokens}, outputs)
