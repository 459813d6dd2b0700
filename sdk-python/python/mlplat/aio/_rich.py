"""What a run shows beside numbers, for asyncio: the twin of `../_rich.py`.

Files are made in the event loop, as drawing libraries are not for several threads; their way into the run is awaited.
"""

from __future__ import annotations

from .. import _spool
from .._active import ActiveRunBase
from .._rich import saved_model
from .._run_info import RunInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .._media._series import ImageSeries
    from .._model_files._manifest import ModelInfo
    from .._model_files._signature import ModelSignature
    from .._table import Table
    from .._types import PathLike, TableLike, When


class RichReading(RunInfo):
    """What was logged, read back."""

    __slots__ = ()

    async def images(self, key: str | None = None) -> ImageSeries:
        """The images of a series; see :meth:`mlplat.Run.images`."""
        from .._media._series import images_call

        return await images_call(self._client, self.id, key)

    async def load_table(self, artifact_file: str) -> Table:
        """A table as it was logged by `log_table`; see :meth:`mlplat.Run.load_table`."""
        from .._media._table_files import table_steps
        from .._steps import drive_async

        return await drive_async(table_steps(self._client, self.id, artifact_file))

    async def histograms(self, key: str) -> Table:
        """The histograms of a series; see :meth:`mlplat.Run.histograms`."""
        from .._media._histograms import histogram_call

        return await histogram_call(self._client, self.id, key)


class RichLogging(ActiveRunBase, RichReading):
    """What a run under way can log beside params, metrics, tags and files."""

    __slots__ = ()

    async def log_figure(
        self,
        figure: object,
        artifact_file: str,
        *,
        step: int | None = None,
        save_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Logs a figure of matplotlib or plotly; see :meth:`mlplat.ActiveRun.log_figure`."""
        from .._media._figures import figure_items

        return await _spool.put_async(self, figure_items(self.id, figure, artifact_file, step, save_kwargs))

    async def log_image(
        self,
        image: object,
        artifact_file: str | None = None,
        key: str | None = None,
        step: int | None = None,
        timestamp: When | int | None = None,
        *,
        caption: str = "",
    ) -> str:
        """Logs an image, or several of one step; see :meth:`mlplat.ActiveRun.log_image`."""
        from .._media._images import image_items
        from .._media._resumed import go_on_async

        await go_on_async(self, "images", key, step)
        items = image_items(self.id, image, artifact_file, key, step, timestamp, caption)
        return await _spool.put_async(self, items)

    async def log_table(self, data: TableLike | object, artifact_file: str, *, append: bool = True) -> str:
        """Logs a table; see :meth:`mlplat.ActiveRun.log_table`."""
        from .._media._table_files import table_items, table_path

        with _spool.order:
            _spool.put(self, table_items(self, data, artifact_file, append))
        return table_path(artifact_file)

    async def log_text(self, text: str, artifact_file: str) -> str:
        """Logs a text as a file; see :meth:`mlplat.ActiveRun.log_text`."""
        from .._media._text import text_items

        return await _spool.put_async(self, text_items(text, artifact_file))

    async def log_dict(self, dictionary: Mapping[str, Any] | Sequence[Any], artifact_file: str) -> str:
        """Logs a dict or list as YAML or JSON; see :meth:`mlplat.ActiveRun.log_dict`."""
        from .._media._text import dict_items

        return await _spool.put_async(self, dict_items(dictionary, artifact_file))

    async def log_html(self, html: object, artifact_file: str, *, step: int | None = None) -> str:
        """Logs a page; see :meth:`mlplat.ActiveRun.log_html`."""
        from .._media._text import html_items

        return await _spool.put_async(self, html_items(self.id, html, artifact_file, step))

    async def log_audio(
        self, audio: object, sample_rate: int | None = None, key: str = "audio", *, step: int | None = None
    ) -> str:
        """Logs sound; see :meth:`mlplat.ActiveRun.log_audio`."""
        from .._media._audio import audio_items
        from .._media._resumed import go_on_async

        await go_on_async(self, "audio", key, step)
        return await _spool.put_async(self, audio_items(self.id, audio, sample_rate, key, step))

    async def log_confusion_matrix(
        self,
        y_true: object,
        y_pred: object | None = None,
        labels: Sequence[object] | None = None,
        *,
        key: str = "confusion_matrix",
        step: int | None = None,
    ) -> str:
        """Logs a confusion matrix as a picture and as a table; see :meth:`mlplat.ActiveRun.log_confusion_matrix`."""
        from .._media._confusion import confusion_items

        return await _spool.put_async(self, confusion_items(self.id, y_true, y_pred, labels, key, step))

    async def log_histogram(
        self,
        key: str,
        values: object | None = None,
        step: int | None = None,
        *,
        bins: int | Sequence[float] = 64,
        np_histogram: tuple[object, object] | None = None,
    ) -> str:
        """Logs how values are distributed; see :meth:`mlplat.ActiveRun.log_histogram`."""
        from .._media._histograms import histogram_items
        from .._media._resumed import go_on_async

        await go_on_async(self, "histograms", key, step)
        with _spool.order:
            return _spool.put(self, histogram_items(self.id, key, values, step, bins, np_histogram))

    async def log_model(
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
        """Logs a model that `mlplat.load_model` gives back; see :meth:`mlplat.ActiveRun.log_model`."""
        from .._model_files._publish import publish_steps
        from .._steps import drive_async

        arguments = (model, name, signature, input_example, requirements, metadata)
        with saved_model(self, *arguments) as (info, folder):
            await _spool.put_async(self, [(folder, info.artifact_path)])
            if registered_model_name is not None:
                info.registered_version = await drive_async(
                    publish_steps(self, registered_model_name, folder, logged_at=info.artifact_path)
                )
        return info
