"""Images on their way into a run."""

from __future__ import annotations

import io
import os
import sys

from .. import _arguments
from .._errors import FileError, MisuseError, WrongTypeError
from . import _arrays, _names, _png

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._spool import Item

_MAX_PIXELS = 200_000_000
_MAX_IMAGES = 1000
_MAX_CAPTION = 10_000


def image_items(
    run_id: str,
    image: object,
    artifact_file: str | None,
    key: str | None,
    step: int | None,
    timestamp: object,
    caption: str,
) -> list[Item]:
    """The files of `log_image`."""
    if (artifact_file is None) == (key is None):
        raise MisuseError("log_image takes either artifact_file or key")
    name = _arguments.text(key if artifact_file is None else artifact_file, "artifact_file or key")
    stem, ending = _names.split(name, _names.IMAGES) if artifact_file is not None else (name, "")
    at = None if step is None else _arguments.integer(step, "step")
    millis = None if timestamp is None else _millis(timestamp)
    images = list(image) if isinstance(image, (list, tuple)) else [image]
    if not images or len(images) > _MAX_IMAGES:
        raise MisuseError(f"log_image got {len(images)} images; give 1 to {_MAX_IMAGES}")
    caption = _arguments.optional_text(caption, "caption")[:_MAX_CAPTION]
    files = [encoded(one, ending, caption) for one in images]
    if ending and at is None:
        if len(files) > 1:
            raise MisuseError("several images do not fit into one file; give a key")
        return [(files[0][0], _names.artifact_path(name, "artifact_file"))]
    items: list[Item] = []
    for content, found in files:
        path = _names.of_step(run_id, "images", stem, found, at, millis)
        # The images of one call are of one step, also when it is counted.
        at = int(path.rsplit("/", 1)[1].split("_")[0])
        items.append((content, path))
    return items


def _millis(timestamp: object) -> int:
    # MLflow gives milliseconds since 1970.
    if isinstance(timestamp, int) and not isinstance(timestamp, bool):
        return timestamp
    return _arguments.nanos(timestamp, "timestamp") // 1_000_000


def encoded(image: Any, ending: str, caption: str = "") -> tuple[bytes | str, str]:
    """An image as a file with its ending: the content, or the path of the file that it is already."""
    if isinstance(image, (str, os.PathLike)):
        path = _arguments.path(image, "image")
        found = os.path.splitext(path)[1].lower()
        if not os.path.isfile(path):
            raise FileError(f"there is no image file {path!r}")
        if found not in _names.IMAGES:
            raise MisuseError(f"{path!r} is no image that browsers and others know by its ending")
        if ending and ending != found:
            raise MisuseError(f"{path!r} is logged as a {ending} file; give a name that ends in {found}")
        return path, found
    if isinstance(image, bytes):
        raise WrongTypeError("image is bytes; give an array, a PIL image or a path")
    if hasattr(image, "to_pil"):
        image = image.to_pil()
    if hasattr(image, "save") and hasattr(image, "mode"):
        return _of_pil(image, ending, caption), ending or ".png"
    if hasattr(image, "savefig"):
        raise WrongTypeError("image is a figure of matplotlib; use log_figure")
    pixels = as_pixels(image)
    if ending in ("", ".png"):
        return _png.encode(pixels, caption), ".png"
    pillow = _arguments.package("PIL.Image", f"an image in {ending}")
    return _of_pil(pillow.fromarray(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels), ending), ending


def _of_pil(image: Any, ending: str, caption: str = "") -> bytes:
    file = io.BytesIO()
    options: dict[str, object] = {}
    if ending in (".jpg", ".jpeg") and image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    if ending in ("", ".png"):
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
            image = image.convert("RGB")
        if caption:
            info = _arguments.package("PIL.PngImagePlugin", "a caption").PngInfo()
            info.add_itxt("Description", caption)
            options["pnginfo"] = info
    kinds = _arguments.package("PIL.Image", "an image").registered_extensions()
    try:
        image.save(file, format=kinds[ending or ".png"], **options)
    except (KeyError, OSError, ValueError) as error:
        raise MisuseError(f"the image cannot be written as {ending}: {error}") from None
    return file.getvalue()


def as_pixels(image: object) -> Any:
    """An array as bytes, height x width x channels."""
    numpy = _arrays.numpy("an image")
    pixels = _arrays.array(image, "image")
    if pixels.ndim == 3 and hasattr(image, "detach") and pixels.shape[0] in (1, 3, 4):
        # torch has the channels in front.
        pixels = numpy.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise MisuseError(
            f"an image of shape {tuple(pixels.shape)}; give height x width, or height x width x channels (1, 3 or 4)"
        )
    if pixels.shape[0] * pixels.shape[1] > _MAX_PIXELS:
        raise MisuseError(
            f"an image of {pixels.shape[0] * pixels.shape[1]} pixels; the limit is {_MAX_PIXELS}"
        )
    if pixels.dtype == numpy.uint8:
        return pixels
    if pixels.dtype.kind == "b":
        return pixels.astype(numpy.uint8) * numpy.uint8(255)
    if pixels.dtype.kind in "iu":
        if pixels.min() < 0 or pixels.max() > 255:
            raise MisuseError("an image of integers has values from 0 to 255")
        return pixels.astype(numpy.uint8)
    pixels = numpy.nan_to_num(pixels.astype(numpy.float64), nan=0.0, posinf=1.0, neginf=0.0)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        print(
            f"mlplat: an image of floats has values from {low:g} to {high:g} in place of 0 to 1, and was scaled to these",
            file=sys.stderr,
        )
        pixels = (pixels - low) / ((high - low) or 1.0)
    return (pixels * 255).round().astype(numpy.uint8)
