"""What a log of wandb says of where a run was made: code, command, machine.

Invariant: it gets the tags and the file that runs of mlplat have for it, only of what the log tells, and with the same
secrets hidden.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from typing import Any

from .._companions._masks import masked, masked_arguments
from . import _wandb_log as log
from ._records import Placed

# Number of the field of a record of wandb_internal.proto.
ENVIRONMENT = 26

FILE = "environment/environment.json"

_KINDS = {".py": "SCRIPT", ".ipynb": "NOTEBOOK"}


@dataclass
class Environment:
    """What is known of it; wandb tells it in several records."""

    os: str = ""
    python: str = ""
    program: str = ""
    root: str = ""
    host: str = ""
    executable: str = ""
    gpu: str = ""
    remote: str = ""
    commit: str = ""
    cpus: int = 0
    gpu_count: int = 0
    arguments: list[str] = field(default_factory=list)
    gpus: list[str] = field(default_factory=list)

    def read(self, body: bytes) -> None:
        """Takes over what a record says."""
        texts = {1: "os", 2: "python", 6: "program", 11: "root", 12: "host", 14: "executable", 18: "gpu"}
        arguments = []
        for number, value in log.fields(body):
            if number in texts:
                setattr(self, texts[number], log.text(value) or getattr(self, texts[number]))
            elif number == 5:
                arguments.append(log.text(value))
            elif number == 9:
                self.read_git(log.message(value))
            elif number == 17:
                # As `os.cpu_count` counts them.
                self.cpus = log.signed(value)
            elif number == 16:
                self.cpus = self.cpus or log.signed(value)
            elif number == 19:
                self.gpu_count = log.signed(value)
            elif number == 24:
                self.gpus.append(log.text(dict(log.fields(log.message(value))).get(1)))
        self.arguments = arguments or self.arguments

    def read_git(self, body: bytes) -> None:
        """Takes over the commit and where it is from."""
        said = dict(log.fields(body))
        self.remote = log.text(said.get(1)) or self.remote
        self.commit = log.text(said.get(2)) or self.commit

    def _command(self) -> list[str]:
        command = [self.executable, self.program, *self.arguments]
        return masked_arguments([part for part in command if part]) if self.program else []

    def _gpus(self) -> list[str]:
        return [name for name in self.gpus if name] or [self.gpu] * (
            max(self.gpu_count, 1) if self.gpu else 0
        )

    def _python(self) -> str:
        """`CPython 3.11.7` is 3.11.7 in runs of mlplat."""
        return self.python.rpartition(" ")[2]

    def tags(self) -> dict[str, str]:
        """As `_companions._environment` names them."""
        tags = {
            "mlplat.source.name": self.program,
            "mlplat.source.type": _KINDS.get(os.path.splitext(self.program)[1].lower(), ""),
            "mlplat.command": shlex.join(self._command()),
            "mlplat.python.version": self._python(),
            "mlplat.host.name": self.host,
            "mlplat.host.os": self.os,
            "mlplat.host.cpus": str(self.cpus or ""),
            "mlplat.host.gpus": ", ".join(self._gpus()),
            "mlplat.git.commit": self.commit,
            "mlplat.git.remote": masked(self.remote),
        }
        return {name: value for name, value in tags.items() if value}

    def file(self, scratch: str) -> Placed | None:
        """The same as a file."""
        facts: dict[str, Any] = {
            "source": {"type": self.tags().get("mlplat.source.type", ""), "name": self.program},
            "command": self._command(),
            "directory": self.root,
            "python": {"version": self._python(), "executable": self.executable},
            "host": {"name": self.host, "os": self.os, "cpus": self.cpus, "gpus": self._gpus()},
            "git": {"commit": self.commit, "remote": masked(self.remote)},
        }
        known = {name: _known(part) if isinstance(part, dict) else part for name, part in facts.items()}
        known = _known(known)
        if not known:
            return None
        path = os.path.join(scratch, "environment.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=2, ensure_ascii=False)
        return Placed(FILE, path)


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}
