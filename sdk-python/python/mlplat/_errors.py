"""The exceptions of mlplat: one class for each way in which a call can fail, all under :class:`MlplatError`."""

from __future__ import annotations


class FieldViolation:
    """One bad field of a request."""

    __slots__ = ("description", "field")

    field: str
    """Path of the field, e.g. ``metrics[0].key``."""
    description: str
    """What is wrong with it, and what to do."""

    def __init__(self, field: str, description: str) -> None:
        self.field = field
        self.description = description

    def __repr__(self) -> str:
        return f"FieldViolation({self.field!r}, {self.description!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FieldViolation):
            return NotImplemented
        return (self.field, self.description) == (other.field, other.description)

    def __hash__(self) -> int:
        return hash((self.field, self.description))


class MlplatError(Exception):
    """Whatever goes wrong in mlplat is one of the classes below this one; its text says what to do."""

    reason: str
    """Stable identifier of the cause, e.g. ``RUN_NOT_FOUND``; where there is none, the name of the class of error."""
    violations: list[FieldViolation]
    """All bad fields at once, for invalid requests."""
    request_id: str
    """Id of the request as in the server's log; empty where nothing reached a server."""
    metadata: dict[str, str]
    """Further facts, e.g. the name of the resource."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        violations: list[FieldViolation] | None = None,
        request_id: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.violations = violations or []
        self.request_id = request_id
        self.metadata = metadata or {}

    def __str__(self) -> str:
        # Some of the classes are OSErrors too, whose text would depend on errno.
        return str(self.args[0]) if self.args else ""


class NotFoundError(MlplatError, LookupError):
    """The thing does not exist, or you may not see it."""


class AlreadyExistsError(MlplatError):
    """The name is taken."""


class InvalidArgumentError(MlplatError, ValueError):
    """The server refuses the request; ``violations`` names the fields."""


class FailedPreconditionError(MlplatError):
    """The request is right, but the state of things does not allow it: a run that has ended, a file that changed."""


class AbortedError(MlplatError):
    """The change lost against a concurrent one; try it again."""


class PermissionDeniedError(MlplatError):
    """You may not do this."""


class UnauthenticatedError(MlplatError):
    """The server does not know who you are."""


class ResourceExhaustedError(MlplatError):
    """A limit was hit: message size, rate, quota, memory or disk space."""


class UnavailableError(MlplatError, ConnectionError):
    """The server cannot be reached or is not ready; all retries are used up."""


class DeadlineExceededError(MlplatError, TimeoutError):
    """The call took longer than its deadline."""


class CancelledError(MlplatError):
    """The call was cancelled."""


class UnimplementedError(MlplatError):
    """The server is older than this package and does not have the call."""


class DataLossError(MlplatError):
    """What arrived is not complete or does not fit its digest."""


class InternalError(MlplatError):
    """The server failed; its log has the cause under ``request_id``."""


class MisuseError(MlplatError, ValueError):
    """This package was used wrongly; nothing was sent."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "MISUSE",
        violations: list[FieldViolation] | None = None,
        request_id: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            message, reason=reason, violations=violations, request_id=request_id, metadata=metadata
        )


class WrongTypeError(MisuseError, TypeError):
    """A value is of a type that cannot be used here; nothing was sent."""


class MissingPackageError(MisuseError, ImportError):
    """A package that is needed only for this is not installed."""


class NoActiveRunError(MisuseError):
    """A function of the module needs an active run, and there is none."""


class FileError(MlplatError, OSError):
    """A local file could not be read or written."""


class ArrowError(MlplatError, ValueError):
    """A table could not be read, converted or sent."""
