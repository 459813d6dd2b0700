"""The model catalogue: registered models, their versions, aliases and life cycle.

Versions are published from runs: `run.publish_model("arrival-delay", "model.pkl")`.
"""

from __future__ import annotations

from . import _arguments, _native
from ._connection import client as current_client
from ._errors import MisuseError, WrongTypeError
from ._native import FeatureViewUse, ModelFile, ModelVersion, RegisteredModel
from ._run_calls import download_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._types import PathLike

__all__ = [
    "FeatureViewUse",
    "ModelFile",
    "ModelVersion",
    "RegisteredModel",
    "delete_alias",
    "download",
    "get_model",
    "get_version",
    "list_models",
    "list_versions",
    "set_alias",
    "transition",
]


def get_model(name: str) -> RegisteredModel:
    """One registered model by name."""
    return _native.get_model(current_client(), _name(name)).wait()


def list_models() -> list[RegisteredModel]:
    """The registered models of the project, by name."""
    return _native.list_models(current_client()).wait()


def get_version(name: str, version: int | str | None = None) -> ModelVersion:
    """One version of a model: the newest, or by number, or by an alias such as `champion`."""
    return version_call(name, version).wait()


def list_versions(name: str) -> list[ModelVersion]:
    """The versions of a model, newest first."""
    return _native.list_model_versions(current_client(), _name(name)).wait()


def set_alias(name: str, alias: str, version: int | ModelVersion) -> RegisteredModel:
    """Points an alias at a version, whichever it pointed at before."""
    return alias_call(name, alias, version).wait()


def delete_alias(name: str, alias: str) -> RegisteredModel:
    """Removes an alias."""
    alias = _arguments.text(alias, "alias")
    return _native.delete_model_alias(current_client(), _name(name), alias).wait()


def transition(name: str, version: int | ModelVersion, stage: str, *, comment: str = "") -> ModelVersion:
    """Moves a version to another stage: DEVELOPMENT, STAGING, PRODUCTION or ARCHIVED.

    DEVELOPMENT and STAGING, STAGING and PRODUCTION lead to each other; each may go to ARCHIVED, and ARCHIVED back to
    DEVELOPMENT. The comment is kept in the lineage.
    """
    return transition_call(name, version, stage, comment).wait()


def download(version: ModelVersion, into: PathLike | None = None) -> str:
    """Downloads the file or directory of a version and returns where it is now; by default in a temporary directory."""
    return files_call(version, into).wait()


# Calls that both flavours make.


def _name(name: str) -> str:
    return _arguments.text(name, "the name of the model")


def _number(version: int | ModelVersion) -> int:
    if isinstance(version, ModelVersion):
        return version.version
    number = _arguments.integer(version, "version")
    if not 1 <= number < 2**32:
        raise MisuseError(f"version is {number}; versions are counted from 1")
    return number


def version_call(name: str, version: int | str | None) -> _native.Call[ModelVersion]:
    alias = number = None
    if isinstance(version, str):
        # Digits of other scripts than ours are digits to Python too.
        if version.isascii() and version.isdigit():
            number = _number(int(version))
        elif version != "latest":
            alias = _arguments.text(version, "version")
    elif version is not None:
        number = _number(version)
    return _native.get_model_version(current_client(), _name(name), number, alias)


def alias_call(name: str, alias: str, version: int | ModelVersion) -> _native.Call[RegisteredModel]:
    alias = _arguments.text(alias, "alias")
    return _native.set_model_alias(current_client(), _name(name), alias, _number(version))


def transition_call(
    name: str, version: int | ModelVersion, stage: str, comment: str
) -> _native.Call[ModelVersion]:
    return _native.transition_model_version(
        current_client(),
        _name(name),
        _number(version),
        _arguments.text(stage, "stage"),
        _arguments.optional_text(comment, "comment"),
    )


def files_call(version: ModelVersion, into: PathLike | None) -> _native.Call[str]:
    if not isinstance(version, ModelVersion):
        raise WrongTypeError(
            f"version is a {type(version).__name__}; give what get_version or publish_model returned"
        )
    return download_call(current_client(), version.run_id, version.artifact_path, into)
