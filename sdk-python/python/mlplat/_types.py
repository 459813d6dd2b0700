"""Names of types, for annotations only; this module is not imported at run time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol, TypeAlias

from ._native import ModelVersion, RegisteredModel
from ._run_info import RunInfo
from ._table import TrainingSet
from .features._definitions import (
    Entity,
    FeatureSelection,
    FeatureService,
    FeatureView,
    FeatureViewAlias,
    OnDemandFeatureView,
    ParquetSource,
    SqlSource,
)

PathLike: TypeAlias = str | os.PathLike[str]
"""A path of the local machine."""

When: TypeAlias = datetime | date | str
"""A point in time; without a zone it is UTC."""


class SupportsArrowStream(Protocol):
    """A table that speaks Arrow: pyarrow, polars, pandas, duckdb, …"""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


TableLike: TypeAlias = SupportsArrowStream | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A table: one that speaks Arrow, a dict of columns, or a list of dicts."""

Source: TypeAlias = ParquetSource | SqlSource
Definition: TypeAlias = (
    Entity | ParquetSource | SqlSource | FeatureView | OnDemandFeatureView | FeatureService
)
"""What `apply` takes."""

Wanted: TypeAlias = (
    str | FeatureView | FeatureViewAlias | FeatureSelection | OnDemandFeatureView | FeatureService
)
"""What a retrieval can ask for: `"view:feature"`, a view (all its features), `view["feature"]`, a service."""

LineageNode: TypeAlias = (
    RunInfo | ModelVersion | RegisteredModel | FeatureView | FeatureViewAlias | ParquetSource | SqlSource | TrainingSet | str
)  # fmt: skip
"""Where a walk through the lineage can begin."""
