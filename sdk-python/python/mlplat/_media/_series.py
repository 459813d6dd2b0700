"""Images of a run, to browse."""

from __future__ import annotations

import base64
import html
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, overload

from .. import _arguments, _native
from .._scratch import Scratch
from . import _names, _png

_SHOWN = 24
_SHOWN_CAPTION = 200
_HEAD = 64 << 10
"""Bytes of a file in which the longest caption ends."""


class LoggedImage:
    """One image of a run; its content comes when it is asked for."""

    __slots__ = ("_artifact", "_caption", "_client", "_run_id", "key", "step", "timestamp")

    key: str
    """Name of the series."""
    step: int
    """Step that it was logged at."""
    timestamp: datetime
    """When it was logged."""

    def __init__(
        self, client: _native.Client, run_id: str, artifact: _native.Artifact, found: tuple[str, int, int]
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._artifact = artifact
        self._caption: str | None = None
        self.key = found[0].removeprefix("images/")
        self.step = found[1]
        self.timestamp = datetime.fromtimestamp(found[2] / 1000, timezone.utc)

    @property
    def path(self) -> str:
        """Path in the run."""
        return self._artifact.path

    @property
    def caption(self) -> str:
        """What `log_image(…, caption=)` said of it; read when it is asked for. Files other than PNG have none."""
        if self._caption is None:
            found = ""
            if self.path.endswith(".png"):
                file = self._artifact
                length = min(_HEAD, file.size_bytes)
                head = _native.read_artifact(
                    self._client, self._run_id, self.path, file.sha256, 0, length
                ).wait()
                found = _png.caption(head)
            self._caption = found
        return self._caption

    @property
    def media_type(self) -> str:
        """Media type, e.g. `image/png`."""
        return self._artifact.media_type

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self._artifact.size_bytes

    def read(self) -> bytes:
        """The content of the file."""
        with Scratch() as folder:
            local = _native.download_artifact(self._client, self._run_id, self.path, folder).wait()
            with open(local, "rb") as file:
                return file.read()

    def download(self, into: str | os.PathLike[str] | None = None) -> str:
        """Downloads the file and returns where it is now; by default in a temporary directory."""
        into = tempfile.mkdtemp(prefix="mlplat-") if into is None else into
        into = _arguments.path(into, "into")
        return _native.download_artifact(self._client, self._run_id, self.path, into).wait()

    def to_pil(self) -> Any:
        """The image as PIL's."""
        import io

        image = _arguments.package("PIL.Image", "to_pil()").open(io.BytesIO(self.read()))
        image.load()
        return image

    def __repr__(self) -> str:
        return f"LoggedImage({self.key!r}, step={self.step}, {self.size_bytes} bytes)"

    def _repr_html_(self) -> str:
        content = self.read()
        data = base64.b64encode(content).decode()
        if self._caption is None:
            self._caption = _png.caption(content)
        said = f"<br>{html.escape(_cut(self._caption))}" if self._caption else ""
        kind = html.escape(self.media_type or "image/png")
        return (
            "<figure style='display:inline-block;max-width:180px;vertical-align:top;margin:4px;text-align:center'>"
            f"<img style='max-width:180px;max-height:180px;min-width:48px;image-rendering:auto' src='data:{kind};base64,{data}'>"
            f"<figcaption><small>{html.escape(self.key)}, step {self.step}{said}</small></figcaption></figure>"
        )


def _cut(caption: str) -> str:
    return caption if len(caption) <= _SHOWN_CAPTION else caption[: _SHOWN_CAPTION - 1] + "…"


class ImageSeries(Sequence[LoggedImage]):
    """Images of a run, ordered by key, step and time."""

    __slots__ = ("_images",)

    def __init__(self, images: Sequence[LoggedImage]) -> None:
        self._images = tuple(images)

    @property
    def keys(self) -> list[str]:
        """Names of the series that are in it."""
        return sorted({image.key for image in self._images})

    @property
    def steps(self) -> list[int]:
        """Steps that have images."""
        return sorted({image.step for image in self._images})

    def at(self, step: int) -> ImageSeries:
        """The images of one step."""
        return ImageSeries([image for image in self._images if image.step == step])

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> LoggedImage: ...
    @overload
    def __getitem__(self, index: slice) -> ImageSeries: ...
    def __getitem__(self, index: int | slice) -> LoggedImage | ImageSeries:
        return ImageSeries(self._images[index]) if isinstance(index, slice) else self._images[index]

    def __repr__(self) -> str:
        return f"<{len(self)} images: {', '.join(self.keys) or 'none'}>"

    def _repr_html_(self) -> str:
        # Spread over the series, so that a long one is seen from its beginning to its end.
        step = max(1, -(-len(self) // _SHOWN))
        shown = self._images[::step]
        note = f"<br><small>{len(shown)} of {len(self)} images</small>" if len(shown) < len(self) else ""
        return "<div>" + "".join(image._repr_html_() for image in shown) + note + "</div>"


def images_call(client: _native.Client, run_id: str, key: str | None) -> _native.Call[ImageSeries]:
    """The images of a run, or of one series."""
    series = "images" if key is None else f"images/{_names.artifact_path(key, 'key')}"

    def found(artifacts: list[_native.Artifact]) -> ImageSeries:
        named = [(artifact, _names.parse(artifact.path)) for artifact in artifacts]
        images = [LoggedImage(client, run_id, artifact, parts) for artifact, parts in named if parts]
        images = [image for image in images if key is None or image.key == key]
        return ImageSeries(sorted(images, key=lambda image: (image.key, image.step, image.path)))

    return _native.list_artifacts(client, run_id, series).then(found)
