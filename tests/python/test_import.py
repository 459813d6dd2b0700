"""What `import mlplat` costs, and what it must not bring along."""

from __future__ import annotations

import os
import subprocess
import sys

import mlplat
import pytest


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_is_cheap():
    code = "import time; t = time.process_time(); import mlplat, sys; print(time.process_time() - t, len(sys.modules))"
    measured = [run(code).split() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in measured) < 0.15
    assert int(measured[0][1]) < 120


@pytest.mark.parametrize(
    "name", ["pandas", "polars", "pyarrow", "numpy", "asyncio", "logging", "typing", "uuid"]
)
def test_import_brings_no(name: str):
    assert run(
        f"import sys; before = {name!r} in sys.modules; import mlplat; print({name!r} in sys.modules, before)"
    ) in (
        "False False\n",
        "True True\n",
    )


def test_connect_does_not_touch_the_network():
    client = mlplat.connect("http://127.0.0.1:1", project="x")
    assert (client.url, client.project) == ("http://127.0.0.1:1", "x")
    assert repr(client) == 'Client("http://127.0.0.1:1", project="x")'


def test_defaults_and_environment():
    code = "import mlplat; c = mlplat.connect(); print(c.url, c.project)"
    other = {name: value for name, value in os.environ.items() if not name.startswith("MLPLAT_")}
    bare = subprocess.run([sys.executable, "-c", code], env=other, check=True, capture_output=True, text=True)
    assert bare.stdout == "http://127.0.0.1:5000 default\n"
    env = {**other, "MLPLAT_URL": "http://example.org:81", "MLPLAT_PROJECT": "p"}
    given = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    assert given.stdout == "http://example.org:81 p\n"


@pytest.mark.parametrize("name", mlplat.__all__)
def test_public_names_exist_and_are_documented(name: str):
    assert getattr(mlplat, name).__doc__


@pytest.mark.parametrize("module", ["features", "models", "lineage"])
def test_modules_are_documented_and_have_async_twins(module: str):
    blocking = getattr(mlplat, module)
    twin = getattr(mlplat.aio, module)
    for name in blocking.__all__:
        found = getattr(blocking, name)
        assert found.__doc__, name
        if not isinstance(found, type):
            assert name in twin.__all__
            assert getattr(twin, name).__doc__, name


def test_runs_have_async_twins():
    for name in mlplat.__all__:
        found = getattr(mlplat, name)
        if callable(found) and not isinstance(found, type):
            assert hasattr(mlplat.aio, name), name
    for kind in ("Run", "ActiveRun"):
        blocking, twin = getattr(mlplat, kind), getattr(mlplat.aio, kind)
        public = {name for name in dir(blocking) if not name.startswith("_")}
        assert public == {name for name in dir(twin) if not name.startswith("_")}


def test_unknown_attributes_are_attribute_errors():
    with pytest.raises(AttributeError, match="nothing"):
        _ = mlplat.nothing  # type: ignore[attr-defined]
