"""Figures of matplotlib, plotly and what draws like them."""

from __future__ import annotations

import io
import os
import tempfile

from .. import _arguments
from .._errors import MisuseError, WrongTypeError
from . import _names
from ._text import utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .._spool import Item

_PAGES = frozenset({".html", ".json"})
_ENDINGS = _names.IMAGES | _PAGES | {".pdf", ".eps", ".ps"}


def figure_items(
    run_id: str,
    figure: object,
    artifact_file: str,
    step: int | None,
    save_kwargs: Mapping[str, Any] | None,
) -> list[Item]:
    """The file of `log_figure`."""
    name = _names.artifact_path(artifact_file, "artifact_file")
    key, ending = _names.split(name, _ENDINGS)
    if save_kwargs is not None and not isinstance(save_kwargs, dict):
        raise WrongTypeError(f"save_kwargs is a {type(save_kwargs).__name__}; give a dict")
    content, ending = _drawn(figure, ending, dict(save_kwargs or {}))
    if step is not None:
        folder = "images" if ending in _names.IMAGES else "figures"
        path = _names.of_step(run_id, folder, key, ending, _arguments.integer(step, "step"))
    else:
        path = _names.single(name, "figures", _ENDINGS, ending)
    return [(content, path)]


def _drawn(figure: Any, ending: str, options: dict[str, Any]) -> tuple[bytes, str]:
    if hasattr(figure, "get_figure") and not hasattr(figure, "savefig"):
        # Axes stand for their figure, e.g. what pandas and seaborn return.
        figure = figure.get_figure()
    if hasattr(figure, "figure") and hasattr(figure.figure, "savefig"):
        figure = figure.figure
    if hasattr(figure, "savefig"):
        return _of_matplotlib(figure, ending or ".png", options)
    if hasattr(figure, "write_html") and hasattr(figure, "to_json"):
        return _of_plotly(figure, ending or ".html", options)
    if hasattr(figure, "to_html") and hasattr(figure, "to_json"):
        # Altair and its like.
        if ending == ".json":
            return utf8(figure.to_json()), ending
        if ending in ("", ".html"):
            return utf8(figure.to_html(**options)), ".html"
        raise MisuseError(f"a {type(figure).__name__} is logged as .html or .json, not as {ending}")
    raise WrongTypeError(
        f"figure is a {type(figure).__name__}; give a figure of matplotlib or plotly, or use log_image for pictures"
    )


def _of_matplotlib(figure: Any, ending: str, options: dict[str, Any]) -> tuple[bytes, str]:
    if ending in _PAGES:
        raise MisuseError(f"a figure of matplotlib is logged as .png, .svg or .pdf, not as {ending}")
    file = io.BytesIO()
    options.setdefault("format", ending[1:])
    if "bbox_inches" not in options:
        options["bbox_inches"] = "tight"
    try:
        figure.savefig(file, **options)
    except ValueError as error:
        raise MisuseError(f"the figure cannot be drawn as {ending}: {error}") from None
    return file.getvalue(), ending


def _of_plotly(figure: Any, ending: str, options: dict[str, Any]) -> tuple[bytes, str]:
    if ending == ".json":
        return utf8(figure.to_json(**options)), ending
    if ending == ".html":
        # The library itself is 4 MB: browsers get it from where plotly publishes it.
        options.setdefault("include_plotlyjs", "cdn")
        return utf8(figure.to_html(**options)), ending
    with tempfile.TemporaryDirectory(prefix="mlplat-") as folder:
        path = os.path.join(folder, "figure" + ending)
        try:
            figure.write_image(path, **options)
        except (ValueError, ImportError, RuntimeError) as error:
            raise MisuseError(
                f"plotly cannot draw the figure as {ending} ({error}); log it as .html or .json"
            ) from None
        with open(path, "rb") as file:
            return file.read(), ending
