"""The same point-in-time join by mlplat and by DuckDB, side by side; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "flight_delays"
CACHE = ROOT / ".cache" / "flight_delays"

DUCKDB_JOIN = """
WITH weather AS (SELECT * FROM '{tables}/weather.parquet'),
carrier_delays AS (
    SELECT DISTINCT ON (carrier, landed_at) carrier, landed_at,
           avg(arr_delay) OVER week AS delay_7d,
           avg(CASE WHEN arr_delay > 30 THEN 1 ELSE 0 END) OVER week AS late_share_7d,
           count(*) OVER week AS flights_7d
    FROM '{tables}/flights.parquet' WHERE arr_delay IS NOT NULL
    WINDOW week AS (PARTITION BY carrier ORDER BY landed_at
                    RANGE BETWEEN INTERVAL 7 DAY PRECEDING AND CURRENT ROW))
SELECT f.* EXCLUDE (row_number),
       CASE WHEN fresh THEN temp END AS temp, CASE WHEN fresh THEN humid END AS humid,
       CASE WHEN fresh THEN wind_speed END AS wind_speed, CASE WHEN fresh THEN wind_gust END AS wind_gust,
       CASE WHEN fresh THEN precip END AS precip, CASE WHEN fresh THEN pressure END AS pressure,
       CASE WHEN fresh THEN visib END AS visib,
       delay_7d, late_share_7d, flights_7d, 2013 - p.year AS age, p.seats
FROM (SELECT *, row_number() OVER () AS row_number FROM flights) f
ASOF LEFT JOIN (SELECT *, time_hour AS at FROM weather) w ON f.origin = w.origin AND f.departure >= w.at
ASOF LEFT JOIN carrier_delays c ON f.carrier = c.carrier AND f.departure >= c.landed_at
LEFT JOIN '{tables}/planes.parquet' p ON f.tailnum = p.tailnum
CROSS JOIN LATERAL (SELECT w.at >= f.departure - INTERVAL 3 HOUR AS fresh)
ORDER BY row_number
"""


def peak_mb(pid: int | str = "self") -> float:
    """The most memory that a process had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def by_mlplat(tables: Path) -> object:
    import mlplat
    import pyarrow.parquet

    flights = pyarrow.parquet.read_table(tables / "flights.parquet")
    return lambda: mlplat.features.historical(flights, "arrival_delay", timestamp="departure").to_arrow()


def by_duckdb(tables: Path) -> object:
    import duckdb
    import pyarrow.parquet

    flights = pyarrow.parquet.read_table(tables / "flights.parquet")
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("flights", flights)
    return lambda: connection.sql(DUCKDB_JOIN.format(tables=tables)).to_arrow_table()


def measure(engine: str, repeat: int, result: Path) -> None:
    """In a process of its own: joins several times, and prints what it took as JSON."""
    import pyarrow.parquet

    join = {"mlplat": by_mlplat, "duckdb": by_duckdb}[engine](CACHE / "tables")
    walls = []
    for _ in range(repeat):
        began = time.perf_counter()
        table = join()
        walls.append(time.perf_counter() - began)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report = {"walls": walls, "cpu": (usage.ru_utime + usage.ru_stime) / repeat, "peak_mb": peak_mb()}
    pyarrow.parquet.write_table(table, result)
    print(json.dumps(report))


def in_process(engine: str, repeat: int, result: Path, url: str) -> dict:
    arguments = [
        sys.executable,
        __file__,
        "--engine",
        engine,
        "--repeat",
        str(repeat),
        "--result",
        str(result),
    ]
    done = subprocess.run(
        arguments, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "MLPLAT_URL": url}
    )
    return json.loads(done.stdout.splitlines()[-1])


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(ours: Path, theirs: Path) -> str:
    """How many values differ; both tables are in the order of the flights."""
    import polars as pl

    left, right = pl.read_parquet(ours), pl.read_parquet(theirs)
    differing = []
    for name in right.columns:
        a, b = left[name], right[name]
        if a.dtype.is_float():
            differ = ((a - b.cast(a.dtype)).abs() > 1e-9).fill_null(False) | (a.is_null() != b.is_null())
        else:
            differ = a.ne_missing(b.cast(a.dtype))
        if differ.any():
            differing.append(f"{name}: {differ.sum()}")
    return ", ".join(differing) or f"all {len(right)} rows x {len(right.columns)} columns equal"


def side_by_side(repeat: int) -> None:
    sys.path.insert(0, str(EXAMPLE))
    import mlplat
    from data import prepare
    from main import define

    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [ROOT / "bin" / "mlplat-server", "--listen", "127.0.0.1:0", "--data-dir", f"{folder}/data"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = server.stdout.readline().split()[-1]
            mlplat.connect(url)
            define(prepare(CACHE))
            began = cpu_seconds(server.pid)
            ours = in_process("mlplat", repeat, Path(folder, "mlplat.parquet"), url)
            server_cpu = (cpu_seconds(server.pid) - began) / repeat
            server_peak = peak_mb(server.pid)
            theirs = in_process("duckdb", repeat, Path(folder, "duckdb.parquet"), url)
            equal = compare(Path(folder, "mlplat.parquet"), Path(folder, "duckdb.parquet"))
        finally:
            server.terminate()
            server.wait()

    wall, their_wall = statistics.median(ours["walls"]), statistics.median(theirs["walls"])
    print(f"{'':24}{'wall (median)':>15}{'CPU':>10}{'peak memory':>14}")
    print(f"{'mlplat, client':24}{wall:13.2f} s{ours['cpu']:8.2f} s{ours['peak_mb']:11.0f} MB")
    print(f"{'mlplat, server':24}{'':15}{server_cpu:8.2f} s{server_peak:11.0f} MB")
    print(f"{'DuckDB':24}{their_wall:13.2f} s{theirs['cpu']:8.2f} s{theirs['peak_mb']:11.0f} MB")
    print(f"ratio of the wall times, DuckDB / mlplat: {their_wall / wall:.2f}   ({repeat} runs each)")
    print(f"results: {equal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--engine", choices=["mlplat", "duckdb"], help="used by the script itself")
    parser.add_argument("--result", type=Path, help="used by the script itself")
    arguments = parser.parse_args()
    if arguments.engine:
        measure(arguments.engine, arguments.repeat, arguments.result)
    else:
        side_by_side(arguments.repeat)


if __name__ == "__main__":
    main()
