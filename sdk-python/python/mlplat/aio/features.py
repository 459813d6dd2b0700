"""The feature store for asyncio; see :mod:`mlplat.features`, where the definitions are too."""

from __future__ import annotations

from ..features import _calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._native import Diff, Materialized, Snapshots
    from .._table import OnlineFeatures, TrainingSet
    from .._types import Definition, Source, TableLike, Wanted, When
    from ..features._definitions import (
        Entity,
        FeatureService,
        FeatureView,
        FeatureViewAlias,
        OnDemandFeatureView,
    )

__all__ = [
    "apply",
    "get_feature_view",
    "historical",
    "list_entities",
    "list_feature_services",
    "list_feature_views",
    "list_on_demand_feature_views",
    "list_sources",
    "materialize",
    "online",
]


async def apply(
    definitions: Iterable[Definition] | Definition,
    *,
    prune: bool = False,
    dry_run: bool = False,
    force: bool = False,
) -> Diff:
    """Brings the definitions of the project to what is given; see :func:`mlplat.features.apply`."""
    return await _calls.apply(definitions, prune, dry_run, force)


async def historical(
    entities: TableLike | str | None = None,
    features: Sequence[Wanted] | Wanted = (),
    *,
    timestamp: str = "event_timestamp",
    known_at: str | None = None,
    full_names: bool = False,
    start: When | None = None,
    end: When | None = None,
    aliases: Sequence[FeatureViewAlias] = (),
    snapshots: Snapshots | None = None,
    name: str | None = None,
) -> TrainingSet:
    """Features as they were known at the time of each entity row; see :func:`mlplat.features.historical`."""
    return await _calls.historical(
        entities, features, timestamp, known_at, full_names, start, end, aliases, snapshots, name
    )


async def materialize(
    feature_views: Sequence[FeatureView | str] | FeatureView | str | None = None,
    *,
    start: When | None = None,
    end: When | None = None,
) -> list[Materialized]:
    """Copies the newest rows per key into the online store; see :func:`mlplat.features.materialize`."""
    return await _calls.materialize(feature_views, start, end)


async def online(
    rows: TableLike,
    features: Sequence[Wanted] | Wanted,
    *,
    at: When | None = None,
    full_names: bool = False,
    aliases: Sequence[FeatureViewAlias] = (),
) -> OnlineFeatures:
    """The features of some keys from the online store; see :func:`mlplat.features.online`."""
    return await _calls.online(rows, features, at, full_names, aliases)


async def get_feature_view(name: str, version: int | None = None) -> FeatureView:
    """One feature view by name, with its types; an older one by its version."""
    return await _calls.get_feature_view(name, version)


async def list_entities() -> list[Entity]:
    """The entities of the project, by name."""
    return await _calls.list_entities()


async def list_sources() -> list[Source]:
    """The sources of the project, by name."""
    return await _calls.list_sources()


async def list_feature_views() -> list[FeatureView]:
    """The feature views of the project, by name."""
    return await _calls.list_feature_views()


async def list_on_demand_feature_views() -> list[OnDemandFeatureView]:
    """The on-demand feature views of the project, by name."""
    return await _calls.list_on_demand_feature_views()


async def list_feature_services() -> list[FeatureService]:
    """The feature services of the project, by name."""
    return await _calls.list_feature_services()
