"""Definitions of features as plain objects that do not change; `apply` sends them to the server."""

from __future__ import annotations

from datetime import timedelta

from .. import _arguments
from .._errors import MisuseError, WrongTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from .._types import PathLike

_ARROW_TYPES: dict[type, str] = {str: "Utf8", int: "Int64", float: "Float64", bool: "Boolean"}


class _Definition:
    """What all definitions have in common."""

    __slots__ = ("applied_at", "applied_by", "description", "name", "owner", "tags", "version")
    _shown: tuple[str, ...] = ()

    name: str
    """Name, unique among its kind in the project."""
    description: str
    """What it is for."""
    tags: dict[str, str]
    """Free labels."""
    owner: str
    """Who answers for it."""
    version: int
    """Version, counted from 1; 0 for what was not read from the server."""
    applied_at: datetime | None
    """When this version was applied."""
    applied_by: str
    """Who applied it."""

    def _describe(self, name: str, description: str, tags: Mapping[str, object] | None, owner: str) -> None:
        self._set(
            name=name,
            description=_arguments.optional_text(description, "description"),
            tags=_arguments.labels(tags, "tags"),
            owner=_arguments.optional_text(owner, "owner"),
            version=0,
            applied_at=None,
            applied_by="",
        )

    def _set(self, **fields: object) -> None:
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def _applied(self, facts: dict[str, Any]) -> None:
        """Takes over what the server says of the version."""
        self._set(**{name: facts[name] for name in ("version", "applied_at", "applied_by")})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change; make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change; make another one")

    def _key(self) -> tuple[object, ...]:
        fields = ("name", *self._shown, "description", "owner")
        return (*(getattr(self, field) for field in fields), tuple(sorted(self.tags.items())))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __repr__(self) -> str:
        shown = [(field, getattr(self, field)) for field in (*self._shown, "description", "owner")]
        facts = [f"{field}={value!r}" for field, value in shown if value not in (None, (), {}, "")]
        version = [f"version={self.version}"] if self.version else []
        return f"{type(self).__name__}({', '.join([repr(self.name), *facts, *version])})"

    def _repr_html_(self) -> str:
        import html

        fields = ("name", *self._shown, "description", "owner", "tags", "version")
        rows = "".join(
            f"<tr><th style='text-align:left'>{field}</th><td>{html.escape(_plain(getattr(self, field)))}</td></tr>"
            for field in fields
            if getattr(self, field)
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(_plain(item) for item in value)
    return value.name if isinstance(value, _Definition) else str(value)


class Entity(_Definition):
    """A thing that features describe, identified by one or more key columns: `Entity("origin", join_keys=["origin"])`."""

    __slots__ = ("join_keys",)
    _shown = ("join_keys",)

    join_keys: tuple[str, ...]
    """Its key columns."""

    def __init__(
        self,
        name: str,
        *,
        join_keys: Sequence[str] | str | None = None,
        description: str = "",
        tags: Mapping[str, object] | None = None,
        owner: str = "",
    ) -> None:
        self._describe(_arguments.text(name, "the name of an entity"), description, tags, owner)
        keys = [name] if join_keys is None else _arguments.texts(join_keys, "join_keys")
        if not keys:
            raise MisuseError(f"entity `{name}` has no join_keys; name at least one column")
        self._set(join_keys=tuple(keys))


class _Source(_Definition):
    __slots__ = ("created", "field_mapping", "path", "query", "timestamp")

    timestamp: str | None
    """Column with the event time; None: the rows are valid always."""
    created: str | None
    """Column with the time the row was written, which decides among rows of one event time."""
    field_mapping: dict[str, str]
    """Renames columns before everything else: name in the source -> name from here on."""

    def _columns(
        self,
        timestamp: str | None,
        created: str | None,
        field_mapping: Mapping[str, str] | None,
    ) -> None:
        if created is not None and timestamp is None:
            raise MisuseError("created= decides among rows of one event time, so timestamp= is needed too")
        self._set(
            timestamp=None if timestamp is None else _arguments.text(timestamp, "timestamp"),
            created=None if created is None else _arguments.text(created, "created"),
            field_mapping=_arguments.labels(field_mapping, "field_mapping"),
        )


class ParquetSource(_Source):
    """Parquet files that exist already: a path or glob that the server can read, or `s3://bucket/key` with globs.

    Relative paths are made absolute here. The name is by default that of the file.
    """

    __slots__ = ()
    _shown = ("path", "timestamp", "created", "field_mapping")

    path: str
    """Absolute path, glob or address."""

    def __init__(
        self,
        path: PathLike,
        *,
        timestamp: str | None = None,
        created: str | None = None,
        name: str | None = None,
        field_mapping: Mapping[str, str] | None = None,
        description: str = "",
        tags: Mapping[str, object] | None = None,
        owner: str = "",
    ) -> None:
        absolute = _arguments.absolute(path)
        if name is None:
            stem = absolute.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
            stem = stem[: stem.rindex(".")] if "." in stem[1:] else stem
            if not stem or any(sign in stem for sign in "*?[]{}"):
                raise MisuseError(f"the source {absolute} needs a name: give it one with name=…")
            name = stem
        self._describe(_arguments.text(name, "the name of a source"), description, tags, owner)
        self._columns(timestamp, created, field_mapping)
        self._set(path=absolute, query=None)


class SqlSource(_Source):
    """A SELECT over other sources and views of the project, which it sees as tables by name.

    The name is by default that of the view that has it as its source.
    """

    __slots__ = ()
    _shown = ("query", "timestamp", "created", "field_mapping")

    query: str
    """One SELECT statement."""

    def __init__(
        self,
        query: str,
        *,
        timestamp: str | None = None,
        created: str | None = None,
        name: str | None = None,
        field_mapping: Mapping[str, str] | None = None,
        description: str = "",
        tags: Mapping[str, object] | None = None,
        owner: str = "",
    ) -> None:
        self._describe(_arguments.optional_text(name, "the name of a source"), description, tags, owner)
        self._columns(timestamp, created, field_mapping)
        self._set(path=None, query=_arguments.text(query, "the query of a source"))

    def _named(self, name: str) -> SqlSource:
        if self.name:
            return self
        return SqlSource(
            self.query,
            timestamp=self.timestamp,
            created=self.created,
            name=name,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )


class FeatureView(_Definition):
    """Features of an entity over time: the columns of a source, by its keys.

    `ttl` is how long a row counts after its event time, both ends inclusive; by default always. Without `features`
    it has all columns of the source but keys and timestamps. Without `entities` its newest row applies to all.
    """

    __slots__ = ("entities", "features", "join_keys", "online", "schema", "source", "ttl")
    _shown = ("entities", "features", "ttl", "source")

    entities: tuple[Entity | str, ...]
    """Its entities, as objects or names."""
    source: ParquetSource | SqlSource | str
    """Its source, as an object or a name."""
    ttl: timedelta | None
    """How long a row counts after its event time; None: always."""
    features: tuple[str, ...]
    """Names of its features; empty: all columns of the source but keys and timestamps."""
    online: bool
    """False when it must not be materialized."""
    schema: dict[str, str]
    """Features with their Arrow types, as the server knows them."""
    join_keys: tuple[str, ...]
    """Key columns, as the server knows them."""

    def __init__(
        self,
        name: str,
        *,
        source: ParquetSource | SqlSource | str,
        entities: Sequence[Entity | str] | Entity | str = (),
        ttl: timedelta | None = None,
        features: Sequence[str] | None = None,
        online: bool = True,
        description: str = "",
        tags: Mapping[str, object] | None = None,
        owner: str = "",
    ) -> None:
        self._describe(_arguments.text(name, "the name of a feature view"), description, tags, owner)
        if ":" in name or "__" in name:
            raise MisuseError(
                f"`{name}` is no good name for a feature view: `:` and `__` stand between a view and its features"
            )
        if isinstance(entities, (Entity, str)):
            entities = (entities,)
        for entity in _arguments.items(entities, "entities"):
            if not isinstance(entity, (Entity, str)):
                raise WrongTypeError(
                    f"feature view `{name}`: an entity is a {type(entity).__name__}; give an Entity or its name"
                )
        if not isinstance(source, (ParquetSource, SqlSource, str)):
            raise WrongTypeError(
                f"feature view `{name}`: source is a {type(source).__name__}; give a ParquetSource, a SqlSource or a name"
            )
        self._set(
            entities=tuple(entities),
            source=source._named(name) if isinstance(source, SqlSource) else source,
            ttl=None if ttl is None else _arguments.duration(ttl, f"ttl of `{name}`"),
            features=() if features is None else tuple(_arguments.texts(features, "features")),
            online=_arguments.flag(online, f"online of `{name}`"),
            schema={},
            join_keys=(),
        )

    @property
    def entity_names(self) -> list[str]:
        """Names of its entities."""
        return [entity.name if isinstance(entity, Entity) else entity for entity in self.entities]

    @property
    def source_name(self) -> str:
        """Name of its source."""
        return self.source if isinstance(self.source, str) else self.source.name

    @property
    def feature_names(self) -> list[str]:
        """Names of its features, where they are known here."""
        return list(self.features)

    @property
    def view_name(self) -> str:
        """Its own name; an alias has that of the view it stands for."""
        return self.name

    def __getitem__(self, features: str | Sequence[str]) -> FeatureSelection:
        """Some of its features, for a retrieval: `weather["temp"]`, `weather[["temp", "wind_speed"]]`."""
        return FeatureSelection(self, features)

    def with_join_keys(self, join_keys: Mapping[str, str], *, name: str | None = None) -> FeatureViewAlias:
        """The view joined under other columns: key of the view -> column of the entity table.

        `name` is what its features are asked for under: `name:feature`.
        """
        return FeatureViewAlias(self, join_keys, name)


class FeatureViewAlias:
    """A feature view joined under other key columns, and under a name of its own."""

    __slots__ = ("join_keys", "name", "view")

    def __init__(self, view: FeatureView, join_keys: Mapping[str, str], name: str | None = None) -> None:
        if not isinstance(view, FeatureView):
            raise WrongTypeError(f"view is a {type(view).__name__}; give a FeatureView")
        self.view = view
        """The view."""
        self.name = view.name if name is None else _arguments.text(name, "the name of an alias")
        """Name that retrievals use."""
        self.join_keys = {
            key: _arguments.text(column, f"the column for `{key}`")
            for key, column in _arguments.labels(join_keys, "join_keys").items()
        }
        """Key column of the view -> column of the entity table."""

    @property
    def view_name(self) -> str:
        """Name of the view it stands for."""
        return self.view.name

    @property
    def feature_names(self) -> list[str]:
        """Names of the view's features, where they are known here."""
        return self.view.feature_names

    def __getitem__(self, features: str | Sequence[str]) -> FeatureSelection:
        """Some of its features, for a retrieval."""
        return FeatureSelection(self, features)

    def __repr__(self) -> str:
        return f"FeatureViewAlias({self.name!r}, view={self.view.name!r}, join_keys={self.join_keys!r})"


class FeatureSelection:
    """Some features of a view, for a retrieval; made by `view["feature"]`."""

    __slots__ = ("feature_names", "view")

    def __init__(self, view: FeatureView | FeatureViewAlias, features: str | Sequence[str]) -> None:
        if not isinstance(view, (FeatureView, FeatureViewAlias)):
            raise WrongTypeError(f"view is a {type(view).__name__}; give a FeatureView")
        self.view = view
        """The view, or its alias."""
        self.feature_names = _arguments.texts(features, "features")
        """Names of the features."""
        known = view.feature_names
        for name in self.feature_names:
            if known and name not in known:
                raise MisuseError(
                    f"feature view `{view.view_name}` has no feature `{name}`; it has {', '.join(known)}"
                )

    def __repr__(self) -> str:
        return f"{self.view.name}[{', '.join(self.feature_names)}]"


class OnDemandFeatureView(_Definition):
    """Features computed by SQL when they are asked for, the same way for training sets and online requests.

    `features` are SQL expressions over the names of the inputs and request columns:
    `OnDemandFeatureView("speed", inputs=["trip:distance"], request_columns={"hours": float},
    features={"kmh": "distance / hours"})`.
    """

    __slots__ = ("features", "inputs", "request_columns")
    _shown = ("inputs", "request_columns", "features")

    inputs: tuple[str | FeatureView | FeatureSelection, ...]
    """Features it reads."""
    request_columns: dict[str, str]
    """Columns that the request must have, with their Arrow types."""
    features: dict[str, str]
    """Feature -> expression."""

    def __init__(
        self,
        name: str,
        *,
        features: Mapping[str, str],
        inputs: Sequence[str | FeatureView | FeatureSelection] = (),
        request_columns: Mapping[str, str | type] | None = None,
        description: str = "",
        tags: Mapping[str, object] | None = None,
        owner: str = "",
    ) -> None:
        self._describe(_arguments.text(name, "the name of a feature view"), description, tags, owner)
        expressions = _arguments.labels(features, "features")
        if not expressions:
            raise MisuseError(f"on-demand feature view `{name}` has no features")
        columns: dict[str, str] = {}
        for column, kind in (request_columns or {}).items():
            arrow = kind if isinstance(kind, str) else _ARROW_TYPES.get(kind)
            if arrow is None:
                raise WrongTypeError(
                    f"request column `{column}`: give str, int, float, bool or the name of an Arrow type"
                )
            columns[column] = arrow
        self._set(features=expressions, inputs=tuple(inputs), request_columns=columns)

    @property
    def input_names(self) -> list[str]:
        """Features it reads, as `view:feature`."""
        return spelled_out(self.inputs, f"the inputs of `{self.name}`")

    @property
    def expressions(self) -> list[tuple[str, str]]:
        """Features with their expressions."""
        return list(self.features.items())

    @property
    def feature_names(self) -> list[str]:
        """Names of its features."""
        return list(self.features)


class FeatureService(_Definition):
    """A named list of features, as a model uses it: `FeatureService("delays", [weather, "busy:n"])`."""

    __slots__ = ("features",)
    _shown = ("features",)

    features: tuple[str | FeatureView | FeatureSelection | OnDemandFeatureView, ...]
    """Its features."""

    def __init__(
        self,
        name: str,
        features: Sequence[str | FeatureView | FeatureSelection | OnDemandFeatureView],
        *,
        description: str = "",
        tags: Mapping[str, object] | None = None,
        owner: str = "",
    ) -> None:
        self._describe(_arguments.text(name, "the name of a feature service"), description, tags, owner)
        self._set(features=tuple(_arguments.items(features, "features")))

    @property
    def feature_names(self) -> list[str]:
        """Its features, as `view:feature`."""
        return spelled_out(self.features, f"the features of `{self.name}`")


def spelled_out(wanted: Sequence[object], what: str) -> list[str]:
    """Features as `view:feature`, where they can be known without the server."""
    names: list[str] = []
    for item in wanted:
        if isinstance(item, str):
            names.append(_arguments.text(item, f"one of {what}"))
        elif isinstance(item, FeatureSelection):
            names += [f"{item.view.name}:{feature}" for feature in item.feature_names]
        elif isinstance(item, (FeatureView, OnDemandFeatureView)) and item.feature_names:
            names += [f"{item.name}:{feature}" for feature in item.feature_names]
        elif isinstance(item, FeatureView):
            raise MisuseError(
                f"{what}: feature view `{item.name}` does not list its features; name those that are meant, e.g. "
                f'`{item.name}["…"]`'
            )
        else:
            raise WrongTypeError(f"{what}: give `view:feature`, not a {type(item).__name__}")
    return names
