"""The types that the package promises: the stub fits the native part, and mypy reads the fixed names as meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlplat

CODE = """
from datetime import timedelta

import mlplat
from mlplat.features import Entity, FeatureView, ParquetSource, SqlSource
from typing_extensions import assert_type

origin = Entity("origin", join_keys=["origin"])
weather = FeatureView("weather", entities=[origin], ttl=timedelta(hours=3), features=["temp", "wind_speed"],
                      source=ParquetSource("weather.parquet", timestamp="time_hour", created="created"))
busy = FeatureView("busy", entities=[origin], source=SqlSource("SELECT 1", timestamp="hour"))
assert_type(mlplat.features.apply([origin, weather, busy]), mlplat.features.Diff)
train = mlplat.features.historical({"origin": ["JFK"]}, ["weather:temp", "busy:n"], timestamp="t", known_at="entity")
assert_type(train, mlplat.TrainingSet)
assert_type(mlplat.features.online([{"origin": "JFK"}], ["weather:temp"]).statuses, list[dict[str, str]])
with mlplat.start_run(experiment="delays", name="first") as run:
    assert_type(run, mlplat.ActiveRun)
    assert_type(run.id, str)
    run.log_params({"depth": 3})
    version = run.publish_model("arrival-delay", "model.pkl")
    assert_type(version, mlplat.ModelVersion)
again = mlplat.get_run(run.id)
assert_type(again.metrics, dict[str, float])
assert_type(again.metric_history("mae"), mlplat.Table)
assert_type(mlplat.lineage.upstream(version).nodes[0].name, str)


async def twin() -> None:
    async with mlplat.aio.start_run("e") as run:
        assert_type(run, mlplat.aio.ActiveRun)
    assert_type(await mlplat.aio.get_run(run.id), mlplat.aio.Run)


run.log_metric(1, 2)  # E: wrong type of key
mlplat.get_run(3)  # E: wrong type of id
"""


def test_the_stub_fits_the_native_part():
    allowed = Path(__file__).with_name("stubtest_allowlist.txt")
    command = [sys.executable, "-m", "mypy.stubtest", "mlplat._native", "--allowlist", str(allowed)]
    done = subprocess.run([*command, "--ignore-disjoint-bases"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_reads_the_types_as_meant(tmp_path: Path):
    assert Path(mlplat.__file__).with_name("py.typed").exists()
    (tmp_path / "code.py").write_text(CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "code.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    wanted = [at for at, line in enumerate(CODE.splitlines(), 1) if "# E:" in line]
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [int(line.split(":")[1]) for line in errors] == wanted, done.stdout + done.stderr
