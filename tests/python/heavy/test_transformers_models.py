"""Models and pipelines of the real transformers, logged and given back; all are made from configs, nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlplat
import pytest
import torch
import transformers
from logged_models import logged, packages, run_script
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

pytestmark = [pytest.mark.usefixtures("project"), pytest.mark.filterwarnings("default")]

WORDS = ["late flight", "on time", "flight on time late late late late late late late late"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))


def make_tokenizer() -> Any:
    words = {word: at for at, word in enumerate(["[UNK]", "[PAD]", "late", "flight", "on", "time"])}
    made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", model_max_length=8
    )


def make_bert(kind: Any = transformers.BertForSequenceClassification) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8, num_labels=3,
    )  # fmt: skip
    return kind(config).eval()


def settings(pipeline: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(pipeline).items()
        if name != "call_count" and isinstance(value, (dict, int, str, type(None), torch.device))
    }


def test_a_pipeline_keeps_its_settings():
    pipeline = transformers.pipeline(
        "text-classification", model=make_bert(), tokenizer=make_tokenizer(), top_k=2, truncation=True,
        function_to_apply="sigmoid", batch_size=4, num_workers=0, device="cpu",
    )  # fmt: skip
    random = torch.get_rng_state()
    info = logged(pipeline, input_example=WORDS)
    assert torch.equal(torch.get_rng_state(), random)
    assert (info.flavor, info.manifest["loader"]["task"]) == ("transformers", "text-classification")
    assert {"transformers", "torch", "tokenizers"} <= packages(info)
    assert info.signature is not None
    assert info.signature.inputs == {"kind": "list", "items": {"kind": "text"}}
    # Other programs read it as well.
    assert {"pretrained/config.json", "pretrained/model.safetensors", "pretrained/tokenizer.json"} <= set(
        info.files
    )
    # The weights are there once.
    assert not any(name.endswith(".pt") for name in info.files)
    again = mlplat.load_model(info)
    assert type(again) is type(pipeline)
    assert again._postprocess_params["top_k"] == 2
    assert settings(again) == settings(pipeline)
    assert again(WORDS) == pipeline(WORDS)


def test_a_pipeline_that_generates():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1
    )
    pipeline = transformers.pipeline(
        "text-generation", model=transformers.GPT2LMHeadModel(config).eval(), tokenizer=make_tokenizer(), max_new_tokens=5,
        do_sample=False, return_full_text=False,
    )  # fmt: skip
    pipeline.model.generation_config.repetition_penalty = 1.5
    again = mlplat.load_model(logged(pipeline))
    assert settings(again) == settings(pipeline)
    assert again.tokenizer.padding_side == "left"
    assert again.model.generation_config.repetition_penalty == 1.5
    assert again(WORDS[:2]) == pipeline(WORDS[:2])


SCRIPT = """
import mlplat, torch, transformers
from {module} import make_bert, make_tokenizer

class Own(transformers.BertForSequenceClassification):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)

class Shouting(transformers.TextClassificationPipeline):
    def __init__(self, word, **kwargs):
        super().__init__(**kwargs)
        self.word = word

    def postprocess(self, *args, **kwargs):
        assert isinstance(self.model, Own)
        return self.word, super().postprocess(*args, **kwargs)[0]["label"]

pipeline = Shouting("hey", model=make_bert(Own), tokenizer=make_tokenizer(), top_k=1)
with mlplat.start_run("e") as run:
    info = run.log_model(pipeline)
    model = run.log_model(pipeline.model, "own")
print(info.model_uri, model.model_uri, pipeline("late flight")[0][1])
"""


def test_classes_of_a_script_come_back_in_another_process(tmp_path: Path):
    done = run_script(
        SCRIPT.format(module=__name__), tmp_path, str(Path(__file__).parent), str(Path(__file__).parents[1])
    )
    uri, own, label = done.stdout.split()[-3:]
    pipeline = mlplat.load_model(uri)
    assert (type(pipeline).__name__, type(pipeline.model).__name__) == ("Shouting", "Own")
    assert pipeline("late flight") == [("hey", label)]
    model = mlplat.load_model(own)
    assert type(model) is type(pipeline.model)


def test_code_beside_a_model_goes_along(tmp_path: Path):
    """What `trust_remote_code` loads is in no package that another process has."""
    folder = tmp_path / "remote_model"
    folder.mkdir()
    (folder / "modeling.py").write_text(
        "from transformers import BertForSequenceClassification\n"
        "class Remote(BertForSequenceClassification):\n"
        "    def answer(self):\n"
        "        return 42\n"
    )
    model = make_bert()
    model.config.auto_map = {"AutoModelForSequenceClassification": "modeling.Remote"}
    model.save_pretrained(folder)
    code = (
        "import mlplat, transformers\n"
        f"model = transformers.AutoModelForSequenceClassification.from_pretrained({str(folder)!r}, trust_remote_code=True)\n"
        "assert type(model).__module__.startswith('transformers_modules'), type(model)\n"
        "with mlplat.start_run('e') as run:\n"
        "    print(run.log_model(model).model_uri)\n"
    )
    done = run_script(code, tmp_path)
    assert "belongs to no installed package" not in done.stderr
    again = mlplat.load_model(done.stdout.strip())
    assert (type(again).__name__, again.answer()) == ("Remote", 42)
    ids = torch.tensor([[2, 3, 4]])
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_class_of_a_script_without_cloudpickle_is_refused(monkeypatch: pytest.MonkeyPatch):
    kind = type("Own", (transformers.TextClassificationPipeline,), {"__module__": "__main__"})
    pipeline = kind(model=make_bert(), tokenizer=make_tokenizer())
    monkeypatch.setitem(sys.modules, "cloudpickle", None)  # not installed
    with pytest.raises(mlplat.MisuseError, match="pip install cloudpickle"):
        logged(pipeline)


def test_a_model_with_other_layers_than_its_config_tells_of():
    model = make_bert()
    model.classifier = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    ids = torch.tensor([[2, 3, 4]])
    info = logged(model, input_example={"input_ids": ids})
    assert info.signature is not None
    assert info.signature.outputs == {
        "kind": "tensors",
        "tensors": {"logits": {"kind": "tensor", "type": "float32", "shape": [-1, 3]}},
    }
    assert {"transformers", "torch"} <= packages(info)
    again = mlplat.load_model(info)
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_pipeline_that_was_stored_without_its_settings(tmp_path: Path):
    """As it was before: loaded by its task."""
    from mlplat._model_files import _flavors

    pipeline = transformers.pipeline("text-classification", model=make_bert(), tokenizer=make_tokenizer())
    pipeline.save_pretrained(tmp_path / "pretrained")
    loader = {
        "kind": "transformers",
        "file": "pretrained",
        "class": "TextClassificationPipeline",
        "task": "text-classification",
    }
    again = _flavors.load(str(tmp_path), loader, [])
    assert again(WORDS[:2]) == pipeline(WORDS[:2])
