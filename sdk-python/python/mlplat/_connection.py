"""The server and project that the functions of the module work with."""

from __future__ import annotations

from datetime import timedelta

from . import _arguments, _native
from ._errors import MisuseError, WrongTypeError

_current: _native.Client | None = None


def connect(
    url: str | None = None, project: str | None = None, *, timeout: float | timedelta | None = None
) -> _native.Client:
    """Says which server and project to work with; does not touch the network.

    Without arguments it is what `MLPLAT_URL` and `MLPLAT_PROJECT` say, by default `http://127.0.0.1:5000` and the
    project `default`; that is also what happens when it is not called at all. `timeout` is the time in seconds that a
    call may take, retries included.
    """
    global _current
    _current = make_client(url, project, timeout)
    return _current


def make_client(
    url: str | None, project: str | None, timeout: float | timedelta | None = None
) -> _native.Client:
    if isinstance(timeout, (int, float)):
        try:
            timeout = timedelta(seconds=timeout)
        except (OverflowError, ValueError):
            raise MisuseError(f"timeout is {timeout}; give seconds, e.g. 30") from None
    elif timeout is not None and not isinstance(timeout, timedelta):
        raise WrongTypeError(f"timeout is a {type(timeout).__name__}; give seconds or a timedelta")
    return _native.Client(
        None if url is None else _arguments.text(url, "url"),
        None if project is None else _arguments.text(project, "project"),
        None if timeout is None else _arguments.duration(timeout, "timeout"),
        f"mlplat-python/{_native.__version__}",
    )


def client() -> _native.Client:
    """The client of the last `connect`."""
    return _current or connect()


def is_same_project(one: _native.Client, other: _native.Client) -> bool:
    """Whether both work in the same project of the same server: what is of one of them exists for the other."""
    return (one.url.rstrip("/"), one.project) == (other.url.rstrip("/"), other.project)
