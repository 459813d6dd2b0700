"""What the tests of models share: data, models that are logged here, and those that scripts of users log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlplat
import numpy as np
import pandas as pd

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"distance": RNG.normal(size=200), "hour": RNG.integers(0, 24, 200)})
TARGET = np.where(FRAME["distance"] + FRAME["hour"] / 24 > 0.5, "late", "on time")
NUMBER = FRAME["distance"].to_numpy() * 2 + FRAME["hour"].to_numpy()


def logged(model: object, **arguments: Any) -> mlplat.ModelInfo:
    """Logs a model in a run of its own."""
    with mlplat.start_run("e") as run:
        return run.log_model(model, "model", **arguments)


def packages(info: mlplat.ModelInfo) -> set[str]:
    """Names of what it requires."""
    return {line.split("==")[0] for line in info.requirements}


def run_script(code: str, folder: Path, *paths: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of a user in another process, where the modules of `folder` and `paths` can be imported."""
    script = folder / "script_of_a_user.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=True,
    )


def log_model_of_own_module(module: str, code: str, folder: Path) -> tuple[str, str]:
    """A script logs `Net()` of a module that belongs to no package; the answer is the name of the model, and what was said."""
    (folder / f"{module}.py").write_text(code)
    done = run_script(
        f"import mlplat, {module}\n"
        "with mlplat.start_run('e') as run:\n"
        f"    print(run.log_model({module}.Net()).model_uri)\n",
        folder,
    )
    return done.stdout.strip(), done.stderr
