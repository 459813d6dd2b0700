"""Artifacts of wandb: the files of `run.log_artifact`, which an offline run has somewhere on the machine.

Invariant: a file that is not there any more, or not what it was, is said. A log may be somebody else's: what it names of
this machine is taken only if it has the digest that the log has, and a list of files is read only where wandb keeps them.
What only refers to something elsewhere is kept in the description of its version, `artifacts/<name>/v0.json`, beside the
files of it in `artifacts/<name>/v0/`.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import _wandb_log as log
from ._local_files import is_below
from ._records import Placed, sentence_of
from ._wandb_history import json_of

# Number of the field of a record of wandb_internal.proto.
ARTIFACT = 8

_NAMED = 5


@dataclass
class _Entry:
    path: str
    digest: str = ""
    ref: str = ""
    local: str = ""
    size: int = 0


@dataclass
class Artifact:
    """One version of an artifact."""

    name: str = ""
    kind: str = ""
    digest: str = ""
    description: str = ""
    metadata: str = ""
    aliases: list[str] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    manifest: str = ""
    """Where a long list of files is, in a file of its own."""


def read_artifact(body: bytes) -> Artifact:
    """An artifact as the log has it."""
    found = Artifact()
    names = {4: "kind", 5: "name", 6: "digest", 7: "description", 8: "metadata"}
    for number, value in log.fields(body):
        if number in names:
            setattr(found, names[number], log.text(value))
        elif number == 11:
            found.aliases.append(log.text(value))
        elif number == 12:
            for inner, part in log.fields(log.message(value)):
                if inner == 4:
                    found.entries.append(_entry(log.message(part)))
                elif inner == 5:
                    found.manifest = log.text(part)
    return found


def _entry(body: bytes) -> _Entry:
    said = dict(log.fields(body))
    path, digest, ref, local = (log.text(said.get(number)) for number in (1, 2, 3, 6))
    return _Entry(path, digest, ref, local, log.signed(said.get(4)))


def files_of(
    artifacts: Sequence[Artifact], present: Mapping[str, int], places: Sequence[str], scratch: str
) -> Iterator[Placed | str]:
    """The files of all versions, those that are in the run already left aside.

    `places` are the folders of the run, `scratch` is for the descriptions.
    """
    places = [*places, os.path.join(_own("DATA"), "artifacts", "staging"), _own("CACHE")]
    versions: dict[str, list[str]] = {}
    for at, artifact in enumerate(artifacts):
        known = versions.setdefault(artifact.name, [])
        if artifact.digest in known:
            continue
        known.append(artifact.digest)
        target = f"artifacts/{artifact.name}/v{len(known) - 1}"
        try:
            entries = [*artifact.entries, *_listed(artifact.manifest, places)]
        except Exception as error:
            # It is a file from anywhere, with anything in it.
            yield f"the list of the files of artifact {artifact.name!r} cannot be read: {sentence_of(error)}"
            continue
        missing = []
        for entry in entries:
            if entry.ref or present.get(f"{target}/{entry.path}") == entry.size:
                continue
            if path := _found(entry):
                yield Placed(f"{target}/{entry.path}", path)
            else:
                missing.append(entry.path)
        described = os.path.join(scratch, f"artifact-{at}.json")
        with open(described, "w", encoding="utf-8") as file:
            json.dump(_description(artifact, entries), file, indent=2)
        yield Placed(f"{target}.json", described)
        if missing:
            names = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
            yield (
                f"{len(missing)} files of artifact {artifact.name!r} (v{len(known) - 1}) are not on this machine any more, "
                f"or were changed since: {names}"
            )


def _listed(manifest: str, places: Sequence[str]) -> Iterator[_Entry]:
    if not manifest:
        return
    if not any(is_below(manifest, place) for place in places):
        raise PermissionError(
            f"{manifest} is neither in the run's folder nor in those of wandb (WANDB_DATA_DIR, WANDB_CACHE_DIR)"
        )
    with gzip.open(manifest, "rt", encoding="utf-8") as file:
        for line in file:
            said = json.loads(line)
            digest, ref, local = (str(said.get(name) or "") for name in ("digest", "ref", "local_path"))
            yield _Entry(str(said["path"]), digest, ref, local, int(said.get("size") or 0))


def _found(entry: _Entry) -> str | None:
    """Where the file is: where it was put for the upload, or among those that were uploaded from this machine."""
    try:
        digest = base64.b64decode(entry.digest, validate=True).hex()
    except (binascii.Error, ValueError):
        return None
    for path in (entry.local, os.path.join(_own("CACHE"), "artifacts", "obj", "md5", digest[:2], digest[2:])):
        if path and os.path.isfile(path) and _is_same(path, digest):
            return path
    return None


def _own(kind: str) -> str:
    """The folder that wandb keeps its DATA or its CACHE in."""
    if said := os.environ.get(f"WANDB_{kind}_DIR"):
        return said
    if sys.platform == "darwin":
        place = os.path.expanduser(
            {"DATA": "~/Library/Application Support", "CACHE": "~/Library/Caches"}[kind]
        )
    else:
        usual = {"DATA": "~/.local/share", "CACHE": "~/.cache"}[kind]
        place = os.environ.get(f"XDG_{kind}_HOME") or os.path.expanduser(usual)
    return os.path.join(place, "wandb")


def _is_same(path: str, digest: str) -> bool:
    """Whether it has the content that was logged: an MD5 in hexadecimal digits, and no other digest."""
    found = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    except OSError:
        return False
    return found.hexdigest() == digest


def _description(artifact: Artifact, entries: Sequence[_Entry]) -> dict[str, Any]:
    """What wandb knows of a version beside its files."""
    return {
        "name": artifact.name,
        "type": artifact.kind,
        "aliases": artifact.aliases,
        "description": artifact.description,
        "metadata": json_of(artifact.metadata or "{}"),
        "digest": artifact.digest,
        "references": {entry.path: entry.ref for entry in entries if entry.ref},
    }
