"""The functions of the module for what runs show: each is the method of the same name, of the active run."""

from __future__ import annotations

from ._connection import client as current_client
from ._runs import _required

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ._model_files._manifest import ModelInfo
    from ._model_files._signature import ModelSignature
    from ._native import ModelVersion
    from ._table import Table
    from ._types import PathLike, TableLike, When


def log_figure(
    figure: object,
    artifact_file: str,
    *,
    step: int | None = None,
    save_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """Logs a figure of matplotlib or plotly to the active run; see :meth:`mlplat.ActiveRun.log_figure`."""
    return _required().log_figure(figure, artifact_file, step=step, save_kwargs=save_kwargs)


def log_image(
    image: object,
    artifact_file: str | None = None,
    key: str | None = None,
    step: int | None = None,
    timestamp: When | int | None = None,
    *,
    caption: str = "",
) -> str:
    """Logs an image, or several of one step, to the active run; see :meth:`mlplat.ActiveRun.log_image`."""
    return _required().log_image(image, artifact_file, key, step, timestamp, caption=caption)


def log_table(data: TableLike | object, artifact_file: str, *, append: bool = True) -> str:
    """Logs a table to the active run; see :meth:`mlplat.ActiveRun.log_table`."""
    return _required().log_table(data, artifact_file, append=append)


def log_text(text: str, artifact_file: str) -> str:
    """Logs a text as a file to the active run; see :meth:`mlplat.ActiveRun.log_text`."""
    return _required().log_text(text, artifact_file)


def log_dict(dictionary: Mapping[str, Any] | Sequence[Any], artifact_file: str) -> str:
    """Logs a dict or list as YAML or JSON to the active run; see :meth:`mlplat.ActiveRun.log_dict`."""
    return _required().log_dict(dictionary, artifact_file)


def log_html(html: object, artifact_file: str, *, step: int | None = None) -> str:
    """Logs a page to the active run; see :meth:`mlplat.ActiveRun.log_html`."""
    return _required().log_html(html, artifact_file, step=step)


def log_audio(
    audio: object, sample_rate: int | None = None, key: str = "audio", *, step: int | None = None
) -> str:
    """Logs sound to the active run; see :meth:`mlplat.ActiveRun.log_audio`."""
    return _required().log_audio(audio, sample_rate, key, step=step)


def log_confusion_matrix(
    y_true: object,
    y_pred: object | None = None,
    labels: Sequence[object] | None = None,
    *,
    key: str = "confusion_matrix",
    step: int | None = None,
) -> str:
    """Logs a confusion matrix as a picture and as a table to the active run; see :meth:`mlplat.ActiveRun.log_confusion_matrix`."""
    return _required().log_confusion_matrix(y_true, y_pred, labels, key=key, step=step)


def log_histogram(
    key: str,
    values: object | None = None,
    step: int | None = None,
    *,
    bins: int | Sequence[float] = 64,
    np_histogram: tuple[object, object] | None = None,
) -> str:
    """Logs how values are distributed, in the active run; see :meth:`mlplat.ActiveRun.log_histogram`."""
    return _required().log_histogram(key, values, step, bins=bins, np_histogram=np_histogram)


def log_model(
    model: object,
    name: str = "model",
    *,
    signature: ModelSignature | dict[str, Any] | None = None,
    input_example: object = None,
    requirements: Sequence[str] | PathLike | None = None,
    registered_model_name: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> ModelInfo:
    """Logs a model that `load_model` gives back to the active run; see :meth:`mlplat.ActiveRun.log_model`."""
    return _required().log_model(
        model,
        name,
        signature=signature,
        input_example=input_example,
        requirements=requirements,
        registered_model_name=registered_model_name,
        metadata=metadata,
    )


def load_table(artifact_file: str, run_ids: str | Sequence[str] | None = None) -> Table:
    """A table that was logged by `log_table`: of the active run, or of several runs one after the other."""
    from ._arguments import texts
    from ._media._table_files import table_steps
    from ._media._tables import stacked
    from ._steps import drive

    if run_ids is None:
        return _required().load_table(artifact_file)
    client = current_client()
    runs = texts(run_ids, "run_ids")
    return stacked([drive(table_steps(client, run_id, artifact_file)) for run_id in runs])


def load_model(model: str | PathLike | ModelVersion | ModelInfo) -> Any:
    """Gives back a model that `log_model` logged: the object itself.

    `model` is `runs:/<run id>/<path>`, `models:/<name>/<version or alias>` (or `models:/<name>@<alias>`), a model version,
    what `log_model` returned, or a local directory. The digests of all files are checked before anything of it is
    executed; other versions of packages than those it was made with are named on stderr. Loading a pickled model executes
    code of who made it: load only what you trust.
    """
    from ._model_files._load import load_steps
    from ._steps import drive

    return drive(load_steps(model))


def infer_signature(model_input: object, model_output: object = None) -> ModelSignature:
    """The signature of a model that takes and gives data like this: tables, arrays, dicts of arrays, texts, numbers."""
    from ._model_files._signature import infer_signature

    return infer_signature(model_input, model_output)
