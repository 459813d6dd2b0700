"""Packages that a model needs, as what is in its files tells."""

from __future__ import annotations

import importlib.metadata
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import mlplat
import numpy as np
import pandas as pd
import pytest
import xgboost
from logged_models import FRAME, NUMBER, RNG, TARGET, log_model_of_own_module, logged, packages, run_script
from mlplat._model_files import _pickle_scan, _requirements
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.usefixtures("project")


def test_other_versions_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    info = logged([1], requirements=["numpy==1.0.1", "not-here==2.0", f"pandas=={pd.__version__}"])
    assert info.requirements == ["numpy==1.0.1", "not-here==2.0", f"pandas=={pd.__version__}"]
    mlplat.load_model(info)
    said = capsys.readouterr().err
    assert f"numpy 1.0.1 (here: {np.__version__})" in said
    assert "not-here 2.0 (here: missing)" in said
    assert "pandas" not in said
    (tmp_path / "requirements.txt").write_text("# pinned\nnumpy==1.0.1\n")
    assert logged([1], requirements=tmp_path / "requirements.txt").requirements == ["numpy==1.0.1"]


def test_estimators_of_boosting_need_scikit_learn():
    labels = (TARGET == "late").astype(int)
    for model in (
        xgboost.XGBClassifier(n_estimators=2).fit(FRAME, labels),
        xgboost.XGBRanker(n_estimators=2).fit(FRAME, labels, qid=np.zeros(200, int)),
        lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(FRAME, NUMBER),
    ):
        assert "scikit-learn" in packages(logged(model))
    booster = xgboost.train({}, xgboost.DMatrix(FRAME, NUMBER), 1)
    assert "scikit-learn" not in packages(logged(booster))


def test_packages_are_read_once_and_again_when_one_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def install(name: str, version: str) -> None:
        (places / f"{name}.py").write_text("")
        facts = places / f"{name}-{version}.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (facts / "RECORD").write_text(f"{name}.py,,\n")

    places = tmp_path / "site-packages"
    places.mkdir()
    monkeypatch.syspath_prepend(str(places))
    of_modules = _requirements.of_modules
    reads: list[str] = []
    assert of_modules(["made_up"]) == []
    install("made_up", "1.0")
    assert of_modules(["made_up"]) == ["made_up==1.0"]
    distribution = importlib.metadata.distribution
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: reads.append(name) or distribution(name)
    )
    assert of_modules(["made_up"]) == ["made_up==1.0"]
    assert reads == []
    (places / "made_up-1.0.dist-info").rename(tmp_path / "gone")
    install("made_up", "2.0")
    assert of_modules(["made_up"]) == ["made_up==2.0"]
    assert reads == ["made-up"]


@pytest.mark.parametrize("name", ["m.pkl", "old.pkl", "m.joblib", "zlib.joblib", "gzip.joblib", "xz.joblib"])
def test_files_of_estimators_need_their_packages(name: str, tmp_path: Path):
    """Whoever logs the file may not have imported what is in it."""
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(FRAME, TARGET)
    path = tmp_path / name
    if name.endswith(".pkl"):
        path.write_bytes(pickle.dumps(model, protocol=2 if name == "old.pkl" else 5))
    else:
        joblib.dump(
            model, path, compress={"m": 0, "zlib": 3, "gzip": ("gzip", 3), "xz": ("xz", 3)}[path.stem]
        )
    code = (
        "import mlplat\n"
        "with mlplat.start_run('e') as run:\n"
        f"    print(*run.log_model({str(path)!r}).requirements)\n"
    )
    done = run_script(code, tmp_path)
    found = {line.split("==")[0] for line in done.stdout.split()}
    assert {"scikit-learn", "numpy"} <= found
    assert ("joblib" in found) or not name.endswith(".joblib")
    assert not found & {"xgboost", "pandas", "onnx"}


@pytest.mark.parametrize("compress", [0, 3])
def test_what_joblib_wrote_under_another_ending(compress: int, tmp_path: Path):
    model = LinearRegression().fit(FRAME, NUMBER)
    joblib.dump(model, tmp_path / "m.pkl", compress=compress)
    info = logged(tmp_path / "m.pkl")
    assert {"joblib", "scikit-learn", "numpy"} <= packages(info)
    assert np.allclose(mlplat.load_model(info).predict(FRAME), NUMBER)
    assert np.allclose(mlplat.load_model(tmp_path / "m.pkl").predict(FRAME), NUMBER)


