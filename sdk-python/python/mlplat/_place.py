"""Whether a person may be looking, and where."""

from __future__ import annotations

import os
import sys


def quiet() -> bool:
    """Whether this is a continuous-integration job, which wants no moving pictures."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def in_notebook() -> bool:
    """Whether the code runs in a kernel of Jupyter, or one that acts like it."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython, "get_ipython"):
        return False
    shell = ipython.get_ipython()
    # A terminal shell has no kernel.
    return shell is not None and getattr(shell, "kernel", None) is not None
