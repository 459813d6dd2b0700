"""Many runs in our database, as copies of one that was logged, with values of their own: logging 100,000 runs would take
longer than all the rest. It writes what the server would, so its search does not see a difference."""

from __future__ import annotations

import csv
import io
import sqlite3
import struct
import subprocess
import uuid
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from servers import Mlplat, Postgres
from workload import run_values

# Where the run is named, by table; rows of the first one are runs.
TABLES = {"runs": "id", "run_params": "run_id", "run_tags": "run_id", "metric_series": "run_id"}
Row = dict[str, object]


def fill(server: Mlplat, postgres: Postgres | None, template: str, first: int, count: int) -> None:
    """Copies of the run `template`, numbered from `first`."""
    if server.database and postgres:
        name = server.database.rsplit("/", 1)[1]
        fill_postgres(postgres, name, template, first, count)
    else:
        # One writer at a time.
        server.stop()
        try:
            fill_sqlite(next(server.data.glob("*.db")), template, first, count)
        finally:
            server.start()


def fill_sqlite(path: Path, template: str, first: int, count: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for table, column in TABLES.items():
            # SQLite has ids as 16 bytes.
            found = connection.execute(
                f"SELECT * FROM {table} WHERE {column} = ?", (uuid.UUID(template).bytes,)
            ).fetchall()
            rows = [dict(row) for row in found]
            if not rows:
                raise RuntimeError(f"the run to copy has nothing in {table}")
            columns = list(rows[0])
            marks = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",
                (tuple(map(as_stored, row.values())) for row in copied(table, rows, first, count)),
            )
        connection.commit()


def as_stored(value: object) -> object:
    return value.bytes if isinstance(value, uuid.UUID) else value


def fill_postgres(postgres: Postgres, database: str, template: str, first: int, count: int) -> None:
    for table, column in TABLES.items():
        text = postgres.sql(
            f"COPY (SELECT * FROM {table} WHERE {column} = '{template}') TO STDOUT (FORMAT csv, HEADER, NULL '~')",
            database,
        )
        rows: list[Row] = [
            {name: None if value == "~" else value for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(text))
        ]
        columns = ", ".join(rows[0])
        command = f"\\copy {table} ({columns}) FROM STDIN (FORMAT csv, NULL '~')"
        copying = subprocess.Popen(
            postgres.psql(command, database), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert copying.stdin is not None
        writer = csv.writer(copying.stdin)
        for row in copied(table, rows, first, count):
            writer.writerow(["~" if value is None else value for value in row.values()])
        copying.stdin.close()
        if copying.wait() != 0:
            raise RuntimeError(f"the runs could not be copied into {table}")
    # What autovacuum does a minute later.
    postgres.sql("ANALYZE", database)


def copied(table: str, rows: list[Row], first: int, count: int) -> Iterable[Row]:
    for number in range(first, first + count):
        params, tags, metrics = run_values(number)
        values = {"run_params": params, "run_tags": tags, "metric_series": metrics}.get(table, {})
        for original in rows:
            row = dict(original)
            row[TABLES[table]] = numbered_id(0, number)
            if table == "runs":
                row["name"] = f"run {number}"
                for name in ("started_at", "ended_at", "created_at", "updated_at"):
                    row[name] = int(str(row[name])) + 1000 * (number - first + 1)
            elif row["key"] in values:
                change(table, row, values[str(row["key"])], number, list(values).index(str(row["key"])))
            yield row


def change(table: str, row: Row, value: object, number: int, place: int) -> None:
    if table == "metric_series":
        row["id"] = numbered_id(1 + place, number)
        row["last_value"] = row["min_value"] = row["max_value"] = value
        row["last_bits"] = struct.unpack("<q", struct.pack("<d", value))[0]
        return
    row["value"] = value
    try:
        row["number"] = float(str(value))
    except ValueError:
        row["number"] = None


def numbered_id(kind: int, number: int) -> uuid.UUID:
    """A UUID of version 7 that rises with the number."""
    at = 1_760_000_000_000 + number
    return uuid.UUID(int=(at << 80) | (7 << 76) | (kind << 64) | (2 << 62) | number)
