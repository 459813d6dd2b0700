"""Every parameter of every public function, given what does not belong there: only errors of mlplat come out."""

from __future__ import annotations

import inspect
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import mlplat
import numpy as np
import pandas as pd
import pytest
from mlplat.features import Entity, FeatureView, ParquetSource

NONSENSE = [
    None, 5, -1, 1.5, float("nan"), "", "²", "a\0b", "\ud800", "x" * 2000, b"\xff", [], [5], {}, {5: 5}, object(), True,
    2**63, -(2**70), int, pd.NaT, np.datetime64("NaT"), np.array([1, 2]), pd.DataFrame({"a": [1]}), datetime.max,
    datetime.min, date.max, timedelta.max, timedelta(),
]  # fmt: skip
# Made by the package, not by its users.
NOT_CALLED = {
    "Client",
    "Table",
    "TrainingSet",
    "OnlineFeatures",
    "Run",
    "ActiveRun",
    "ModelInfo",
    "aio",
    "start_run",
    "end_run",
    "Collected",
    "RunComparison",
}


def functions(run: mlplat.ActiveRun) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in (mlplat, mlplat.features, mlplat.models, mlplat.lineage):
        for name in set(module.__all__) - NOT_CALLED:
            item = getattr(module, name)
            if callable(item) and not (isinstance(item, type) and issubclass(item, Exception)):
                found[f"{module.__name__}.{name}"] = item
    for of in (run, mlplat.get_run(run.id)):
        for name in dir(of):
            if not name.startswith("_") and name != "end" and callable(getattr(of, name)):
                found[f"{type(of).__name__}.{name}"] = getattr(of, name)
    return found


@pytest.mark.usefixtures("project")
def test_nothing_but_mlplat_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Some of it is a good name for a folder.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    source = ParquetSource("/data/x.parquet", timestamp="t")
    entity = Entity("k")
    with mlplat.start_run("e") as run:
        good: dict[str, Any] = {
            "name": "n", "key": "k", "run": run.id, "run_id": run.id, "node": run.id, "source": source, "definitions": entity,
            "features": ["v:x"], "entities": {"k": [1]}, "rows": [{"k": 1}], "path": "file", "version": 1, "alias": "a",
            "stage": "STAGING", "metrics": {"a": 1}, "params": {"a": 1}, "tags": {"a": 1}, "value": 1, "query": "SELECT 1",
            "join_keys": {"k": "l"}, "view": FeatureView("v", source=source, entities=[entity]), "into": "folder",
        }  # fmt: skip
        wrong: list[str] = []
        calls = 0
        for name, function in functions(run).items():
            try:
                parameters = inspect.signature(function).parameters.values()
            except (TypeError, ValueError):
                continue
            needed = {p.name: good.get(p.name, "x") for p in parameters if p.default is p.empty}
            for parameter in parameters:
                for value in NONSENSE:
                    calls += 1
                    try:
                        repr(function(**{**needed, parameter.name: value}))
                        if function is mlplat.connect:
                            mlplat.connect()
                    except mlplat.MlplatError as error:
                        if isinstance(error, mlplat.InternalError):
                            wrong.append(f"{name}({parameter.name}={value!r}): {error}")
                    except Exception as error:
                        wrong.append(f"{name}({parameter.name}={value!r}): {type(error).__name__}: {error}")
    mlplat.connect()
    mlplat.autolog(disable=True)
    assert calls > 2000
    assert wrong == []


class Broken:
    """A value whose own code fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def item(self) -> float:
        raise self.error

    def __str__(self) -> str:
        raise self.error


class BrokenNumber(Broken):
    def __float__(self) -> float:
        raise self.error


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("error", [AttributeError("a"), KeyError("k"), ZeroDivisionError(), TypeError("t")])
def test_what_fails_in_values_is_misuse(error: Exception):
    with mlplat.start_run("e") as run:
        calls = [
            lambda: run.log_metric("m", Broken(error)),
            lambda: run.log_metric("m", BrokenNumber(error)),
            lambda: run.log_metrics({"m": BrokenNumber(error)}),
            lambda: run.log_param("p", Broken(error)),
            lambda: run.log_params({"p": Broken(error)}),
            lambda: run.set_tags({"t": Broken(error)}),
        ]
        for call in calls:
            with pytest.raises(mlplat.MisuseError) as caught:
                call()
            assert caught.value.__cause__ is error
    again = mlplat.get_run(run.id)
    assert (again.status, again.metrics, again.params) == ("FINISHED", {}, {})
