"""What a run shows beside numbers: figures, images, tables, texts, sound, models. The blocking API; `aio/_rich.py` is its twin.

The methods are thin: `_media` and `_model_files` make the files, `_spool` brings them into the run.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

from . import _spool
from ._active import ActiveRunBase
from ._run_info import RunInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Any

    from ._media._series import ImageSeries
    from ._model_files._manifest import ModelInfo
    from ._model_files._signature import ModelSignature
    from ._table import Table
    from ._types import PathLike, TableLike, When


class RichReading(RunInfo):
    """What was logged, read back."""

    __slots__ = ()

    def images(self, key: str | None = None) -> ImageSeries:
        """The images of a series (`log_image(…, key=…)`), or of all, by key and step; shown as pictures in a notebook."""
        from ._media._series import images_call

        return images_call(self._client, self.id, key).wait()

    def load_table(self, artifact_file: str) -> Table:
        """A table as it was logged by `log_table`."""
        from ._media._table_files import table_steps
        from ._steps import drive

        return drive(table_steps(self._client, self.id, artifact_file))

    def histograms(self, key: str) -> Table:
        """The histograms of a series: columns step, timestamp, bin_start, bin_end, count; a row per bin."""
        from ._media._histograms import histogram_call

        return histogram_call(self._client, self.id, key).wait()


class RichLogging(ActiveRunBase, RichReading):
    """What a run under way can log beside params, metrics, tags and files."""

    __slots__ = ()

    def log_figure(
        self,
        figure: object,
        artifact_file: str,
        *,
        step: int | None = None,
        save_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Logs a figure of matplotlib or plotly and returns its path in the run.

        `artifact_file` is a path whose ending says how to draw it (`"loss.png"`, `"loss.html"`), or a key: then it
        becomes `figures/<key>.png`, for plotly `.html`. With `step` it is one of a series, which `images(key)` gives
        back. `save_kwargs` go to `savefig` or `to_html`.
        """
        from ._media._figures import figure_items

        return _spool.put(self, figure_items(self.id, figure, artifact_file, step, save_kwargs))

    def log_image(
        self,
        image: object,
        artifact_file: str | None = None,
        key: str | None = None,
        step: int | None = None,
        timestamp: When | int | None = None,
        *,
        caption: str = "",
    ) -> str:
        """Logs an image, or several of one step, and returns the path in the run (of the first).

        An image is an array (height x width, or with 1, 3 or 4 channels; bytes, or floats from 0 to 1), a PIL image, or
        the path of a file. With an `artifact_file` like `"cat.png"` it is there once; with a `key` it is one of a series
        by step, which `images(key)` gives back. Without `step` it is one more than the last of this key, also in a resumed run.
        """
        from ._media._images import image_items
        from ._media._resumed import go_on

        go_on(self, "images", key, step)
        items = image_items(self.id, image, artifact_file, key, step, timestamp, caption)
        return _spool.put(self, items)

    def log_table(self, data: TableLike | object, artifact_file: str, *, append: bool = True) -> str:
        """Logs a table (dict of columns, list of dicts, pandas, polars, pyarrow) and returns its path in the run.

        `artifact_file` ends in `.json`, `.parquet` (which keeps all types) or `.csv`, or is a key: then it becomes
        `tables/<key>.json`. Logging to the same one again adds the rows, also from other processes of the run, unless
        `append` is false. `load_table` gives all of them back, by the path too; a long or shared table is several files.
        """
        from ._media._table_files import table_items, table_path

        with _spool.order:
            _spool.put(self, table_items(self, data, artifact_file, append))
        return table_path(artifact_file)

    def log_text(self, text: str, artifact_file: str) -> str:
        """Logs a text as a file and returns its path in the run."""
        from ._media._text import text_items

        return _spool.put(self, text_items(text, artifact_file))

    def log_dict(self, dictionary: Mapping[str, Any] | Sequence[Any], artifact_file: str) -> str:
        """Logs a dict or list as YAML where `artifact_file` ends in `.yaml` or `.yml`, else as JSON; returns its path.

        Numbers of numpy become plain ones, times texts, NaN null, anything else its text.
        """
        from ._media._text import dict_items

        return _spool.put(self, dict_items(dictionary, artifact_file))

    def log_html(self, html: object, artifact_file: str, *, step: int | None = None) -> str:
        """Logs a page: a text, the path of a file, or an object that shows itself as HTML in notebooks; returns its path.

        A key without the ending `.html` becomes `html/<key>.html`.
        """
        from ._media._text import html_items

        return _spool.put(self, html_items(self.id, html, artifact_file, step))

    def log_audio(
        self, audio: object, sample_rate: int | None = None, key: str = "audio", *, step: int | None = None
    ) -> str:
        """Logs sound and returns its path in the run: an array of samples (or samples x channels), or a file's path.

        Floats go from -1 to 1. It is one of a series by step; a key that ends in `.wav` is a file that is there once.
        """
        from ._media._audio import audio_items
        from ._media._resumed import go_on

        go_on(self, "audio", key, step)
        return _spool.put(self, audio_items(self.id, audio, sample_rate, key, step))

    def log_confusion_matrix(
        self,
        y_true: object,
        y_pred: object | None = None,
        labels: Sequence[object] | None = None,
        *,
        key: str = "confusion_matrix",
        step: int | None = None,
    ) -> str:
        """Logs a confusion matrix as a picture and as a table, and returns the path of the picture.

        Give what is and what was predicted, or a square matrix alone (rows: what is). `labels` say the order, or name
        the classes 0, 1, 2, … The table `tables/<key>.json` has the columns actual, predicted, count.
        """
        from ._media._confusion import confusion_items

        return _spool.put(self, confusion_items(self.id, y_true, y_pred, labels, key, step))

    def log_histogram(
        self,
        key: str,
        values: object | None = None,
        step: int | None = None,
        *,
        bins: int | Sequence[float] = 64,
        np_histogram: tuple[object, object] | None = None,
    ) -> str:
        """Logs how values are distributed: any array, or counts and edges as `numpy.histogram` returns them.

        NaN and infinities are counted apart. `histograms(key)` gives a table of all steps. Returns the path of the file,
        which holds many histograms.
        """
        from ._media._histograms import histogram_items
        from ._media._resumed import go_on

        go_on(self, "histograms", key, step)
        with _spool.order:
            return _spool.put(self, histogram_items(self.id, key, values, step, bins, np_histogram))

    def log_model(
        self,
        model: object,
        name: str = "model",
        *,
        signature: ModelSignature | dict[str, Any] | None = None,
        input_example: object = None,
        requirements: Sequence[str] | PathLike | None = None,
        registered_model_name: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> ModelInfo:
        """Logs a model of scikit-learn, xgboost, lightgbm, PyTorch, transformers or ONNX, any object that can be pickled,
        or the file of a model, into the directory `name` of the run; `mlplat.load_model` gives it back.

        The signature is inferred from `input_example` and what the model says to it. The requirements are the packages
        that the model refers to, in the versions of this process, unless they are given. With `registered_model_name`
        it becomes the next version of that model; as this needs the server, it raises where there is none, and the
        model is logged nevertheless.
        """
        from ._model_files._publish import publish_steps
        from ._steps import drive

        arguments = (model, name, signature, input_example, requirements, metadata)
        with saved_model(self, *arguments) as (info, folder):
            _spool.put(self, [(folder, info.artifact_path)])
            if registered_model_name is not None:
                info.registered_version = drive(
                    publish_steps(self, registered_model_name, folder, logged_at=info.artifact_path)
                )
        return info


@contextmanager
def saved_model(
    run: ActiveRunBase,
    model: object,
    name: str,
    signature: ModelSignature | dict[str, Any] | None,
    input_example: object,
    requirements: Sequence[str] | PathLike | None,
    metadata: dict[str, Any] | None,
) -> Generator[tuple[ModelInfo, str]]:
    """A model in a temporary directory of its own name, ready to be brought into the run."""
    from ._media._names import artifact_path
    from ._model_files._manifest import ModelInfo
    from ._model_files._save import save_model

    path = artifact_path(name, "name")
    with tempfile.TemporaryDirectory(prefix="mlplat-model-") as parent:
        folder = os.path.join(parent, path.rsplit("/", 1)[-1])
        os.mkdir(folder)
        held = save_model(model, folder, signature, input_example, requirements, metadata, run.id)
        yield ModelInfo(run.id, path, held), folder
