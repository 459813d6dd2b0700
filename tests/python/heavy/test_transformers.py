"""Autologging with the real transformers, on the CPU; the model is made from a config, nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlplat
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Sentences(torch.utils.data.Dataset[Any]):
    """The label is whether the first word is a low one."""

    def __init__(self, count: int, seed: int) -> None:
        self.words = torch.randint(1, 50, (count, 8), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return {"input_ids": self.words[at], "labels": int(self.words[at][0] < 25)}


def make_trainer(folder: Path, *callbacks: TrainerCallback, steps: int = 20, save: str = "no") -> Trainer:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=8, learning_rate=0.01, logging_steps=2,
        eval_strategy="steps", eval_steps=10, save_strategy=save, save_steps=2, report_to="none", disable_tqdm=True, use_cpu=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    return Trainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=Sentences(64, 0),
        eval_dataset=Sentences(32, 1),
        callbacks=list(callbacks),
    )


def only_run() -> mlplat.Run:
    [found] = mlplat.search_runs().to_dicts()
    return mlplat.get_run(found["run_id"])


def test_a_training(logged: str, tmp_path: Path):
    trainer = make_trainer(tmp_path)
    trainer.train()
    run = only_run()
    assert (run.name, run.status) == ("BertForSequenceClassification", "FINISHED")
    assert (run.tags["autolog"], run.tags["model_type"]) == ("transformers", "bert")
    assert (run.params["learning_rate"], run.params["max_steps"]) == ("0.01", "20")
    told = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    points = run.metric_history("loss").to_dicts()
    assert [(point["step"], point["value"]) for point in points] == told
    assert len(points) == 10
    assert run.metric_summaries["eval_loss"].count == 2
    assert json.loads(Path(run.download_artifact("model_config.json")).read_text())["hidden_size"] == 16

    # The model that comes back is the one that was trained.
    again = mlplat.load_model(f"runs:/{run.id}/model")
    words = Sentences(4, 2).words
    with torch.no_grad():
        ours, theirs = (model.eval()(words).logits for model in (trainer.model, again))
    assert torch.equal(ours, theirs)

    assert json.loads(run.read_artifact("model/mlplat-model.json"))["signature"] == {
        "inputs": {"kind": "tensors", "tensors": {"input_ids": {"kind": "tensor", "type": "int64", "shape": [-1, -1]}}},
        "outputs": {"kind": "tensors", "tensors": {"logits": {"kind": "tensor", "type": "float32", "shape": [-1, 2]}}},
    }  # fmt: skip
    assert ours.shape == (4, 2)

    # What is evaluated later belongs to the run.
    trainer.evaluate(metric_key_prefix="late")
    assert "late_loss" in only_run().metrics
    print(f"{run.name}: {len(points)} points, loss {told[0][1]:.3f} -> {told[-1][1]:.3f}")


def test_a_training_that_fails(logged: str, tmp_path: Path):
    class Fails(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 5:
                raise ArithmeticError("the loss is no number")

    with pytest.raises(ArithmeticError, match="no number"):
        make_trainer(tmp_path, Fails()).train()
    run = only_run()
    assert run.status == "FAILED"
    assert run.metric_summaries["loss"].count == 2


def test_the_run_of_the_user_goes_on(logged: str, tmp_path: Path):
    with mlplat.start_run(name="mine") as run:
        make_trainer(tmp_path, steps=4).train()
        assert mlplat.get_run(run.id).status == "RUNNING"
    found = only_run()
    assert (found.name, found.status) == ("mine", "FINISHED")
    assert found.metric_summaries["loss"].count == 2


def test_repeated_trainings_add_steps(logged: str, tmp_path: Path):
    with mlplat.start_run():
        make_trainer(tmp_path / "a", steps=4).train()
        trainer = make_trainer(tmp_path / "b", steps=4, save="steps")
        trainer.train()
        # The same training goes on.
        make_trainer(tmp_path / "b", steps=8).train(str(tmp_path / "b" / "checkpoint-4"))
        trainer.train()
    points = only_run().metric_history("loss").to_dicts()
    assert [point["step"] for point in points] == [2, 4, 7, 9, 11, 13, 16, 18]