def test_modules_of_functions():
    """Those that the code of a function imports, and those that it refers to; no texts of other kinds."""

    def imports(values: Any) -> Any:
        import onnx

        return onnx, np.asarray(values)

    assert {"numpy", "onnx", "cloudpickle"} <= packages(logged(imports))
    assert not packages(logged({"numpy": "pandas", "xgboost": 1})) & {"numpy", "pandas", "xgboost"}


class Named(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    """Says which modules were imported."""

    def find_class(self, module: str, name: str) -> Any:
        self.found = getattr(self, "found", set()) | {module}
        return super().find_class(module, name)


@pytest.mark.parametrize("protocol", range(6))
def test_a_scan_finds_what_loading_imports(protocol: int, tmp_path: Path):
    from joblib.numpy_pickle import NumpyUnpickler

    class NamedOfJoblib(Named, NumpyUnpickler):
        pass

    arrays = {
        "objects": np.array([1, "x", pd.Timestamp(0)], dtype=object),
        "records": np.zeros(3, dtype=[("a", "i4"), ("b", "O")]),
        "texts": np.zeros(3, dtype=[("a", "i4"), ("b", "U3")]),
        "times": np.array(["2026-01-01"], "M8[ns]"),
        "none": np.zeros((0, 3)),
        "scalar": np.array(3.0),
        "columns": np.asfortranarray(RNG.normal(size=(300, 300))),
        # What would be taken for a reference, were it not in an array.
        "bytes": np.frombuffer(b"\x8c\x06pandas\x94\x8c\x01x\x94\x93cxgboost\nx\n", np.uint8),
        "model": RandomForestClassifier(3, random_state=0).fit(FRAME, TARGET),
    }
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    with path.open("rb") as file:
        reader = Named(file)
        reader.load()
    # In older protocols there are modules by the names that they had in Python 2.
    names = {"__builtin__": "builtins", "copy_reg": "copyreg"}
    found = _pickle_scan.scan_file(str(path))
    assert {names.get(name, name) for name in found.modules} == {names.get(n, n) for n in reader.found}
    assert not found.by_joblib
    joblib.dump(arrays, path, protocol=protocol)
    with path.open("rb") as file:
        reader = NamedOfJoblib(str(path), file, False)
        reader.load()
    found = _pickle_scan.scan_file(str(path))
    # Arrays of objects are read by another of joblib's readers.
    assert reader.found <= found.modules | set(names) | set(names.values())
    assert "pandas._libs.tslibs.timestamps" in found.modules
    assert not any(name.startswith("xgboost") or name == "pandas" for name in found.modules)
    assert found.by_joblib


def test_a_text_with_the_name_of_a_module_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "encoder.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("encoder")
    logged({"encoder": 1})
    assert "belongs to no installed package" not in capsys.readouterr().err
    sys.modules.pop("encoder")


def test_a_model_of_a_module_that_is_not_there(tmp_path: Path):
    uri, said = log_model_of_own_module("own_module", "class Net:\n    pass\n", tmp_path)
    assert "own_module, which belongs to no installed package" in said
    with pytest.raises(mlplat.FailedPreconditionError, match="own_module"):
        mlplat.load_model(uri)


def test_a_file_of_a_script_that_is_not_there(tmp_path: Path):
    """The script pickled its class by name, not by value."""
    code = (
        "import mlplat, pickle\n"
        "class Net:\n    pass\n"
        "with open('net.pkl', 'wb') as file:\n    pickle.dump(Net(), file)\n"
        "with mlplat.start_run('e') as run:\n"
        "    run.log_model('net.pkl', 'file')\n"
        "    print(run.log_model(Net(), 'object').model_uri)\n"
    ).replace("net.pkl", str(tmp_path / "net.pkl"))
    done = run_script(code, tmp_path)
    assert done.stderr.count("refers to what a script or notebook defines") == 1
    assert type(mlplat.load_model(done.stdout.strip())).__name__ == "Net"


def test_a_scan_reads_only_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    monkeypatch.setattr(_pickle_scan, "_MAX_DECOMPRESSED", 1 << 12)
    assert len(_pickle_scan._of_torch(str(bomb)) or b"") == 1 << 12
    # Each array of objects is a pickle within the pickle, and none of them has a limit of its own.
    arrays = [np.array([object] * 50 + [number], dtype=object) for number in range(20)]
    joblib.dump([*arrays, Path], tmp_path / "arrays.joblib")
    assert "pathlib" in _pickle_scan.scan_file(str(tmp_path / "arrays.joblib")).modules
    monkeypatch.setattr(_pickle_scan._Limited, "left", 1500)
    found = _pickle_scan.scan_file(str(tmp_path / "arrays.joblib"))
    assert "builtins" in found.modules
    assert "pathlib" not in found.modules
