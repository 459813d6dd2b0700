"""What is published as a version of a model: its files, and no others.

Files of a run are replaced, and not deleted. So a model that was logged under the name of another one has what is left of
that one beside it, and would be published with it.
"""

from __future__ import annotations

import json
import os

from .. import _arguments, _native
from .._errors import FailedPreconditionError
from . import _manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Any

    from .._active import ActiveRunBase
    from .._types import PathLike

_DELIVERY_S = 30.0


def publish_steps(
    run: ActiveRunBase,
    name: str,
    path: PathLike,
    description: str = "",
    tags: Mapping[str, object] | None = None,
    logged_at: str | None = None,
) -> Generator[_native.Call[Any], Any, _native.ModelVersion]:
    """Publishes a local file or directory (which is in the run at `logged_at` already), or an artifact of the run."""
    local = _arguments.path(path, "path")
    place = local.rstrip("/") if logged_at is None and not os.path.exists(local) else logged_at
    if place is not None:
        yield from _refuse_remains(run, place)
    return (yield run._publish_call(name, path, description, tags))


def _refuse_remains(run: ActiveRunBase, path: str) -> Generator[_native.Call[Any], Any, None]:
    # Without a server this raises at once; with one, what was logged comes to it first.
    yield _native.list_artifacts(run._client, run.id, path)
    yield run._flush_call(_DELIVERY_S)
    found = {file.path: file for file in (yield _native.list_artifacts(run._client, run.id, path))}
    manifest = found.get(f"{path}/{_manifest.NAME}")
    if manifest is None:
        return
    content = yield _native.read_artifact(run._client, run.id, manifest.path, manifest.sha256, 0, None)
    try:
        wanted = {f"{path}/{file['path']}" for file in json.loads(content)["files"]} | {manifest.path}
    except (ValueError, KeyError, TypeError):
        return  # no model of ours
    remains = sorted(file.removeprefix(f"{path}/") for file in found.keys() - wanted)
    # An example does no harm, and autologging may have logged the same model with one.
    remains = [file for file in remains if not file.startswith("input_example.")]
    if remains:
        shown = ", ".join(remains[:5]) + (" …" if len(remains) > 5 else "")
        raise FailedPreconditionError(
            f"`{path}` of the run holds {shown} of another model that was logged there before, and is not published with "
            "it; log the model under a name of its own"
        )
