"""The model catalogue for asyncio; see :mod:`mlplat.models`."""

from __future__ import annotations

from .. import _arguments, _native
from .._connection import client as current_client
from ..models import alias_call, files_call, transition_call, version_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._native import ModelVersion, RegisteredModel
    from .._types import PathLike

__all__ = [
    "delete_alias",
    "download",
    "get_model",
    "get_version",
    "list_models",
    "list_versions",
    "set_alias",
    "transition",
]


async def get_model(name: str) -> RegisteredModel:
    """One registered model by name."""
    return await _native.get_model(current_client(), _arguments.text(name, "name"))


async def list_models() -> list[RegisteredModel]:
    """The registered models of the project, by name."""
    return await _native.list_models(current_client())


async def get_version(name: str, version: int | str | None = None) -> ModelVersion:
    """One version of a model: the newest, or by number, or by an alias such as `champion`."""
    return await version_call(name, version)


async def list_versions(name: str) -> list[ModelVersion]:
    """The versions of a model, newest first."""
    return await _native.list_model_versions(current_client(), _arguments.text(name, "name"))


async def set_alias(name: str, alias: str, version: int | ModelVersion) -> RegisteredModel:
    """Points an alias at a version, whichever it pointed at before."""
    return await alias_call(name, alias, version)


async def delete_alias(name: str, alias: str) -> RegisteredModel:
    """Removes an alias."""
    name, alias = _arguments.text(name, "name"), _arguments.text(alias, "alias")
    return await _native.delete_model_alias(current_client(), name, alias)


async def transition(
    name: str, version: int | ModelVersion, stage: str, *, comment: str = ""
) -> ModelVersion:
    """Moves a version to another stage; see :func:`mlplat.models.transition`."""
    return await transition_call(name, version, stage, comment)


async def download(version: ModelVersion, into: PathLike | None = None) -> str:
    """Downloads the file or directory of a version and returns where it is now."""
    return await files_call(version, into)
