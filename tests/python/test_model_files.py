"""Models of real libraries, logged and given back, checked and safe."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import mlplat
import numpy as np
import onnx
import pandas as pd
import pytest
import sklearn
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.usefixtures("project")

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"distance": RNG.normal(size=200), "hour": RNG.integers(0, 24, 200)})
TARGET = np.where(FRAME["distance"] + FRAME["hour"] / 24 > 0.5, "late", "on time")
NUMBER = FRAME["distance"].to_numpy() * 2 + FRAME["hour"].to_numpy()


def logged(model: object, **arguments: Any) -> mlplat.ModelInfo:
    with mlplat.start_run("e") as run:
        return run.log_model(model, "model", **arguments)


def test_scikit_learn():
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(FRAME, TARGET)
    info = logged(model, input_example=FRAME.head(3), metadata={"team": "air"})
    assert (info.flavor, info.artifact_path) == ("sklearn", "model")
    assert info.model_class == "sklearn.pipeline.Pipeline"
    assert info.signature is not None
    assert info.signature.columns == ["distance", "hour"]
    assert info.signature.inputs == {
        "kind": "table",
        "columns": [
            {"name": "distance", "type": "float64", "nullable": False},
            {"name": "hour", "type": "int64", "nullable": False},
        ],
    }
    assert info.signature.outputs == {"kind": "tensor", "type": "string", "shape": [-1]}
    assert f"scikit-learn=={sklearn.__version__}" in info.requirements
    assert f"numpy=={np.__version__}" in info.requirements
    assert not any(line.startswith(("pytest", "xgboost", "mlplat")) for line in info.requirements)
    again = mlplat.load_model(info.model_uri)
    assert (again.predict(FRAME) == model.predict(FRAME)).all()
    files = {file.path: file for file in mlplat.get_run(info.run_id).artifacts("model")}
    assert set(files) == {f"model/{name}" for name in [*info.files, "mlplat-model.json"]}
    assert all(files[f"model/{name}"].sha256 == digest for name, digest in info.files.items())
    assert info.size_bytes == sum(files[f"model/{name}"].size_bytes for name in info.files)


@pytest.mark.parametrize("kind", ["classifier", "regressor", "booster"])
def test_xgboost(kind: str):
    labels = (TARGET == "late").astype(int)
    if kind == "booster":
        model: Any = xgboost.train({"max_depth": 2}, xgboost.DMatrix(FRAME, labels), 5)
    else:
        made = xgboost.XGBClassifier if kind == "classifier" else xgboost.XGBRegressor
        model = made(n_estimators=5, max_depth=2).fit(FRAME, labels)
    info = logged(model, input_example=FRAME.head(2))
    assert info.flavor == "xgboost"
    assert "model.ubj" in info.files
    assert not any(name.endswith(".pkl") for name in info.files)
    assert info.signature is not None
    assert info.signature.outputs is not None
    again = mlplat.load_model(info)
    assert type(again) is type(model)
    data = xgboost.DMatrix(FRAME) if kind == "booster" else FRAME
    assert np.array_equal(again.predict(data), model.predict(data))
    if kind != "booster":
        assert again.get_params()["max_depth"] == 2
    if kind == "classifier":
        assert np.array_equal(again.predict_proba(FRAME), model.predict_proba(FRAME))


def own_loss(truth: Any, guess: Any) -> Any:
    return guess - truth, np.ones_like(guess)


def test_params_of_xgboost_keep_their_types(capsys: pytest.CaptureFixture[str]):
    labels = (TARGET == "late").astype(int)
    given: dict[str, Any] = {
        "n_estimators": np.int64(5), "max_depth": np.int32(3), "learning_rate": np.float32(0.1), "gamma": np.float64(0.25),
        "objective": np.str_("binary:logistic"), "enable_categorical": np.bool_(True), "base_score": 0.4, "missing": -1.0,
        "monotone_constraints": (1, 0), "eval_metric": ["auc", "logloss"], "max_leaves": None, "reg_alpha": np.float16(0.1),
        "interaction_constraints": [["distance"], ["hour"]], "feature_weights": np.array([1.0, 0.5]),
    }  # fmt: skip
    model = xgboost.XGBClassifier(**given).fit(FRAME, labels)
    info = logged(model)
    assert not any(name.endswith(".pkl") for name in info.files)
    again = mlplat.load_model(info)
    ours, theirs = again.get_params(), model.get_params()
    assert (ours.pop("feature_weights") == theirs.pop("feature_weights")).all()
    assert np.isnan(mlplat.load_model(logged(xgboost.XGBRegressor().fit(FRAME, NUMBER))).missing)
    assert ours == theirs
    assert {name: type(value) for name, value in ours.items()} == {n: type(v) for n, v in theirs.items()}
    assert np.array_equal(again.predict_proba(FRAME), model.predict_proba(FRAME))
    again.fit(FRAME, labels)
    assert np.array_equal(again.predict_proba(FRAME), model.predict_proba(FRAME))
    # What is no value is pickled, and what cannot be is named.
    model = xgboost.XGBRegressor(objective=own_loss, n_estimators=2, random_state=np.random.RandomState(3))
    again = mlplat.load_model(logged(model.fit(FRAME, NUMBER)))
    assert again.objective is own_loss
    assert isinstance(again.random_state, np.random.RandomState)
    assert np.array_equal(again.predict(FRAME), model.predict(FRAME))
    assert "refers to test_model_files, which belongs to no installed package" in capsys.readouterr().err
    vars(model)["importance_type"] = (at for at in range(2))
    again = mlplat.load_model(logged(model))
    assert (again.n_estimators, again.objective) == (2, own_loss)
    assert (
        "the XGBRegressor is stored without importance_type, which cannot be pickled"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ["classifier", "booster"])
def test_lightgbm(kind: str):
    if kind == "booster":
        data = lightgbm.Dataset(FRAME, NUMBER)
        model: Any = lightgbm.train({"num_leaves": 4, "verbose": -1}, data, 5)
    else:
        model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME, TARGET)
    info = logged(model)
    assert info.flavor == "lightgbm"
    assert "model.txt" in info.files
    again = mlplat.load_model(info)
    assert type(again) is type(model)
    assert (again.predict(FRAME) == model.predict(FRAME)).all()
    if kind == "classifier":
        assert again.classes_.tolist() == ["late", "on time"]


def test_functions_and_other_objects():
    factor = 3

    def scaled(values: Any) -> Any:
        return np.asarray(values) * factor

    info = logged(scaled, input_example=np.array([1.0, 2.0]))
    assert info.flavor == "pickle"
    assert info.signature is not None
    assert info.signature.outputs == {"kind": "tensor", "type": "float64", "shape": [-1]}
    assert mlplat.load_model(info)([2]).tolist() == [6]
    assert mlplat.load_model(logged({"weights": [1, 2]})) == {"weights": [1, 2]}
    with pytest.raises(mlplat.MisuseError, match="cannot be pickled"):
        logged(at for at in range(3))
    with pytest.raises(mlplat.WrongTypeError, match="None"):
        logged(None)


def test_files(tmp_path: Path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "m.onnx").write_bytes(b"not parsed here")
    (tmp_path / "m.weird").write_bytes(b"weird")
    info = logged(tmp_path / "m.pkl")
    assert info.signature is None
    assert mlplat.load_model(info) == [1, 2]
    # The file is not loaded to be asked what comes out.
    asked = logged(tmp_path / "m.pkl", input_example=FRAME.head()).signature
    assert asked is not None
    assert (asked.columns, asked.outputs) == (["distance", "hour"], None)
    assert logged(str(tmp_path / "m.onnx")).flavor == "onnx"
    path = mlplat.load_model(logged(tmp_path / "m.weird"))
    assert Path(path).read_bytes() == b"weird"
    with pytest.raises(mlplat.FileError, match="no model file"):
        logged(str(tmp_path / "nothing.pkl"))


def test_onnx(tmp_path: Path):
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weights = RNG.normal(size=(4, 2)).astype(np.float32)
    tensor = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", tensor, [None, 4])],
        [helper.make_tensor_value_info("y", tensor, [None, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    data = RNG.normal(size=(5, 4)).astype(np.float32)
    for given in (model, tmp_path / "m.onnx"):
        info = logged(given)
        assert info.flavor == "onnx"
        assert ("model.onnx" if given is model else "m.onnx") in info.files
        assert info.signature is not None
        for found, name, width in ((info.signature.inputs, "x", 4), (info.signature.outputs, "y", 2)):
            tensor_of = {"kind": "tensor", "type": "float32", "shape": [-1, width]}
            assert found == {"kind": "tensors", "tensors": {name: tensor_of}}
        [answer] = mlplat.load_model(info).run(None, {"x": data})
        assert np.allclose(answer, data @ weights, atol=1e-6)


def onnx_with_weights_beside(folder: Path, location: str) -> np.ndarray[Any, Any]:
    helper, tensor = onnx.helper, onnx.TensorProto.FLOAT
    weights = RNG.normal(size=(64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", tensor, [None, 64])],
        [helper.make_tensor_value_info("y", tensor, [None, 64])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / location).parent.mkdir(exist_ok=True)
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location=location)
    return weights


@pytest.mark.parametrize("parsed", [True, False])
@pytest.mark.parametrize("location", ["w.data", f"{'long' * 40}.bin"])
def test_onnx_with_weights_in_another_file(
    location: str, parsed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights = onnx_with_weights_beside(tmp_path, location)
    if not parsed:
        monkeypatch.setitem(sys.modules, "onnx", None)  # not installed
    info = logged(tmp_path / "m.onnx")
    assert {"m.onnx", location} <= set(info.files)
    data = RNG.normal(size=(5, 64)).astype(np.float32)
    (tmp_path / location).unlink()
    [answer] = mlplat.load_model(info).run(None, {"x": data})
    assert np.allclose(answer, data @ weights, atol=1e-4)
    with pytest.raises(mlplat.FileError, match=f"weights in {location}, which is not in"):
        logged(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["requirements.txt", "mlplat-model.json", "Input_Example.json/w"])
def test_onnx_with_weights_of_our_names(name: str, tmp_path: Path):
    weights = onnx_with_weights_beside(tmp_path, name)
    info = logged(tmp_path / "m.onnx", input_example=np.eye(64, dtype=np.float32))
    assert {"files/m.onnx", f"files/{name}", "requirements.txt", "input_example.json"} == set(info.files)
    [answer] = mlplat.load_model(info).run(None, {"x": np.eye(64, dtype=np.float32)})
    assert np.allclose(answer, weights, atol=1e-6)


def test_a_file_of_our_name(tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("of the user")
    info = logged(tmp_path / "requirements.txt")
    assert Path(mlplat.load_model(info)).read_text() == "of the user"
    assert info.signature is None


def test_onnx_whose_inputs_and_outputs_are_more_than_tensors(tmp_path: Path):
    helper, tensor = onnx.helper, onnx.TensorProto
    kinds = helper.make_map_type_proto(tensor.INT64, helper.make_tensor_type_proto(tensor.FLOAT, None))
    graph = helper.make_graph(
        [helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
        "zipped",
        [
            helper.make_tensor_value_info("x", tensor.FLOAT, ["rows", 2]),
            helper.make_tensor_value_info("unsized", tensor.STRING, None),
            helper.make_tensor_value_info("w", tensor.FLOAT, [1]),
        ],
        [helper.make_value_info("p", helper.make_sequence_type_proto(kinds))],
        [onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    signature = logged(tmp_path / "m.onnx").signature
    assert signature is not None
    assert signature.inputs == {
        "kind": "tensors",
        "tensors": {
            "x": {"kind": "tensor", "type": "float32", "shape": [-1, 2]},
            "unsized": {"kind": "tensor", "type": "string"},
        },
    }
    assert signature.outputs == {"kind": "dict", "values": {"p": {"kind": "list"}}}
    assert repr(signature) == "ModelSignature(inputs={x: float32(-1, 2), unsized: string}, outputs=dict)"


def test_onnx_whose_weights_are_not_in_memory(tmp_path: Path):
    weights = onnx_with_weights_beside(tmp_path, "w.data")
    with pytest.raises(mlplat.MisuseError, match=r"not in memory but in w\.data"):
        logged(onnx.load(tmp_path / "m.onnx", load_external_data=False))
    info = logged(onnx.load(tmp_path / "m.onnx"))
    [answer] = mlplat.load_model(info).run(None, {"x": np.eye(64, dtype=np.float32)})
    assert np.allclose(answer, weights, atol=1e-6)


def test_published_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    # A local directory of the same name is not what was logged.
    os.mkdir("model")
    Path("model/other").write_text("x")
    model = LinearRegression().fit(FRAME, NUMBER)
    with mlplat.start_run("e") as run:
        info = run.log_model(model, "deep/model", registered_model_name="delay")
        second = run.publish_model("delay", "deep/model")
    first = info.registered_version
    assert (first.name, first.version, first.artifact_path) == ("delay", 1, "deep/model")
    assert second.version == 2
    mlplat.models.set_alias("delay", "champion", 1)
    for name in ("models:/delay/1", "models:/delay/2", "models:/delay@champion", "models:/delay/champion", "models:/delay", "models:/delay/latest"):  # fmt: skip
        assert np.allclose(mlplat.load_model(name).predict(FRAME), NUMBER)
    for held in (first, second, info):
        assert np.allclose(mlplat.load_model(held).predict(FRAME), NUMBER)
    local = mlplat.models.download(first, into=tmp_path / "here")
    assert np.allclose(mlplat.load_model(local).predict(FRAME), NUMBER)
    with pytest.raises(mlplat.NotFoundError):
        mlplat.load_model("models:/delay/9")
    with pytest.raises(mlplat.NotFoundError):
        mlplat.load_model(f"runs:/{run.id}/nothing")
    with pytest.raises(mlplat.MisuseError, match="runs:/"):
        mlplat.load_model("s3://bucket/model")
    with pytest.raises(mlplat.FileError, match="no model at"):
        mlplat.load_model("nothing")


def test_what_is_left_of_another_model_is_not_published():
    booster = xgboost.train({"max_depth": 1}, xgboost.DMatrix(FRAME, NUMBER), 1)
    linear = LinearRegression().fit(FRAME, NUMBER)
    with mlplat.start_run("e") as run:
        # The same kind of model, without the example of the first time.
        run.log_model(linear, "model", input_example=FRAME.head())
        run.log_model(linear, "model", registered_model_name="same")
    with mlplat.start_run("e") as run:
        run.log_model(linear, "model")
        with pytest.raises(mlplat.FailedPreconditionError, match=r"holds model\.pkl of another model"):
            run.log_model(booster, "model", registered_model_name="stale")
        with pytest.raises(mlplat.FailedPreconditionError, match="name of its own"):
            run.publish_model("stale", "model")
        # It is logged nevertheless, and goes well under its own name.
        assert isinstance(mlplat.load_model(f"runs:/{run.id}/model"), xgboost.Booster)
        version = run.log_model(booster, "booster", registered_model_name="stale").registered_version
    assert version.version == 1
    assert not any(file.path.endswith(".pkl") for file in version.files)


def test_a_plain_pickle_that_was_published(tmp_path: Path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "weights.bin").write_bytes(b"x")
    with mlplat.start_run("e") as run:
        version = run.publish_model("m", tmp_path / "model.pkl")
        other = run.publish_model("n", tmp_path / "weights.bin")
    assert mlplat.load_model(version) == {"a": 1}
    with pytest.raises(mlplat.MisuseError, match=r"models\.download"):
        mlplat.load_model(other)


def test_a_version_whose_files_were_logged_again_is_refused(tmp_path: Path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps("first"))
    with mlplat.start_run("e") as run:
        version = run.publish_model("m", tmp_path / "model.pkl")
        (tmp_path / "model.pkl").write_bytes(pickle.dumps("second"))
        try:
            run.log_artifact(tmp_path / "model.pkl")
        except mlplat.FailedPreconditionError:
            return  # the server keeps what was published
        with pytest.raises(mlplat.DataLossError, match="not what was published"):
            mlplat.load_model(version)


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["BOMB"],))


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "manifest", "outside", "format"])
def test_damaged_models_are_refused_before_anything_is_executed(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    with mlplat.start_run("e") as run:
        run.log_model([1, 2, 3], "model")
    folder = Path(mlplat.get_run(run.id).download_artifact("model", into=tmp_path))
    manifest = json.loads((folder / "mlplat-model.json").read_text())
    if damage == "changed":
        (folder / "model.pkl").write_bytes(pickle.dumps(Bomb()))
    elif damage == "cut":
        (folder / "model.pkl").write_bytes((folder / "model.pkl").read_bytes()[:-1])
    elif damage == "missing":
        (folder / "model.pkl").unlink()
    elif damage == "manifest":
        (folder / "mlplat-model.json").write_text("{}")
    elif damage == "outside":
        manifest["files"][0]["path"] = "../model/model.pkl"
        (folder / "mlplat-model.json").write_text(json.dumps(manifest))
    else:
        manifest["format"] = 99
        (folder / "mlplat-model.json").write_text(json.dumps(manifest))
    with pytest.raises((mlplat.DataLossError, mlplat.FailedPreconditionError)):
        mlplat.load_model(folder)
    assert not (tmp_path / "exploded").exists()


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


def packages(info: mlplat.ModelInfo) -> set[str]:
    return {line.split("==")[0] for line in info.requirements}


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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
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
    from mlplat._model_files._pickle_scan import scan_file

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
    found = scan_file(str(path))
    assert {names.get(name, name) for name in found.modules} == {names.get(n, n) for n in reader.found}
    assert not found.by_joblib
    joblib.dump(arrays, path, protocol=protocol)
    with path.open("rb") as file:
        reader = NamedOfJoblib(str(path), file, False)
        reader.load()
    found = scan_file(str(path))
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


def test_a_model_of_a_module_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_module.py").write_text("class Net:\n    pass\n")
    code = (
        "import mlplat, own_module\n"
        "with mlplat.start_run('e') as run:\n"
        "    print(run.log_model(own_module.Net()).model_uri)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "own_module, which belongs to no installed package" in done.stderr
    with pytest.raises(mlplat.FailedPreconditionError, match="own_module"):
        mlplat.load_model(done.stdout.strip())


def test_a_model_that_fails_on_its_example_is_logged_without_outputs(capsys: pytest.CaptureFixture[str]):
    model = LinearRegression().fit(FRAME, NUMBER)
    info = logged(model, input_example=np.zeros((2, 9)))
    assert info.signature is not None
    assert info.signature.inputs == {"kind": "tensor", "type": "float64", "shape": [-1, 9]}
    assert info.signature.outputs is None
    assert "failed on the input example" in capsys.readouterr().err


def test_signatures():
    infer = mlplat.infer_signature
    assert infer([1.5, 2.5]).inputs == {"kind": "tensor", "type": "float64", "shape": [-1]}
    assert infer("text", 1).to_dict() == {"inputs": {"kind": "text"}, "outputs": {"kind": "int"}}
    rows = infer([{"a": 1, "b": "x"}, {"a": 2, "b": None}]).inputs
    assert rows == {
        "kind": "table",
        "columns": [
            {"name": "a", "type": "int", "nullable": False},
            {"name": "b", "type": "string", "nullable": True},
        ],
    }
    frame = pd.DataFrame(
        {"c": pd.Categorical(["x"]), "t": pd.to_datetime(["2026-01-01"]), "s": ["x"], "n": [None]}
    )
    assert infer(frame).columns == ["c", "t", "s", "n"]
    both = infer({"ids": np.zeros((2, 3), np.int64), "mask": np.zeros((2, 3), bool)}).inputs
    assert both is not None
    assert both["tensors"]["ids"] == {"kind": "tensor", "type": "int64", "shape": [-1, 3]}
    signature = infer(FRAME, NUMBER)
    assert mlplat.ModelSignature.from_dict(signature.to_dict()) == signature
    assert logged([1], signature=signature).signature == signature
    assert "distance: float64" in repr(signature)
    with pytest.raises(mlplat.WrongTypeError, match="infer_signature"):
        logged([1], signature=3)


def test_asyncio_twin():
    async def work() -> Any:
        async with mlplat.aio.start_run("e") as run:
            info = await run.log_model(LinearRegression().fit(FRAME, NUMBER), registered_model_name="m")
        assert info.registered_version.version == 1
        return await mlplat.aio.load_model("models:/m/1")

    assert np.allclose(asyncio.run(work()).predict(FRAME), NUMBER)
