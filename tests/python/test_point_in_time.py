"""The semantics of historical retrieval (docs: features): the golden cases, and random tables against a plain oracle."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlplat import features
from mlplat.features import Entity, FeatureView, ParquetSource

pytestmark = pytest.mark.usefixtures("project")

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def t(text: str) -> datetime:
    """`02 00:10` is the second of January 2026, ten past midnight."""
    day, _, time = text.partition(" ")
    time = datetime.fromisoformat(f"2026-01-01T{time}") - datetime(2026, 1, 1)
    return START + timedelta(days=int(day) - 1) + time


# key, event time, created, value
FEATURE_ROWS: list[tuple[int, datetime, datetime | None, float | None]] = [
    (1, t("01 00:00"), t("01 00:10"), 1.0),
    (1, t("02 00:00"), t("02 00:10"), 2.0),
    (1, t("02 00:00"), t("02 00:20"), 2.5),
    (2, t("01 00:00"), None, None),
    (2, t("00 23:00"), None, 9.0),
    (4, t("05 00:00"), None, 4.0),
    (5, t("01 00:00:00.000001"), None, 5.0),
    (6, t("01 00:00"), t("01 00:10"), 6.0),
    (6, t("01 00:00"), t("01 00:10"), 6.5),
]
# entity key, entity time, value with a TTL of a day, value without
GOLDEN = [
    (1, t("02 00:00"), 2.5, 2.5),
    (1, t("01 23:59:59.999999"), 1.0, 1.0),
    (1, t("03 00:00"), 2.5, 2.5),
    (1, t("03 00:00:00.000001"), None, 2.5),
    (2, t("01 12:00"), None, None),
    (3, t("01 12:00"), None, None),
    (4, t("01 12:00"), None, None),
    (5, t("01 00:00"), None, None),
    (6, t("01 00:00"), 6.5, 6.5),
    (1, t("02 12:00"), 2.5, 2.5),
    (1, t("02 12:00"), 2.5, 2.5),
    (None, t("02 12:00"), None, None),
]


def test_golden_cases(tmp_path: Path):
    frame = pl.DataFrame(FEATURE_ROWS, schema=["e", "t", "c", "x"], orient="row")
    frame.write_parquet(tmp_path / "golden.parquet")
    source = ParquetSource(tmp_path / "golden.parquet", timestamp="t", created="c")
    entity = Entity("e", join_keys=["e"])
    day = FeatureView("day", entities=[entity], ttl=timedelta(days=1), source=source)
    always = FeatureView("always", entities=[entity], source=source)
    features.apply([day, always])
    entities = pl.DataFrame(
        {
            "e": [row[0] for row in GOLDEN],
            "event_timestamp": [row[1] for row in GOLDEN],
            "label": [chr(65 + at) for at in range(len(GOLDEN))],
        }
    )
    train = features.historical(entities, ["day:x", "always:x"], full_names=True).to_polars()
    assert train.select(entities.columns).equals(entities)
    assert train["day__x"].to_list() == [row[2] for row in GOLDEN]
    assert train["always__x"].to_list() == [row[3] for row in GOLDEN]


@dataclass
class Row:
    """A feature row, as the oracle sees it."""

    key: tuple[Any, ...]
    time: datetime
    created: datetime | None
    value: int | None


def oracle(
    rows: list[Row], key: tuple[Any, ...], at: datetime | None, ttl: timedelta | None, known: bool
) -> int | None:
    """The rules, word by word; rows are in the order in which they were written."""
    if at is None or None in key:
        return None
    best = None
    for row in rows:
        if row.key != key or row.time > at or (ttl is not None and row.time < at - ttl):
            continue
        if known and (row.created is None or row.created > at):
            continue
        created = row.created or datetime.min.replace(tzinfo=timezone.utc)
        if best is None or (row.time, created) >= best[0]:
            best = ((row.time, created), row.value)
    return best[1] if best else None


@pytest.mark.parametrize("seed", range(12))
def test_random_tables(tmp_path: Path, seed: int):
    choose = random.Random(seed)

    def time() -> datetime:
        return START + timedelta(hours=choose.randrange(12), microseconds=choose.choice([0, 0, 0, 1]))

    def key() -> tuple[str | None, int | None]:
        return choose.choice(["1", "11", "", None]), choose.choice([1, 11, None])

    rows = [
        Row(key(), time(), choose.choice([None, time()]), choose.choice([None, at]))
        for at in range(choose.randrange(200))
    ]
    frame = pl.DataFrame(
        [(*row.key, row.time, row.created, row.value) for row in rows],
        schema={
            "a": pl.String,
            "b": pl.Int64,
            "t": pl.Datetime("us", "UTC"),
            "c": pl.Datetime("us", "UTC"),
            "x": pl.Int64,
        },
        orient="row",
    )
    frame.write_parquet(tmp_path / "random.parquet", row_group_size=choose.choice([7, 50, 1000]))
    ttl = choose.choice([None, timedelta(hours=2), timedelta(hours=1, microseconds=1)])
    source = ParquetSource(tmp_path / "random.parquet", timestamp="t", created="c")
    view = FeatureView(
        "v", entities=[Entity("e", join_keys=["a", "b"])], ttl=ttl, source=source, features=["x"]
    )
    features.apply(view)
    entities = [(key(), choose.choice([time(), time(), time(), None])) for _ in range(300)]
    table = pl.DataFrame(
        [(*keys, at) for keys, at in entities],
        schema={"a": pl.String, "b": pl.Int64, "event_timestamp": pl.Datetime("us", "UTC")},
        orient="row",
    )
    for known_at in (None, "entity"):
        train = features.historical(table, ["v:x"], known_at=known_at).to_polars()
        expected = [oracle(rows, keys, at, ttl, known_at == "entity") for keys, at in entities]
        assert train["x"].to_list() == expected
        assert train.select(table.columns).equals(table)
