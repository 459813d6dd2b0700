"""Which companions a run has."""

from __future__ import annotations

import os

from .. import _arguments
from .._errors import MisuseError, WrongTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

_NO = ("0", "false", "no", "off")
_YES = ("1", "true", "yes", "on", "")
_MIN_INTERVAL_S = 0.2
_DEFAULT_INTERVAL_S = 10.0


class Settings:
    """What is switched on for one run."""

    __slots__ = ("console", "environment", "system_metrics_s")

    system_metrics_s: float | None
    """Seconds between two samples of the machine; None: no samples."""
    environment: bool
    """Whether git, command line and packages are noted."""
    console: Literal["", "python", "fd"]
    """How output is copied; empty: not at all."""

    def __init__(
        self,
        system_metrics: bool | float | None,
        environment: bool | None,
        console: bool | str | None,
    ) -> None:
        self.system_metrics_s = _interval(system_metrics)
        self.environment = _switch(environment, "environment", "MLPLAT_ENVIRONMENT") != ""
        self.console = _console(console)


def _interval(given: bool | float | None) -> float | None:
    if given is None:
        given = _switch(None, "system_metrics", "MLPLAT_SYSTEM_METRICS") != ""
    if given is False:
        return None
    if given is True:
        text = os.environ.get("MLPLAT_SYSTEM_METRICS_INTERVAL", "")
        if not text:
            return _DEFAULT_INTERVAL_S
        try:
            given = float(text)
        except ValueError:
            raise MisuseError(f"MLPLAT_SYSTEM_METRICS_INTERVAL is {text!r}; give seconds") from None
    seconds = _arguments.number("system_metrics", given)
    if not _MIN_INTERVAL_S <= seconds <= 86_400:
        raise MisuseError(f"system metrics every {seconds:g} s; give {_MIN_INTERVAL_S:g} to 86,400 seconds")
    return seconds


def _console(given: bool | str | None) -> Literal["", "python", "fd"]:
    found = _switch(given, "console", "MLPLAT_CONSOLE", "python", "fd")
    return "fd" if found == "fd" else "python" if found else ""


def _switch(given: object, what: str, variable: str, *words: str) -> str:
    """The empty text for off, else on or one of the words; what is given goes before what the environment says."""
    if given is None:
        text = os.environ.get(variable, "").lower()
        if text in _NO:
            return ""
        if text in _YES or text in words:
            return text or "on"
        raise MisuseError(f"{variable} is {text!r}; give {', '.join(('0', '1', *words))}")
    if isinstance(given, bool):
        return "on" if given else ""
    if isinstance(given, str) and given in words:
        return given
    raise WrongTypeError(
        f"{what} is {given!r}; give True, False{''.join(f', {word!r}' for word in words)} or None"
    )
