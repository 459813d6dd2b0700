"""Autologging with the real PyTorch Lightning, on the CPU; both of its packages."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import mlplat
import pytest
import torch
from mlplat._autolog import _session
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request: pytest.FixtureRequest, project: str) -> Iterator[Any]:
    mlplat.autolog()
    _session._warned.clear()
    yield importlib.import_module(request.param)
    mlplat.autolog(disable=True)
    assert not _session._warned, "no warning was expected"


def data(seed: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(256, 4, generator=generator)
    targets = inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.7
    return DataLoader(TensorDataset(inputs, targets), batch_size=32)


def make_model(lightning: Any, fails_at: int | None = None) -> Any:
    class Regression(lightning.LightningModule):
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 1)
            self.losses: list[float] = []

        def training_step(self, batch: Any, index: int) -> Any:
            if self.global_step == fails_at:
                raise ArithmeticError("the loss is no number")
            loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.losses.append(float(loss.detach()))
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

        def test_step(self, batch: Any, index: int) -> None:
            self.log("test_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])

    return Regression(0.05)


def make_trainer(lightning: Any, folder: Path, **settings: Any) -> Any:
    return lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"log_every_n_steps": 1, **settings},
    )


def only_run() -> mlplat.Run:
    [found] = mlplat.search_runs().to_dicts()
    return mlplat.get_run(found["run_id"])


def test_a_training(lightning: Any, tmp_path: Path):
    model = make_model(lightning)
    trainer = make_trainer(lightning, tmp_path, max_epochs=5)
    trainer.fit(model, data(0), data(1))
    run = only_run()
    assert (run.name, run.status, run.tags["autolog"]) == ("Regression", "FINISHED", "lightning")
    assert (run.params["lr"], run.params["max_epochs"], run.params["optimizer_name"]) == ("0.05", "5", "Adam")
    assert run.params["optimizer_lr"] == "0.05"
    history = run.metric_history("train_loss").to_dicts()
    assert [point["value"] for point in history] == model.losses
    assert [point["step"] for point in history] == list(range(40))
    assert model.losses[-1] < model.losses[0]
    assert run.metric_summaries["val_loss"].count == 5
    assert run.metrics["global_step"] == 40

    # The checkpoint is where it would be without us, and in the run.
    local = trainer.checkpoint_callback.best_model_path
    assert Path(local).parent == tmp_path / "checkpoints"
    [kept] = [file.path for file in run.artifacts("checkpoints")]
    assert Path(run.download_artifact(kept)).read_bytes() == Path(local).read_bytes()
    weights = torch.load(run.download_artifact(kept), weights_only=False)["state_dict"]
    assert torch.equal(weights["layer.weight"], model.layer.weight)
    assert "Linear" in Path(run.download_artifact("model_summary.txt")).read_text()

    # The model that comes back is the one that was trained.
    again = mlplat.load_model(f"runs:/{run.id}/model")
    assert type(again).__name__ == "Regression"
    assert torch.equal(again.layer.weight, model.layer.weight)
    assert again.hparams == model.hparams
    inputs = data(3).dataset.tensors[0]  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(again.layer(inputs), model.layer(inputs))
    assert model.trainer is trainer

    # What is tested later belongs to the run.
    [scores] = trainer.test(model, data(2), verbose=False)
    assert only_run().metrics["test_loss"] == scores["test_loss"]
    assert trainer.loggers == []
    print(f"{run.name}: {len(history)} points, train_loss {model.losses[0]:.3f} -> {model.losses[-1]:.3f}")


def test_a_fit_of_few_steps_logs_the_end_of_each_epoch(lightning: Any, tmp_path: Path):
    class Said(type(make_model(lightning))):
        def training_step(self, batch: Any, index: int) -> Any:
            loss = super().training_step(batch, index)
            self.log("both", loss, on_step=True, on_epoch=True)
            return loss

        def on_train_epoch_end(self) -> None:
            if self.current_epoch != 1:
                self.log("quiet", float(self.current_epoch), logger=False)

    model = Said(0.05)
    trainer = make_trainer(lightning, tmp_path, max_epochs=3, log_every_n_steps=50)
    trainer.fit(model, data(0), data(1))
    run = only_run()

    def points(key: str) -> list[tuple[int, float]]:
        return [(point["step"], point["value"]) for point in run.metric_history(key).to_dicts()]

    ends = [(step, model.losses[step]) for step in (7, 15, 23)]
    assert points("train_loss") == points("both_step") == ends
    # These Lightning logs itself; they are not logged twice, nor by a third name.
    assert len(points("val_loss")) == len(points("both_epoch")) == 3
    assert "both" not in run.metrics
    # What an epoch did not log is not logged again.
    assert points("quiet") == [(7, 0.0), (23, 2.0)]
    assert not [one for one in trainer.callbacks if "Mlplat" in type(one).__name__]


def test_repeated_fits_add_steps(lightning: Any, tmp_path: Path):
    with mlplat.start_run() as run:
        make_trainer(lightning, tmp_path / "a", max_epochs=1).fit(make_model(lightning), data(0))
        model, trainer = make_model(lightning), make_trainer(lightning, tmp_path / "b", max_epochs=1)
        trainer.fit(model, data(0))
        # The same fit goes on: by the same trainer, and from its checkpoint.
        trainer.fit_loop.max_epochs = 2
        trainer.fit(model, data(0))
        checkpoint = trainer.checkpoint_callback.best_model_path
        again = make_trainer(lightning, tmp_path / "c", max_epochs=3)
        again.fit(model, data(0), ckpt_path=checkpoint)
    points = mlplat.get_run(run.id).metric_history("train_loss").to_dicts()
    assert [point["step"] for point in points] == list(range(32))


def test_a_training_that_fails(lightning: Any, tmp_path: Path):
    trainer = make_trainer(lightning, tmp_path, max_epochs=2)
    with pytest.raises(ArithmeticError, match="no number"):
        trainer.fit(make_model(lightning, fails_at=3), data(0))
    run = only_run()
    assert run.status == "FAILED"
    assert "the loss is no number" in run.status_message
    assert run.metric_summaries["train_loss"].count == 3
    assert trainer.loggers == []


def test_the_run_of_the_user_goes_on(lightning: Any, tmp_path: Path):
    with mlplat.start_run(name="mine") as run:
        trainer = make_trainer(lightning, tmp_path, max_epochs=1, enable_checkpointing=False)
        trainer.fit(make_model(lightning), data(0))
        assert mlplat.get_run(run.id).status == "RUNNING"
    found = only_run()
    assert (found.name, found.metric_summaries["train_loss"].count) == ("mine", 8)
    assert [file.path for file in found.artifacts("checkpoints")] == ["checkpoints/last.ckpt"]


def test_a_model_that_names_an_example_has_a_signature(lightning: Any, tmp_path: Path):
    model = make_model(lightning)
    type(model).forward = lambda self, inputs: self.layer(inputs)  # pyright: ignore[reportAttributeAccessIssue]
    model.example_input_array = torch.ones(2, 4)
    make_trainer(lightning, tmp_path, max_epochs=1).fit(model, data(0))
    manifest = json.loads(only_run().read_artifact("model/mlplat-model.json"))
    assert manifest["signature"] == {
        "inputs": {"kind": "tensor", "type": "float32", "shape": [-1, 4]},
        "outputs": {"kind": "tensor", "type": "float32", "shape": [-1, 1]},
    }
    assert model.training


def test_a_model_that_cannot_be_pickled_is_one_warning(
    lightning: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    for at in range(2):
        model = make_model(lightning)
        model.lock = threading.Lock()
        make_trainer(lightning, tmp_path / str(at), max_epochs=1).fit(model, data(0))
    assert capfd.readouterr().err.count("the model was not logged: MisuseError") == 1
    assert {run["status"] for run in mlplat.search_runs().to_dicts()} == {"FINISHED"}
    _session._warned.clear()


def test_a_trainer_can_be_sent_to_another_process_while_it_is_watched(lightning: Any, tmp_path: Path):
    """As the strategies that spawn processes do."""
    sent = []

    class Sends(lightning.Callback):
        def setup(self, trainer: Any, module: Any, stage: str) -> None:
            sent.append(cloudpickle.dumps((trainer, module)))

    trainer = make_trainer(lightning, tmp_path, max_epochs=1, callbacks=[Sends()])
    trainer.fit(make_model(lightning), data(0))
    other, _ = cloudpickle.loads(sent[0])
    assert (other.max_epochs, len(other.loggers)) == (1, 1)


def test_trainings_are_the_same_with_and_without(lightning: Any, tmp_path: Path):
    def program(folder: str) -> list[float]:
        torch.manual_seed(1)
        model = make_model(lightning)
        type(model).forward = lambda self, inputs: self.layer(inputs + torch.rand(1))  # pyright: ignore[reportAttributeAccessIssue]
        model.example_input_array = torch.ones(2, 4)
        make_trainer(lightning, tmp_path / folder, max_epochs=1).fit(model, data(0))
        return [*model.losses, float(torch.rand(1))]

    logged = program("a")
    assert len(mlplat.search_runs().to_dicts()) == 1
    mlplat.autolog(disable=True)
    assert program("b") == logged


def test_a_tuner_makes_no_runs(lightning: Any, tmp_path: Path):
    tuner = importlib.import_module(f"{lightning.__name__}.tuner").Tuner
    model = make_model(lightning)
    model.lr = 0.1
    type(model).train_dataloader = lambda self: data(0)  # pyright: ignore[reportAttributeAccessIssue]
    trainer = make_trainer(lightning, tmp_path, max_epochs=1)
    tuner(trainer).lr_find(model, num_training=5)
    assert mlplat.search_runs().to_dicts() == []
    trainer.fit(model)
    assert only_run().metric_summaries["train_loss"].count == 8
