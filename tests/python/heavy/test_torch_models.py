"""Models, images and histograms of the real PyTorch and transformers, on the CPU."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import mlplat
import numpy as np
import pytest
import torch
from logged_models import log_model_of_own_module, packages, run_script
from torch import nn

pytestmark = [pytest.mark.usefixtures("project"), pytest.mark.filterwarnings("default")]


class Net(nn.Module):
    """Defined in no package, so cloudpickle has to take it along."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def same(one: nn.Module, other: nn.Module) -> bool:
    data = torch.randn(5, 4)
    one.eval()
    other.eval()
    return bool(torch.equal(one(data), other(data)))


def test_a_module_comes_back():
    model = Net().train()
    model.layers[1].eval()
    modes = [layer.training for layer in model.modules()]
    with mlplat.start_run("e") as run:
        info = run.log_model(
            model, "model", input_example=np.zeros((3, 4), np.float32), registered_model_name="net"
        )
    assert info.flavor == "torch"
    assert [layer.training for layer in model.modules()] == modes
    assert info.signature is not None
    assert info.signature.inputs == {"kind": "tensor", "type": "float32", "shape": [-1, 4]}
    assert info.signature.outputs == {"kind": "tensor", "type": "float32", "shape": [-1, 2]}
    assert "torch" in packages(info)
    again = mlplat.load_model("models:/net/1")
    assert same(model, again)


def test_a_module_of_a_script_comes_back_in_another_process(tmp_path: Path):
    code = (
        "import mlplat, torch\n"
        "class Own(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(2, 1)\n"
        "    def forward(self, x):\n"
        "        return self.layer(x)\n"
        "with mlplat.start_run('e') as run:\n"
        "    info = run.log_model(Own())\n"
        "print(info.model_uri, *info.requirements)\n"
    )
    done = run_script(code, tmp_path)
    uri, *requirements = done.stdout.split()
    # The class goes along by value.
    assert {"torch", "cloudpickle"} <= {line.split("==")[0] for line in requirements}
    model = mlplat.load_model(uri)
    assert model(torch.zeros(3, 2)).shape == (3, 1)


def test_a_module_of_a_package_needs_that_only(capsys: pytest.CaptureFixture[str]):
    with mlplat.start_run("e") as run:
        info = run.log_model(nn.Linear(2, 1), "model")
    assert "torch" in packages(info)
    assert "cloudpickle" not in packages(info)
    assert "belongs to no installed package" not in capsys.readouterr().err


def test_a_lightning_module_needs_lightning():
    lightning = pytest.importorskip("lightning")

    class Own(lightning.LightningModule):
        pass

    with mlplat.start_run("e") as run:
        assert {"lightning", "torch", "cloudpickle"} <= packages(run.log_model(Own(), "model"))


def test_a_module_of_the_users_own_file_is_named(tmp_path: Path):
    code = "import torch\nclass Net(torch.nn.Module):\n    pass\n"
    _, said = log_model_of_own_module("own_net", code, tmp_path)
    assert "own_net, which belongs to no installed package" in said


class Several(nn.Module):
    """Takes several tensors, and gives several."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.add_(y), y


def test_examples_of_several_tensors_and_of_tables():
    pandas = pytest.importorskip("pandas")
    given = torch.zeros(200, 2)
    floats = {"kind": "tensor", "type": "float32", "shape": [-1, 2]}
    with mlplat.start_run("e") as run:
        for example in (
            (torch.zeros(200, 2), np.ones((200, 2), np.float32)),
            {"x": given, "y": torch.ones(200, 2)},
        ):
            info = run.log_model(Several(), "several", input_example=example)
            assert info.signature is not None
            assert info.signature.outputs == {"kind": "tuple", "values": [floats, floats]}
        assert info.signature.inputs == {"kind": "tensors", "tensors": {"x": floats, "y": floats}}
        assert not given.any()
        frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, dtype="float32")
        info = run.log_model(nn.Linear(2, 2), "linear", input_example=frame)
        assert info.signature is not None
        assert info.signature.columns == ["a", "b"]
        assert info.signature.outputs == floats


def test_torchscript(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    script = torch.jit.script(Net().eval())
    torch.jit.save(script, tmp_path / "script.pt")
    with mlplat.start_run("e") as run:
        info = run.log_model(script, "model", input_example=torch.zeros(2, 4))
        assert info.signature is not None
        assert info.signature.outputs == {"kind": "tensor", "type": "float32", "shape": [-1, 2]}
        assert same(script, mlplat.load_model(run.log_model(tmp_path / "script.pt", "file")))
    assert not any("looks like a TorchScript archive" in str(warning.message) for warning in recwarn)
    assert info.manifest["loader"]["kind"] == "torchscript"
    assert same(script, mlplat.load_model(info))


@pytest.mark.parametrize("kind", ["model", "file"])
def test_transformers(kind: str, tmp_path: Any):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = transformers.BertModel(config)
    if kind == "file":
        torch.save({"weights": torch.ones(2)}, tmp_path / "weights.pt")
        with mlplat.start_run("e") as run:
            info = run.log_model(tmp_path / "weights.pt", "weights")
        assert mlplat.load_model(info)["weights"].tolist() == [1.0, 1.0]
        return
    with mlplat.start_run("e") as run:
        info = run.log_model(model, "bert")
    assert info.flavor == "transformers"
    assert {"transformers", "torch"} <= packages(info)
    assert any(name.endswith(".safetensors") for name in info.files)
    again = mlplat.load_model(info)
    ids = torch.tensor([[1, 2, 3]])
    model.eval()
    again.eval()
    assert torch.allclose(again(ids).last_hidden_state, model(ids).last_hidden_state)


def test_tensors_are_values_and_images():
    picture = torch.zeros(3, 4, 5, requires_grad=True)
    with mlplat.start_run("e") as run:
        run.log_image(picture, key="i")
        run.log_image(torch.ones(4, 5, dtype=torch.bfloat16), key="i")
        run.log_histogram("h", torch.randn(100, requires_grad=True))
        run.log_metric("m", torch.tensor(1.5))
        run.log_confusion_matrix(torch.tensor([0, 1]), torch.tensor([1, 1]))
        run.log_table({"a": torch.arange(3)}, "t.json")
        run.log_dict({"a": torch.arange(2)}, "d.json")
        run.log_audio(torch.zeros(1, 8000), 8000)
        images = run.images("i")
        # Width and height; then the kind of colours: RGB, grey.
        assert [struct.unpack(">IIBB", image.read()[16:26]) for image in images] == [
            (5, 4, 8, 2),
            (5, 4, 8, 0),
        ]
        assert run.histograms("h").to_arrow()["count"].to_pylist()
        assert run.load_table("t.json").num_rows == 3
