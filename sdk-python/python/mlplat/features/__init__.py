"""The feature store: definitions, training sets as things were known at the time, and online features.

from mlplat.features import Entity, FeatureView, ParquetSource

origin = Entity("origin", join_keys=["origin"])
weather = FeatureView("weather", entities=[origin], ttl=timedelta(hours=3),
                      source=ParquetSource("weather.parquet", timestamp="time_hour"))
mlplat.features.apply([origin, weather])
train = mlplat.features.historical(flights, ["weather:temp"], timestamp="departure").to_pandas()
"""

from __future__ import annotations

from .._native import Change, Diff, FieldChange, Materialized, Snapshots
from .._table import OnlineFeatures, TrainingSet
from . import _calls
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

    from .._types import Definition, Source, TableLike, Wanted, When

__all__ = [
    "Change",
    "Diff",
    "Entity",
    "FeatureSelection",
    "FeatureService",
    "FeatureView",
    "FeatureViewAlias",
    "FieldChange",
    "Materialized",
    "OnDemandFeatureView",
    "OnlineFeatures",
    "ParquetSource",
    "Snapshots",
    "SqlSource",
    "TrainingSet",
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


def apply(
    definitions: Iterable[Definition] | Definition,
    *,
    prune: bool = False,
    dry_run: bool = False,
    force: bool = False,
) -> Diff:
    """Brings the definitions of the project to what is given, all of it or nothing, and shows the difference.

    Views bring their entities and sources along. What is not named stays; `prune=True` removes it. `dry_run=True` only
    shows the difference. An incompatible change (a feature that changes its type, or is removed while a model uses it)
    is refused without `force=True`.
    """
    return _calls.apply(definitions, prune, dry_run, force).wait()


def historical(
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
    """Features as they were known at the time of each entity row: one output row per input row, in its order.

    `entities` is any table that speaks Arrow (pandas, polars, pyarrow, duckdb, …), a dict of columns, a list of dicts, or
    a SQL query over the sources and views of the project; `timestamp` names its column with the time of each row. With
    `start` and `end` instead (both inclusive) the rows of one view in that window are returned.

    `features` are named `view:feature`; a view object stands for all its features, and a feature service for those it
    lists. `full_names=True` names the columns `view__feature`. With `known_at="entity"` a row counts only once it was
    written, so late corrections do not leak into the past. `snapshots` of an earlier result reads the same data again.

    It runs when it is called. Within a run, the training set becomes its input in the lineage, under `name`.
    """
    return _calls.historical(
        entities, features, timestamp, known_at, full_names, start, end, aliases, snapshots, name
    ).wait()


def materialize(
    feature_views: Sequence[FeatureView | str] | FeatureView | str | None = None,
    *,
    start: When | None = None,
    end: When | None = None,
) -> list[Materialized]:
    """Copies the newest rows per key of views (by default all) into the online store.

    The window of event times is inclusive; it starts by default where the last one ended, the first one at the beginning
    of the data, and ends now. It is safe to repeat: older rows never replace newer ones.
    """
    return _calls.materialize(feature_views, start, end).wait()


def online(
    rows: TableLike,
    features: Sequence[Wanted] | Wanted,
    *,
    at: When | None = None,
    full_names: bool = False,
    aliases: Sequence[FeatureViewAlias] = (),
) -> OnlineFeatures:
    """The features of some keys from the online store: `online([{"origin": "JFK"}], ["weather:temp"]).to_dicts()`.

    `at` is the time at which the TTL is measured, by default now. Each value has a status, in `statuses`.
    """
    return _calls.online(rows, features, at, full_names, aliases).wait()


def get_feature_view(name: str, version: int | None = None) -> FeatureView:
    """One feature view by name, with its types; an older one by its version."""
    return _calls.get_feature_view(name, version).wait()


def list_entities() -> list[Entity]:
    """The entities of the project, by name."""
    return _calls.list_entities().wait()


def list_sources() -> list[Source]:
    """The sources of the project, by name."""
    return _calls.list_sources().wait()


def list_feature_views() -> list[FeatureView]:
    """The feature views of the project, by name."""
    return _calls.list_feature_views().wait()


def list_on_demand_feature_views() -> list[OnDemandFeatureView]:
    """The on-demand feature views of the project, by name."""
    return _calls.list_on_demand_feature_views().wait()


def list_feature_services() -> list[FeatureService]:
    """The feature services of the project, by name."""
    return _calls.list_feature_services().wait()
