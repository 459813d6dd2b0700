"""What the tests of autologging share: data to train on, and the runs that came of it."""

from __future__ import annotations

from typing import Any

import mlplat
from sklearn.datasets import make_classification, make_regression

_classes: Any = make_classification(200, 6, random_state=0)
_numbers: Any = make_regression(120, 4, noise=1.0, random_state=0)
X, y = _classes
X_test, y_test = X[150:], y[150:]
RX, ry = _numbers


def runs(**filters: Any) -> list[dict[str, Any]]:
    return mlplat.search_runs(**filters).to_dicts()


def only_run() -> mlplat.Run:
    found = runs()
    assert len(found) == 1, [run["name"] for run in found]
    return mlplat.get_run(found[0]["run_id"])


def files(run: mlplat.Run) -> set[str]:
    return {file.path for file in run.artifacts()}


def load(run: mlplat.Run, name: str = "model") -> Any:
    return mlplat.load_model(f"runs:/{run.id}/{name}")
