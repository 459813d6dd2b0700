"""Texts, dicts, pages."""

from __future__ import annotations

import json
import math
import os
from datetime import date, datetime, timedelta

from .. import _arguments
from .._errors import FileError, MisuseError, WrongTypeError
from . import _names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._spool import Item

_HTML = frozenset({".html", ".htm"})


def utf8(text: str) -> bytes:
    """A text as the content of a file; what is no character (half of a pair, as in undecodable names) becomes `?`."""
    return text.encode("utf-8", "replace")


def text_items(text: object, artifact_file: str) -> list[Item]:
    """The file of `log_text`."""
    if not isinstance(text, str):
        raise WrongTypeError(f"text is a {type(text).__name__}; give a str")
    return [(utf8(text), _names.artifact_path(artifact_file, "artifact_file"))]


def dict_items(dictionary: object, artifact_file: str) -> list[Item]:
    """The file of `log_dict`: YAML where its ending says so, else JSON."""
    path = _names.artifact_path(artifact_file, "artifact_file")
    if not isinstance(dictionary, (dict, list, tuple)):
        raise WrongTypeError(f"dictionary is a {type(dictionary).__name__}; give a dict or a list")
    tree = plain(dictionary)
    if path.lower().endswith((".yaml", ".yml")):
        try:
            import yaml  # pyright: ignore[reportMissingModuleSource, reportMissingImports]
        except ImportError:
            pass  # JSON is YAML too.
        else:
            return [(utf8(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)), path)]
    return [(utf8(json.dumps(tree, indent=2, ensure_ascii=False)), path)]


def html_items(run_id: str, html: Any, artifact_file: str, step: int | None) -> list[Item]:
    """The file of `log_html`: a page as text, a path, an open file, or an object that shows itself as HTML."""
    name = _names.artifact_path(artifact_file, "artifact_file")
    content: bytes | str
    if isinstance(html, str) and "<" not in html and html.lower().endswith(tuple(_HTML)):
        html = os.fspath(html)
        if not os.path.isfile(html):
            raise FileError(f"there is no HTML file {html!r}")
        content = html
    elif isinstance(html, str):
        content = utf8(html)
    elif isinstance(html, os.PathLike):
        content = _arguments.path(html, "html")
        if not os.path.isfile(content):
            raise FileError(f"there is no HTML file {content!r}")
    elif hasattr(html, "read"):
        read = html.read()
        content = read if isinstance(read, bytes) else utf8(str(read))
    elif hasattr(html, "_repr_html_") and (shown := html._repr_html_()):
        content = utf8(str(shown))
    else:
        raise WrongTypeError(f"html is a {type(html).__name__}; give a text, a path or an open file")
    if step is None:
        return [(content, _names.single(name, "html", _HTML, ".html"))]
    key, _ = _names.split(name, _HTML)
    return [(content, _names.of_step(run_id, "html", key, ".html", _arguments.integer(step, "step")))]


def plain(value: Any, depth: int = 0) -> Any:
    """What JSON and YAML know: numpy's numbers become Python's, times text, all else its text. NaN becomes null."""
    if depth > 100:
        raise MisuseError("the dict is nested more than 100 deep, or contains itself")
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) and type(value) is not str else value
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        made = value.detach().cpu().tolist() if hasattr(value, "detach") else value.tolist()
        return str(value) if made is value else plain(made, depth + 1)
    return str(value)
