"""Autologging: what trainings of other libraries do is logged without a line in the training code.

Invariant: this module imports none of these libraries. Each is patched when it is imported, or at once where it has
been; nothing that goes wrong in here reaches the training, and `autolog(disable=True)` takes every patch back.
"""

from __future__ import annotations

from .. import _arguments
from .._errors import MisuseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Integration -> the modules after whose import it patches. The functions are in modules of the same names, `_sklearn` ….
_MODULES = {
    "sklearn": ("sklearn.base", "joblib.parallel", "sklearn.metrics"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "lightning": (
        *("lightning.pytorch.trainer.trainer", "pytorch_lightning.trainer.trainer"),
        *("lightning.pytorch.tuner.tuning", "pytorch_lightning.tuner.tuning"),
    ),
    "transformers": ("transformers.trainer",),
}
# These are patched as long as any integration is on.
_THREADS = ("threading", "concurrent.futures.thread")


class Options:
    """What to log; the arguments of the last :func:`autolog`."""

    __slots__ = ("log_datasets", "log_models", "log_training_metrics", "max_tuning_runs")

    def __init__(
        self, log_models: bool, log_datasets: bool, log_training_metrics: bool, max_tuning_runs: int
    ) -> None:
        self.log_models = log_models
        self.log_datasets = log_datasets
        self.log_training_metrics = log_training_metrics
        self.max_tuning_runs = max_tuning_runs


enabled: dict[str, Options] = {}
"""Integrations that log now."""


def autolog(
    *,
    disable: bool = False,
    log_models: bool = True,
    log_datasets: bool = True,
    log_training_metrics: bool = True,
    max_tuning_runs: int = 100,
    sklearn: bool = True,
    xgboost: bool = True,
    lightgbm: bool = True,
    lightning: bool = True,
    transformers: bool = True,
) -> None:
    """Logs trainings by themselves: params, metrics, data sets and the model, into the active run or a run of their own.

    It works for scikit-learn (searches as nested runs), xgboost, lightgbm, PyTorch Lightning and transformers, imported
    before or after; `sklearn=False` and its like leave one out. The last call counts, and `disable=True` takes all back.

    `log_models` also keeps the models (and checkpoints), `log_datasets` also notes as inputs of the run what it trained on
    and was evaluated on (digest, columns and rows, as `run.log_input` does), `log_training_metrics` also scores scikit-learn estimators on
    their training data, and `max_tuning_runs` is how many candidates of a search become nested runs, best first.
    Whatever fails in here is one warning on stderr, never an exception of the training.
    """
    from . import _patches, _pickles, _session

    if isinstance(max_tuning_runs, bool) or not isinstance(max_tuning_runs, int) or max_tuning_runs < 0:
        raise MisuseError(f"max_tuning_runs is {max_tuning_runs!r}; give a number of runs, 0 for none")
    wanted = {
        "sklearn": sklearn,
        "xgboost": xgboost,
        "lightgbm": lightgbm,
        "lightning": lightning,
        "transformers": transformers,
    }
    switches = {
        "disable": disable,
        "log_models": log_models,
        "log_datasets": log_datasets,
        "log_training_metrics": log_training_metrics,
        **wanted,
    }
    for name, switch in switches.items():
        _arguments.flag(switch, name)
    _session.enable_here()
    options = Options(log_models, log_datasets, log_training_metrics, max_tuning_runs)
    for name, modules in _MODULES.items():
        if wanted[name] and not disable:
            enabled[name] = options
            for module in modules:
                _patches.when_imported(name, module, _installer(name))
        else:
            enabled.pop(name, None)
            _patches.undo(name)
    for name, modules in {"threads": _THREADS, "pickles": _pickles.MODULES}.items():
        if not enabled:
            _patches.undo(name)
        for module in modules if enabled else ():
            _patches.when_imported(name, module, _installer(name))


def _installer(name: str) -> Callable[[str], None]:
    def install(module: str) -> None:
        import importlib

        importlib.import_module(f"{__name__}._{name}").install(module)

    return install
