"""Models of ONNX: what they tell of themselves, and the files beside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlplat
import numpy as np
import onnx
import pytest
from logged_models import logged

pytestmark = pytest.mark.usefixtures("project")

RNG = np.random.default_rng(0)


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
        assert {"onnx", "onnxruntime"} <= {line.split("==")[0] for line in info.requirements}
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
