"""What takes several calls, one after the other: a generator yields them and is sent their answers, so that both APIs can
drive it. An error of a call ends it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, TypeVar

    from . import _native

    T = TypeVar("T")


def drive(steps: Generator[_native.Call[Any], Any, T]) -> T:
    """Makes the calls one after the other, blocking."""
    answer = None
    try:
        while True:
            answer = steps.send(answer).wait()
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


async def drive_async(steps: Generator[_native.Call[Any], Any, T]) -> T:
    """As :func:`drive`, for asyncio."""
    answer = None
    try:
        while True:
            answer = await steps.send(answer)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()
