"""The calls of the feature store, described once for the blocking and the async API."""

from __future__ import annotations

import sys

from .. import _active, _arguments, _native
from .._connection import client as current_client
from .._errors import MisuseError, WrongTypeError
from .._table import OnlineFeatures, TrainingSet
from ._definitions import (
    Entity,
    FeatureSelection,
    FeatureService,
    FeatureView,
    FeatureViewAlias,
    OnDemandFeatureView,
    ParquetSource,
    SqlSource,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .._types import Definition, TableLike, Wanted, When


def apply(
    definitions: Iterable[Definition] | Definition, prune: bool, dry_run: bool, force: bool
) -> _native.Call[_native.Diff]:
    """The definitions sorted by kind, with the entities and sources that views bring along."""
    if isinstance(
        definitions,
        (Entity, ParquetSource, SqlSource, FeatureView, OnDemandFeatureView, FeatureService),
    ):
        definitions = [definitions]
    entities: dict[str, Entity] = {}
    sources: dict[str, ParquetSource | SqlSource] = {}
    views: dict[str, FeatureView] = {}
    on_demand: dict[str, OnDemandFeatureView] = {}
    services: dict[str, FeatureService] = {}
    for definition in _arguments.items(definitions, "definitions"):
        if isinstance(definition, Entity):
            _add(entities, definition, "entities")
        elif isinstance(definition, (ParquetSource, SqlSource)):
            if not definition.name:
                raise MisuseError("a SqlSource that is no view's needs a name: give it name=…")
            _add(sources, definition, "sources")
        elif isinstance(definition, FeatureView):
            _add(views, definition, "feature views")
        elif isinstance(definition, OnDemandFeatureView):
            _add(on_demand, definition, "on-demand feature views")
        elif isinstance(definition, FeatureService):
            _add(services, definition, "feature services")
        else:
            raise WrongTypeError(
                f"apply takes entities, sources, feature views and services, not a {type(definition).__name__}"
            )
    for view in views.values():
        for entity in view.entities:
            if isinstance(entity, Entity):
                _add(entities, entity, "entities")
        if not isinstance(view.source, str):
            _add(sources, view.source, "sources")
    call = _native.apply(
        current_client(),
        list(entities.values()),
        list(sources.values()),
        list(views.values()),
        list(on_demand.values()),
        list(services.values()),
        _arguments.flag(prune, "prune"),
        _arguments.flag(dry_run, "dry_run"),
        _arguments.flag(force, "force"),
    )
    return call.then(_shown)


def _add(known: dict[str, Any], definition: Definition, kind: str) -> None:
    before = known.setdefault(definition.name, definition)
    if before != definition:
        raise MisuseError(
            f"two different {kind} are named `{definition.name}`; give one of them another name"
        )


def _shown(diff: _native.Diff) -> _native.Diff:
    print(diff, file=sys.stderr)
    return diff


def resolve(
    features: Sequence[Wanted] | Wanted, aliases: Sequence[FeatureViewAlias]
) -> tuple[list[str | tuple[str, str]], list[FeatureViewAlias]]:
    """What a retrieval asks for: names as they are, and (prefix, view) for all features of a view."""
    single = (str, FeatureView, FeatureViewAlias, FeatureSelection, OnDemandFeatureView, FeatureService)
    if isinstance(features, single):
        features = [features]
    wanted: list[str | tuple[str, str]] = []
    used: dict[str, FeatureViewAlias] = {}
    for alias in _arguments.items(aliases, "aliases"):
        if not isinstance(alias, FeatureViewAlias):
            raise WrongTypeError(
                f"an alias is a {type(alias).__name__}; give what view.with_join_keys(…) returns"
            )
        used[alias.name] = alias

    def use(view: FeatureView | FeatureViewAlias) -> None:
        if isinstance(view, FeatureViewAlias):
            used[view.name] = view

    for item in _arguments.items(features, "features"):
        if isinstance(item, str):
            wanted.append(_arguments.text(item, "a feature"))
        elif isinstance(item, FeatureSelection):
            use(item.view)
            wanted += [f"{item.view.name}:{name}" for name in item.feature_names]
        elif isinstance(item, (FeatureView, FeatureViewAlias)):
            use(item)
            names: list[str | tuple[str, str]] = [f"{item.name}:{name}" for name in item.feature_names]
            wanted += names or [(item.name, item.view_name)]
        elif isinstance(item, OnDemandFeatureView):
            wanted += [f"{item.name}:{name}" for name in item.feature_names]
        elif isinstance(item, FeatureService):
            wanted.append(item.name)
        else:
            raise WrongTypeError(
                f"a feature is a {type(item).__name__}; give `view:feature`, a feature view or a feature service"
            )
    if not wanted:
        raise MisuseError('no features are named; give e.g. ["weather:temp"]')
    return wanted, list(used.values())


def historical(
    entities: TableLike | str | None,
    features: Sequence[Wanted] | Wanted,
    timestamp: str,
    known_at: str | None,
    full_names: bool,
    start: When | None,
    end: When | None,
    aliases: Sequence[FeatureViewAlias],
    snapshots: _native.Snapshots | None,
    name: str | None,
) -> _native.Call[TrainingSet]:
    wanted, aliases = resolve(features, aliases)
    if known_at not in (None, "event", "entity"):
        raise MisuseError(f'known_at is {known_at!r}; give "entity", or leave it out')
    window = start is not None or end is not None
    if entities is None and not window:
        raise MisuseError(
            "there are no entity rows: give a table, a SQL query, or a window of time (start=, end=)"
        )
    if entities is not None and window:
        raise MisuseError(
            "start= and end= stand in for the entity table; give either these or a table, not both"
        )
    is_sql = isinstance(entities, str)
    query: dict[str, Any] = {
        "features": wanted,
        "aliases": aliases,
        "timestamp": "" if window else _arguments.text(timestamp, "timestamp"),
        "known_at_entity": known_at == "entity",
        "full_names": _arguments.flag(full_names, "full_names"),
        "start": _arguments.optional_nanos(start, "start"),
        "end": _arguments.optional_nanos(end, "end"),
        "sql": _arguments.text(entities, "the SQL of the entity rows") if is_sql else "",
        "run_id": _active.active_run_id(),
        "name": _arguments.optional_text(name, "name"),
        "snapshots": snapshots,
    }
    table = None if entities is None or is_sql else _arguments.table(entities, "the entity table")
    return _native.historical(current_client(), query, table).then(TrainingSet)


def materialize(
    feature_views: Sequence[FeatureView | str] | FeatureView | str | None,
    start: When | None,
    end: When | None,
) -> _native.Call[list[_native.Materialized]]:
    if feature_views is None:
        feature_views = []
    elif isinstance(feature_views, (FeatureView, str)):
        feature_views = [feature_views]
    names = [
        view.name if isinstance(view, FeatureView) else _arguments.text(view, "a feature view")
        for view in _arguments.items(feature_views, "feature_views")
    ]
    return _native.materialize(
        current_client(),
        names,
        _arguments.optional_nanos(start, "start"),
        _arguments.optional_nanos(end, "end"),
        _active.active_run_id(),
    )


def online(
    rows: TableLike,
    features: Sequence[Wanted] | Wanted,
    at: When | None,
    full_names: bool,
    aliases: Sequence[FeatureViewAlias],
) -> _native.Call[OnlineFeatures]:
    wanted, aliases = resolve(features, aliases)
    names, cells = _arguments.rows(rows, "the rows")
    at_nanos = _arguments.optional_nanos(at, "at")
    full = _arguments.flag(full_names, "full_names")
    call = _native.online(current_client(), wanted, aliases, names, cells, at_nanos, full)
    return call.then(OnlineFeatures)


# Definitions that are read back.


def make_entity(facts: dict[str, Any]) -> Entity:
    entity = Entity(
        facts["name"],
        join_keys=facts["join_keys"],
        description=facts["description"],
        tags=facts["tags"],
        owner=facts["owner"],
    )
    entity._applied(facts)
    return entity


def make_source(facts: dict[str, Any]) -> ParquetSource | SqlSource:
    kind = ParquetSource if "path" in facts else SqlSource
    source = kind(
        facts["path"] if "path" in facts else facts["query"],
        timestamp=facts["timestamp"],
        created=facts["created"],
        name=facts["name"],
        field_mapping=facts["field_mapping"],
        description=facts["description"],
        tags=facts["tags"],
        owner=facts["owner"],
    )
    source._applied(facts)
    return source


def make_feature_view(facts: dict[str, Any]) -> FeatureView:
    view = FeatureView(
        facts["name"],
        source=facts["source"],
        entities=facts["entities"],
        ttl=facts["ttl"],
        features=[name for name, _ in facts["schema"]],
        online=facts["online"],
        description=facts["description"],
        tags=facts["tags"],
        owner=facts["owner"],
    )
    view._applied(facts)
    view._set(schema=dict(facts["schema"]), join_keys=tuple(facts["join_keys"]))
    return view


def make_on_demand_feature_view(facts: dict[str, Any]) -> OnDemandFeatureView:
    view = OnDemandFeatureView(
        facts["name"],
        features=dict(facts["features"]),
        inputs=facts["inputs"],
        request_columns=dict(facts["request_columns"]),
        description=facts["description"],
        tags=facts["tags"],
        owner=facts["owner"],
    )
    view._applied(facts)
    return view


def make_feature_service(facts: dict[str, Any]) -> FeatureService:
    service = FeatureService(
        facts["name"],
        facts["features"],
        description=facts["description"],
        tags=facts["tags"],
        owner=facts["owner"],
    )
    service._applied(facts)
    return service


def list_entities() -> _native.Call[list[Entity]]:
    return _native.list_entities(current_client()).then(lambda found: [make_entity(facts) for facts in found])


def list_sources() -> _native.Call[list[ParquetSource | SqlSource]]:
    return _native.list_sources(current_client()).then(lambda found: [make_source(facts) for facts in found])


def list_feature_views() -> _native.Call[list[FeatureView]]:
    return _native.list_feature_views(current_client()).then(
        lambda found: [make_feature_view(facts) for facts in found]
    )


def list_on_demand_feature_views() -> _native.Call[list[OnDemandFeatureView]]:
    return _native.list_on_demand_feature_views(current_client()).then(
        lambda found: [make_on_demand_feature_view(facts) for facts in found]
    )


def list_feature_services() -> _native.Call[list[FeatureService]]:
    return _native.list_feature_services(current_client()).then(
        lambda found: [make_feature_service(facts) for facts in found]
    )


def get_feature_view(name: str, version: int | None) -> _native.Call[FeatureView]:
    number = _arguments.optional_integer(version, "version", least=1) or 0
    if number >= 2**32:
        raise MisuseError(f"version is {number}; versions are counted from 1")
    call = _native.get_feature_view(current_client(), _arguments.text(name, "name"), number)
    return call.then(make_feature_view)
