"""Where a run was made: code, command, packages, machine.

It becomes tags (`mlplat.git.commit`, `mlplat.source.name`, …) and files under `environment/`, or in a folder beside it where
the process resumes the run. What is the same for the whole process is found out once, so that a search with a thousand
runs pays for it once.
"""

from __future__ import annotations

import json
import os
import platform
import select
import socket
import sys
import threading
import time

from ._masks import masked, masked_arguments, masked_diff

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

    from .._spool import Item

_MAX_DIFF = 1 << 20
_MAX_TAG = 5000
_GIT_TIMEOUT_S = 5.0

_lock = threading.Lock()
_found: tuple[dict[str, str], list[Item]] | None = None


_OF_CHILDREN = ("mlplat.source.name", "mlplat.source.type", "mlplat.git.commit", "mlplat.git.dirty")


def environment(of_child: bool, suffix: str = "") -> tuple[dict[str, str], list[Item]]:
    """Tags and files that say where this process runs. A child would only repeat most of what its parent has."""
    global _found
    with _lock:
        if _found is None:
            _found = _look()
    tags, files = _found
    if of_child:
        return _tags_of_child(tags), []
    return tags, [(content, f"environment{suffix}/{name}") for content, name in files]


def known_tags(of_child: bool) -> dict[str, str]:
    """The tags, where this process has looked already; it waits for nothing."""
    tags = _found[0] if _found is not None else {}
    return _tags_of_child(tags) if of_child else tags


def _tags_of_child(tags: dict[str, str]) -> dict[str, str]:
    return {key: tags[key] for key in _OF_CHILDREN if key in tags}


def _look() -> tuple[dict[str, str], list[Item]]:
    kind, name = source()
    command = masked_arguments(list(getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]))
    git, diff = _git(os.path.dirname(os.path.abspath(name))) if os.path.isfile(name) else ({}, b"")
    if not git:
        git, diff = _git(os.getcwd())
    gpus = _gpus()
    tags = {
        "mlplat.source.name": name,
        "mlplat.source.type": kind,
        "mlplat.command": " ".join(_quoted(part) for part in command),
        "mlplat.python.version": platform.python_version(),
        "mlplat.host.name": socket.gethostname(),
        "mlplat.host.os": platform.platform(),
        "mlplat.host.cpus": str(os.cpu_count() or ""),
        "mlplat.host.gpus": ", ".join(gpus),
        **{f"mlplat.git.{key}": value for key, value in git.items()},
    }
    packages = _packages()
    facts = {
        "source": {"type": kind, "name": name},
        "command": command,
        "directory": os.getcwd(),
        "python": {"version": sys.version, "executable": sys.executable, "prefix": sys.prefix},
        "host": {
            "name": socket.gethostname(),
            "os": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "gpus": gpus,
        },
        "git": git,
        "packages": dict(packages),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    files: list[Item] = [
        (text.encode("utf-8", "replace"), "environment.json"),
        (
            "".join(f"{name}=={version}\n" for name, version in packages).encode(),
            "requirements.txt",
        ),
    ]
    if diff:
        files.append((diff, "git.diff"))
    return {key: _clean(value) for key, value in tags.items() if value}, files


def _clean(text: str) -> str:
    """What a tag can hold: names of files and arguments need not be Unicode."""
    return text[:_MAX_TAG].encode("utf-8", "replace").decode().replace("\0", "?")


def source() -> tuple[str, str]:
    """What kind of program this is, and its name."""
    if name := _notebook():
        return "NOTEBOOK", name
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and getattr(spec, "name", None) not in (None, "__main__"):
        return "MODULE", spec.name.removesuffix(".__main__")
    path = getattr(main, "__file__", None)
    if isinstance(path, str):
        return "SCRIPT", path
    return "INTERACTIVE", os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] != "-c" else "-c"


def _notebook() -> str:
    """Name of the notebook that the kernel belongs to, as far as its surroundings tell."""
    from .._place import in_notebook

    if not in_notebook():
        return ""
    main = sys.modules.get("__main__")
    known = getattr(main, "__vsc_ipynb_file__", None) or os.environ.get("JPY_SESSION_NAME")
    return str(known) if known else "notebook"


def _quoted(argument: str) -> str:
    import shlex

    return shlex.quote(argument)


def _packages() -> list[tuple[str, str]]:
    import importlib.metadata as metadata

    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            name, version = distribution.metadata["Name"], distribution.version
        except Exception:
            continue  # a broken installation of another package
        if name and version:
            found.setdefault(name, version)
    return sorted(found.items(), key=lambda item: item[0].lower())


def _git(directory: str) -> tuple[dict[str, str], bytes]:
    """Commit, branch, remote and whether something is not committed; and what that is."""
    commit = _run_git(directory, "rev-parse", "HEAD").decode(errors="replace").strip()
    if not commit:
        return {}, b""
    branch = _run_git(directory, "rev-parse", "--abbrev-ref", "HEAD").decode(errors="replace").strip()
    remote = _run_git(directory, "config", "--get", "remote.origin.url").decode(errors="replace").strip()
    status = _run_git(directory, "status", "--porcelain", "--untracked-files=no")
    diff = b""
    if status.strip():
        diff = masked_diff(_git_diff(directory))
    git = {
        "commit": commit,
        "branch": "" if branch == "HEAD" else branch,
        "remote": masked(remote),
        "dirty": "true" if status.strip() else "false",
    }
    return {key: value for key, value in git.items() if value}, diff


def _git_diff(directory: str) -> bytes:
    """What is not committed, so that it can be applied again: with binary files, unless they are too large."""
    plain = ("diff", "HEAD", "--no-color", "--no-ext-diff")
    diff = _run_git(directory, *plain, "--binary", limit=_MAX_DIFF)
    # A large binary file is not to push out the changes of the code.
    return diff if 0 < len(diff) <= _MAX_DIFF else _run_git(directory, *plain, limit=_MAX_DIFF)


def _run_git(directory: str, *arguments: str, limit: int = 1 << 20) -> bytes:
    """What git says, at most so many bytes of it; nothing where it fails, hangs or is missing."""
    import subprocess

    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        with subprocess.Popen(
            ["git", "-C", directory, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
        ) as process:
            said = _read(process, limit + 1, time.monotonic() + _GIT_TIMEOUT_S)
            if said is None or len(said) > limit:
                process.kill()
                return b"" if said is None else said[:limit] + b"\n... cut off: the difference is longer\n"
        return said if process.returncode == 0 else b""
    except OSError:
        return b""


def _read(process: subprocess.Popen[bytes], limit: int, until: float) -> bytes | None:
    """All output up to a limit; None when it is not there in time. Without a thread, as there may be none at exit."""
    assert process.stdout is not None
    said = b""
    while len(said) < limit:
        left = until - time.monotonic()
        # Where pipes cannot be waited for, git is trusted to end.
        if os.name == "posix" and (left <= 0 or not select.select([process.stdout], [], [], left)[0]):
            return None
        block = os.read(process.stdout.fileno(), 1 << 16)
        if not block:
            break
        said += block
    return said


def _gpus() -> list[str]:
    """Names of the GPUs, where the driver tells them as files."""
    root = "/proc/driver/nvidia/gpus"
    names: list[str] = []
    try:
        for gpu in sorted(os.listdir(root)):
            with open(os.path.join(root, gpu, "information"), encoding="utf-8", errors="replace") as file:
                names += [line.split(":", 1)[1].strip() for line in file if line.startswith("Model:")]
    except OSError:
        pass
    return names
