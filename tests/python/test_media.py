"""What runs show: every kind of media goes in as users of MLflow and Weights & Biases write it, and comes back."""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
import wave
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import matplotlib
import mlplat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

pytestmark = pytest.mark.usefixtures("project")


def content(run: mlplat.ActiveRun, path: str) -> bytes:
    return Path(mlplat.get_run(run.id).download_artifact(path)).read_bytes()


def media_types(run: mlplat.ActiveRun) -> dict[str, str]:
    return {file.path: file.media_type for file in mlplat.get_run(run.id).artifacts()}


def as_array(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_figures_of_matplotlib():
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    with mlplat.start_run("e") as run:
        assert run.log_figure(figure, "plots/loss.png") == "plots/loss.png"
        assert run.log_figure(figure, "loss.svg", save_kwargs={"transparent": True}) == "loss.svg"
        assert run.log_figure(axes, "loss") == "figures/loss.png"
        assert mlplat.log_figure(figure, "loss", step=2).startswith("images/loss/000000000002_")
        assert mlplat.log_figure(figure, "loss", step=10).endswith(".png")
    assert as_array(content(run, "plots/loss.png")).ndim == 3
    assert b"<svg" in content(run, "loss.svg")
    assert media_types(run)["figures/loss.png"] == "image/png"
    assert mlplat.get_run(run.id).images("loss").steps == [2, 10]
    plt.close(figure)


def test_figures_of_plotly():
    figure = go.Figure(go.Scatter(y=[1, 3, 2]))
    with mlplat.start_run("e") as run:
        assert run.log_figure(figure, "curve") == "figures/curve.html"
        run.log_figure(figure, "curve.json")
        run.log_figure(figure, "whole.html", save_kwargs={"include_plotlyjs": False})
    assert json.loads(content(run, "curve.json"))["data"][0]["type"] == "scatter"
    assert b"cdn" in content(run, "figures/curve.html")
    assert b"cdn" not in content(run, "whole.html")


def test_images_are_exact():
    rng = np.random.default_rng(1)
    for shape in [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (1, 1), (300, 2, 3)]:
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        with mlplat.start_run("e") as run:
            run.log_image(pixels, "x.png")
        grey = len(shape) == 3 and shape[2] == 1
        assert np.array_equal(as_array(content(run, "x.png")), pixels[:, :, 0] if grey else pixels)


def test_images_of_all_kinds(tmp_path: Path):
    Image.new("RGB", (4, 3), (255, 0, 0)).save(tmp_path / "red.png")
    with mlplat.start_run("e") as run:
        run.log_image(np.array([[0.0, 0.5], [1.0, np.nan]]), "floats.png")
        run.log_image(np.array([[True, False]]), "mask.png")
        run.log_image(Image.new("CMYK", (4, 3)), "pil.jpg")
        run.log_image(tmp_path / "red.png", "copied/blood.png")
        run.log_image(np.zeros((3, 4, 3), np.uint8), artifact_file="a.webp")
        run.log_image([[1, 2, 3], [4, 5, 6]] * np.ones((2, 3), np.int64), "ints.png")
    assert as_array(content(run, "floats.png")).tolist() == [[0, 128], [255, 0]]
    assert as_array(content(run, "mask.png")).tolist() == [[255, 0]]
    assert content(run, "copied/blood.png") == (tmp_path / "red.png").read_bytes()
    assert media_types(run)["pil.jpg"] == "image/jpeg"
    assert Image.open(io.BytesIO(content(run, "a.webp"))).format == "WEBP"


def test_images_out_of_range_are_scaled_and_said(capsys: pytest.CaptureFixture[str]):
    with mlplat.start_run("e") as run:
        run.log_image(np.array([[-1.0, 0.0, 3.0]]), "x.png")
    assert as_array(content(run, "x.png")).tolist() == [[0, 64, 255]]
    assert "from -1 to 3" in capsys.readouterr().err


def test_series_of_images_are_browsed():
    at = datetime(2026, 1, 2, tzinfo=timezone.utc)
    with mlplat.start_run("e") as run:
        for step in (3, 20, 100):
            run.log_image(np.full((2, 2), step, np.uint8), key="samples", step=step, caption=f"step {step}")
        run.log_image([np.zeros((2, 2), np.uint8)] * 3, key="samples", step=7, timestamp=at)
        run.log_image(np.zeros((2, 2), np.uint8), "val/other")
        run.log_image(np.zeros((2, 2), np.uint8), key="val/other")
        assert len(run.images("samples")) == 6
        assert run.images("nothing").steps == []
    images = mlplat.get_run(run.id).images("samples")
    assert [image.step for image in images] == [3, 7, 7, 7, 20, 100]
    assert images.at(20)[0].to_pil().info["Description"] == "step 20"
    assert [image.caption for image in images] == ["step 3", "", "", "", "step 20", "step 100"]
    assert images[1].timestamp == at
    assert as_array(images[-1].read()).tolist() == [[100, 100], [100, 100]]
    assert images.keys == ["samples"]
    everything = mlplat.get_run(run.id).images()
    assert everything.keys == ["samples", "val/other"]
    assert [image.step for image in everything if image.key == "val/other"] == [0, 1]
    assert images._repr_html_().count("<img") == 6
    assert Path(images[0].download()).exists()


def test_captions_are_shown_beside_their_images(tmp_path: Path):
    long = "<b>ä</b> " + "x" * 9000
    with mlplat.start_run("e") as run:
        run.log_image(np.zeros((300, 300, 3)), key="a", caption=long)
        run.log_image(Image.new("RGB", (2, 2)), key="b", caption="of a PIL image, ü")
        Image.new("RGB", (2, 2)).save(tmp_path / "c.jpg")
        run.log_image(tmp_path / "c.jpg", key="c")
    images = mlplat.get_run(run.id).images()
    assert [image.caption for image in images] == [long, "of a PIL image, ü", ""]
    shown = mlplat.get_run(run.id).images()._repr_html_()
    assert "step 0<br>&lt;b&gt;ä&lt;/b&gt; xxx" in shown
    assert "of a PIL image, ü" in shown
    assert len(images[0]._repr_html_().split("<figcaption>")[1]) < 400


@pytest.mark.parametrize(
    ("image", "arguments", "why"),
    [
        (np.zeros((2, 2)), {}, "either"),
        (np.zeros((2, 2)), {"artifact_file": "a.png", "key": "k"}, "either"),
        (np.zeros((2, 2, 7)), {"key": "k"}, "shape"),
        (np.zeros((0, 2)), {"key": "k"}, "shape"),
        (np.full((2, 2), 300), {"key": "k"}, "0 to 255"),
        (np.array(["x"]), {"key": "k"}, "give numbers"),
        (b"x", {"key": "k"}, "bytes"),
        ("nothing.png", {"key": "k"}, "no image file"),
        (np.zeros((2, 2)), {"key": "../k"}, "relative path"),
        (np.zeros((2, 2)), {"artifact_file": "/a.png"}, "relative path"),
        ([], {"key": "k"}, "0 images"),
    ],
)
def test_wrong_images_are_refused_with_advice(image: Any, arguments: dict[str, Any], why: str):
    with mlplat.start_run("e") as run, pytest.raises(mlplat.MlplatError, match=why):
        run.log_image(image, **arguments)


def test_wrong_figures_are_refused_with_advice():
    with mlplat.start_run("e") as run:
        with pytest.raises(mlplat.WrongTypeError, match="log_image"):
            run.log_figure(np.zeros((2, 2)), "x.png")
        with pytest.raises(mlplat.MisuseError, match=r"\.html"):
            run.log_figure(plt.figure(), "x.html")
        with pytest.raises(mlplat.MisuseError, match=r"\.\."):
            run.log_figure(plt.figure(), "../x.png")


TABLE = {
    "text": ["a", None, "ü"],
    "number": [1, 2, None],
    "share": [0.5, math.nan, 2.0],
    "flag": [True, False, None],
}


@pytest.mark.parametrize("ending", ["json", "parquet"])
@pytest.mark.parametrize("make", [dict, pd.DataFrame, pl.DataFrame, pa.table])
def test_tables_come_back(ending: str, make: Any):
    data = make(TABLE)
    with mlplat.start_run("e") as run:
        assert run.log_table(data, f"eval/t.{ending}") == f"eval/t.{ending}"
        back = run.load_table(f"eval/t.{ending}")
    assert back.column_names == list(TABLE)
    assert back.to_pandas()["text"].tolist()[::2] == ["a", "ü"]
    assert back.to_pandas()["number"].tolist()[:2] == [1, 2]
    assert back.to_dicts()[0] == {"text": "a", "number": 1, "share": 0.5, "flag": True}
    assert mlplat.load_table(f"eval/t.{ending}", run.id).num_rows == 3


def test_a_table_in_json_is_what_pandas_and_mlflow_read():
    with mlplat.start_run("e") as run:
        run.log_table(pd.DataFrame({"t": pd.to_datetime(["2026-01-02"]), "x": [[1, 2]]}), "t.json")
    held = json.loads(content(run, "t.json"))
    assert held == {"columns": ["t", "x"], "data": [["2026-01-02T00:00:00", [1, 2]]]}
    assert pd.read_json(io.BytesIO(content(run, "t.json")), orient="split")["x"].tolist() == [[1, 2]]


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_tables_grow(ending: str):
    with mlplat.start_run("e") as run:
        for step in range(3):
            run.log_table({"step": [step], "text": [f"t{step}"]}, f"t.{ending}")
        run.log_table({"step": 3, "text": "t3"}, f"t.{ending}")
        assert run.load_table(f"t.{ending}").to_arrow()["step"].to_pylist() == [0, 1, 2, 3]
        run.log_table([{"step": 4, "extra": 1.5}], f"t.{ending}")
        assert run.load_table(f"t.{ending}").to_dicts()[-1] == {"step": 4, "text": None, "extra": 1.5}
        run.log_table({"step": [6]}, f"t.{ending}", append=False)
        assert run.load_table(f"t.{ending}").to_dicts() == [{"step": 6}]


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_another_process_adds_to_a_table(ending: str, monkeypatch: pytest.MonkeyPatch):
    code = f"import mlplat; [mlplat.log_table({{'a': [at]}}, 't.{ending}') for at in (2, 3)]"
    with mlplat.start_run("e") as run:
        run.log_table({"a": [1]}, f"t.{ending}")
        monkeypatch.setenv("MLPLAT_RUN_ID", run.id)
        subprocess.run([sys.executable, "-c", code], check=True)
        assert run.load_table(f"t.{ending}").to_arrow()["a"].to_pylist() == [1, 2, 3]


def test_other_forms_of_tables():
    with mlplat.start_run("e") as run:
        assert run.log_table({"a": np.arange(3), "b": ["x", "y,z", '"']}, "t.csv") == "t.csv"
        assert run.log_table({"a": [1]}, "predictions") == "tables/predictions.json"
        assert run.load_table("predictions").to_dicts() == [{"a": 1}]
    assert pd.read_csv(io.BytesIO(content(run, "t.csv")))["b"].tolist() == ["x", "y,z", '"']
    assert mlplat.get_run(run.id).load_table("t.csv").num_rows == 3


ODD = {
    "loss": [1.5, math.inf, -math.inf, math.nan, None],
    "all": [math.inf, math.nan, None, math.inf, -math.inf],
    "whole": [1, 2, None, 4, 5],
    "word": ["NaN", "a", None, "Infinity", ""],
}


def texts_of(table: mlplat.Table) -> dict[str, list[str]]:
    """Cells as text, as NaN is not equal to itself."""
    return {name: [repr(row[name]) for row in table.to_dicts()] for name in table.column_names}


@pytest.mark.parametrize("ending", ["json", "parquet", "csv"])
@pytest.mark.parametrize("make", [dict, pl.DataFrame, pa.table])
def test_numbers_that_are_not_finite_come_back(ending: str, make: Any):
    expected = {name: [repr(cell) for cell in cells] for name, cells in ODD.items()}
    with mlplat.start_run("e") as run:
        run.log_table(make(ODD), f"t.{ending}")
        assert texts_of(run.load_table(f"t.{ending}")) == expected
        # The same where rows come together from several files.
        code = f"import mlplat; from math import inf, nan; mlplat.log_table({ODD}, 't.{ending}')"
        shared = {**os.environ, "MLPLAT_RUN_ID": run.id}
        subprocess.run([sys.executable, "-c", code], env=shared, check=True)
        twice = {name: cells * 2 for name, cells in expected.items()}
        assert texts_of(run.load_table(f"t.{ending}")) == twice
    if ending == "json":
        text = content(run, "t.json")
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert pd.read_json(io.BytesIO(text), orient="split")["loss"][1] == math.inf
    if ending == "csv":
        frame = pl.read_csv(io.BytesIO(content(run, "t.csv")))
        assert [repr(cell) for cell in frame["loss"]] == expected["loss"]
        assert pd.read_csv(io.BytesIO(content(run, "t.csv")))["loss"][2] == -math.inf


def test_what_pandas_lacks_is_null_and_its_infinities_are_kept():
    frame = pd.DataFrame(
        {"a": [1.0, math.nan, math.inf], "b": np.array([math.nan, 2, -math.inf], np.float32)}
    )
    with mlplat.start_run("e") as run:
        for ending in ("json", "parquet", "csv"):
            run.log_table(frame, f"t.{ending}")
            run.log_table({"a": frame["a"], "b": frame["b"]}, f"columns.{ending}")
            for name in ("t", "columns"):
                assert run.load_table(f"{name}.{ending}").to_arrow().to_pydict() == {
                    "a": [1.0, None, math.inf],
                    "b": [None, 2.0, -math.inf],
                }
        run.log_table([{"a": np.float32("inf"), "b": np.array(math.nan)}], "scalars.json")
        assert texts_of(run.load_table("scalars.json")) == {"a": ["inf"], "b": ["nan"]}


def test_texts_that_name_numbers_stay_texts_in_json():
    data = {"only": ["NaN", None, "Infinity"], "mixed": [1, 2.5, "NaN"], "odd": [math.inf, "NaN", 1]}
    with mlplat.start_run("e") as run:
        run.log_table(data, "t.json")
        table = run.load_table("t.json").to_arrow().to_pydict()
    assert table["only"] == data["only"]
    assert table["mixed"] == ["1", "2.5", "NaN"]
    assert table["odd"] == ["Infinity", "NaN", "1"]


def test_wrong_tables_are_refused_with_advice():
    with mlplat.start_run("e") as run:
        with pytest.raises(mlplat.MisuseError, match="lengths"):
            run.log_table({"a": [1], "b": [1, 2]}, "t.json")
        with pytest.raises(mlplat.WrongTypeError, match="dict of columns"):
            run.log_table(3, "t.json")
        with pytest.raises(mlplat.NotFoundError):
            run.load_table("never.json")
        run.log_text("no table", "t.json")
        with pytest.raises(mlplat.ArrowError, match=r"t\.json is no table"):
            run.load_table("t.json")


def test_texts_dicts_and_pages(tmp_path: Path):
    (tmp_path / "page.html").write_text("<p>file</p>")
    tree = {
        "a": np.float32(1.5),
        "n": math.nan,
        "at": datetime(2026, 1, 2),
        "l": (1, {"x": None}),
        3: np.arange(2),
    }
    with mlplat.start_run("e") as run:
        assert run.log_text("grüß\nGott", "notes/hello.txt") == "notes/hello.txt"
        run.log_dict(tree, "d.json")
        run.log_dict(tree, "d.yaml")
        run.log_dict([1, 2], "list.yml")
        assert run.log_html("<b>x</b>", "page") == "html/page.html"
        run.log_html(tmp_path / "page.html", "copied.html")
        run.log_html(pd.DataFrame({"a": [1]}), "frame")
        run.log_html(io.StringIO("<i>"), "open.html")
        assert run.log_html("<b>x</b>", "page", step=4).startswith("html/page/000000000004_")
    plain = {"a": 1.5, "n": None, "at": "2026-01-02T00:00:00", "l": [1, {"x": None}], "3": [0, 1]}
    assert content(run, "notes/hello.txt").decode() == "grüß\nGott"
    assert json.loads(content(run, "d.json")) == plain
    assert b"a: 1.5" in content(run, "d.yaml") or json.loads(content(run, "d.yaml")) == plain
    assert content(run, "copied.html") == b"<p>file</p>"
    assert b"<table" in content(run, "html/frame.html")
    types = media_types(run)
    assert (types["d.yaml"], types["html/page.html"]) == ("application/yaml", "text/html")
    endless: dict[str, Any] = {}
    endless["self"] = endless
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with mlplat.start_run("e") as run, pytest.raises(mlplat.MisuseError, match="contains itself"):
        run.log_dict(endless, "d.json")


def test_audio():
    tone = np.sin(np.arange(800) / 10)
    with mlplat.start_run("e") as run:
        first = run.log_audio(tone, 8000, "tone")
        stereo = run.log_audio(
            np.stack([tone, -tone], axis=1).astype(np.float32), sample_rate=8000, key="tone", step=9
        )
        run.log_audio((tone * 1000).astype(np.int16), 16000, "once.wav")
        with pytest.raises(mlplat.MisuseError, match="sample_rate"):
            run.log_audio(tone)
        with pytest.raises(mlplat.MisuseError, match="channels"):
            run.log_audio(np.zeros((100, 100)), 8000)
        with pytest.raises(mlplat.MisuseError, match="floats from -1 to 1"):
            run.log_audio(np.zeros(10, np.uint16), 8000)
    assert first.startswith("audio/tone/000000000000_")
    with wave.open(io.BytesIO(content(run, stereo))) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getnframes()) == (2, 8000, 800)
        frames = np.frombuffer(sound.readframes(800), "<i2").reshape(-1, 2)
    assert np.allclose(frames[:, 0] / 32767, tone, atol=1e-4)
    assert media_types(run)["once.wav"] == "audio/wav"


def test_confusion_matrices():
    truth, guesses = ["cat", "dog", "dog", "eel"], ["cat", "dog", "cat", "eel"]
    with mlplat.start_run("e") as run:
        assert run.log_confusion_matrix(truth, guesses) == "figures/confusion_matrix.svg"
        run.log_confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), ["no", "<yes>"], key="binary")
        run.log_confusion_matrix([[5, 1], [2, 7]], labels=["a", "b"], key="given", step=3)
        for arguments, why in [
            (([0, 1], [0]), "2 rows"),
            (([[1, 2]],), "square"),
            (([0, 1], [0, 2], ["x", "y"]), "not among the labels"),
            (([[1, 2], [3, 4]], None, ["x"]), "1 labels"),
        ]:
            with pytest.raises(mlplat.MisuseError, match=why):
                run.log_confusion_matrix(*arguments)
    rows = mlplat.get_run(run.id).load_table("confusion_matrix").to_dicts()
    assert {(row["actual"], row["predicted"]): row["count"] for row in rows if row["count"]} == {
        ("cat", "cat"): 1,
        ("dog", "dog"): 1,
        ("dog", "cat"): 1,
        ("eel", "eel"): 1,
    }
    picture = content(run, "figures/binary.svg").decode()
    assert "&lt;yes&gt;" in picture
    assert "<yes>" not in picture
    assert mlplat.get_run(run.id).images("given").steps == [3]


def test_histograms_are_a_table_of_few_files():
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=500) for _ in range(70)]
    with mlplat.start_run("e") as run:
        for values in weights:
            run.log_histogram("weights", values, bins=16)
        run.log_histogram("given", np_histogram=np.histogram(weights[0], bins=[-3, -1, 0, 3]), step=5)
        run.log_histogram("odd", [1.0, math.nan, math.inf, -math.inf, 1.0])
        run.log_histogram("none", [math.nan])
        run.log_histogram("list", [1, 2, 2, 3], bins=3)
    files = mlplat.get_run(run.id).artifacts("histograms/weights")
    assert len(files) == 2
    assert sum(file.size_bytes for file in files) < 70 * 120
    table = mlplat.get_run(run.id).histograms("weights").to_pandas()
    assert table.columns.tolist() == ["step", "timestamp", "bin_start", "bin_end", "count"]
    assert sorted(table["step"].unique()) == list(range(70))
    for step in (0, 63, 64, 69):
        counts, edges = np.histogram(weights[step], bins=16)
        part = table[table["step"] == step]
        assert part["count"].tolist() == counts.tolist()
        assert np.allclose(part["bin_start"], edges[:-1])
        assert np.allclose(part["bin_end"], edges[1:])
    given = mlplat.get_run(run.id).histograms("given").to_dicts()
    assert [row["bin_start"] for row in given] == [-3.0, -1.0, 0.0]
    assert mlplat.get_run(run.id).histograms("odd").to_pandas()["count"].sum() == 2
    assert mlplat.get_run(run.id).histograms("list").to_pandas()["count"].tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "either"),
        ({"values": [1], "bins": 0}, "1 to 512"),
        ({"values": ["x"]}, "give numbers"),
        ({"np_histogram": ([1, 2], [0, 1])}, "one edge more"),
        ({"np_histogram": ([1, 2], [0, 2, 1])}, "rise"),
        ({"np_histogram": ([-1], [0, 1])}, "not negative"),
        ({"values": [-1.7e308, 1.7e308]}, "too far apart"),
    ],
)
def test_wrong_histograms_are_refused_with_advice(arguments: dict[str, Any], why: str):
    with mlplat.start_run("e") as run, pytest.raises(mlplat.MisuseError, match=why):
        run.log_histogram("h", **arguments)


def test_module_functions_use_the_active_run():
    with mlplat.start_run("e") as run:
        mlplat.log_image(np.zeros((2, 2)), key="i")
        mlplat.log_table({"a": [1]}, "t.json")
        mlplat.log_text("x", "x.txt")
        mlplat.log_dict({"a": 1}, "d.json")
        mlplat.log_html("<b>", "p")
        mlplat.log_audio(np.zeros(10), 8000)
        mlplat.log_confusion_matrix([0, 1], [1, 0])
        mlplat.log_histogram("h", [1, 2])
        assert mlplat.load_table("t.json").to_dicts() == [{"a": 1}]
    assert len(mlplat.get_run(run.id).artifacts()) == 9
    with pytest.raises(mlplat.NoActiveRunError):
        mlplat.log_text("x", "x.txt")


def test_asyncio_twins():
    async def work() -> str:
        aio = mlplat.aio
        async with aio.start_run("e") as run:
            await run.log_image(np.zeros((2, 2)), key="i", step=3)
            await aio.log_table({"a": [1]}, "t.json")
            await aio.log_text("x", "x.txt")
            await run.log_histogram("h", [1, 2], bins=2)
            assert (await run.images("i")).steps == [3]
        found = await aio.get_run(run.id)
        assert (await found.load_table("t.json")).to_dicts() == [{"a": 1}]
        assert (await found.histograms("h")).to_arrow()["count"].to_pylist() == [1.0, 1.0]
        return run.id

    assert mlplat.get_run(asyncio.run(work())).status == "FINISHED"


def test_media_need_no_server(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLPLAT_PROJECT")
    monkeypatch.setenv("MLPLAT_OFFLINE_TIMEOUT", "0.2")
    other = type(server)(tmp_path)
    mlplat.connect(other.url, timeout=0.5)
    run = mlplat.start_run("e")
    other.stop()
    began = time.monotonic()
    assert run.log_text("x", "x.txt") == "x.txt"
    assert run.log_image(np.zeros((2, 2)), key="i").startswith("images/i/")
    run.log_model([1, 2], "model")
    run.log_histogram("h", [1, 2])
    assert time.monotonic() - began < 1
    with pytest.raises(mlplat.MisuseError):
        run.log_text("x", "../x.txt")
    run._deactivate()


@pytest.mark.parametrize("ending", ["json", "parquet", "csv"])
def test_null_is_no_empty_text(ending: str):
    rows = [
        {"text": "", "number": 1.5, "whole": None},
        {"text": None, "number": None, "whole": 3},
        {"text": "NA", "number": -0.25, "whole": 4},
        {"text": 'a,"b"\r\nc', "number": 0.0, "whole": None},
    ]
    alone = {"one": ["x", None, "", None]}
    with mlplat.start_run("e") as run:
        run.log_table(rows, f"t.{ending}")
        run.log_table(alone, f"alone.{ending}")
        assert run.load_table(f"alone.{ending}").to_arrow().to_pydict() == alone
        # The same where rows come together from several files.
        subprocess.run(
            [sys.executable, "-c", f"import mlplat; mlplat.log_table({rows}, 't.{ending}')"],
            env={**os.environ, "MLPLAT_RUN_ID": run.id},
            check=True,
        )
        assert run.load_table(f"t.{ending}").to_dicts() == rows * 2
    if ending == "csv":
        frame = pl.read_csv(io.BytesIO(content(run, "t.csv")))
        assert frame["text"].to_list() == [row["text"] for row in rows]
        assert frame["whole"].to_list() == [row["whole"] for row in rows]


@pytest.mark.parametrize("ending", ["json", "parquet", "csv"])
def test_long_tables_are_not_written_anew(ending: str, monkeypatch: pytest.MonkeyPatch):
    from mlplat import _spool
    from mlplat._media import _table_files

    written: list[int] = []

    def put(run: Any, items: Any) -> str:
        written.append(sum(len(content) for content, _ in items))
        return original(run, items)

    original = _spool.put
    monkeypatch.setattr(_spool, "put", put)
    monkeypatch.setattr(_table_files, "_FULL", 2000)
    with mlplat.start_run("e") as run:
        for at in range(100):
            run.log_table({"at": [at], "text": ["x" * 50]}, f"t.{ending}")
        run.log_table({"at": [100], "new": [1.5]}, f"t.{ending}")
        table = run.load_table(f"t.{ending}").to_arrow()
        assert max(written) < 4000
        paths = [
            artifact.path for artifact in mlplat.get_run(run.id).artifacts() if ".parts/" in artifact.path
        ]
        assert 2 < len(paths) < 60
        run.log_table({"at": [7]}, f"t.{ending}", append=False)
        assert run.load_table(f"t.{ending}").to_dicts() == [{"at": 7}]
        run.log_table({"at": [8]}, f"t.{ending}")
        assert run.load_table(f"t.{ending}").to_dicts() == [{"at": 7}, {"at": 8}]
    assert table["at"].to_pylist() == list(range(101))
    assert table["new"].to_pylist() == [None] * 100 + [1.5]
    assert not _table_files._open


ADD = """
import sys, time, mlplat
run = mlplat.active_run()
for at in range(5):
    run.log_table({"process": [int(sys.argv[1])], "at": [at]}, sys.argv[2])
    time.sleep(0.02)
"""


@pytest.mark.parametrize("ending", ["json", "parquet", "csv"])
def test_processes_that_share_a_table_lose_no_rows(ending: str):
    with mlplat.start_run("e") as run:
        shared = {**os.environ, "MLPLAT_RUN_ID": run.id}
        command = [sys.executable, "-c", ADD]
        children = [
            subprocess.Popen([*command, str(at), f"t.{ending}"], env=shared, stderr=subprocess.PIPE)
            for at in range(3)
        ]
        assert [child.communicate()[1] for child in children] == [b""] * 3
        assert run.load_table(f"t.{ending}").num_rows == 15
        run.log_table({"process": [3], "at": [0]}, f"t.{ending}")
        rows = run.load_table(f"t.{ending}").to_dicts()
    assert len(rows) == 16
    for process in range(3):
        assert [row["at"] for row in rows if row["process"] == process] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_rows_are_in_the_order_in_which_processes_logged_them(ending: str, monkeypatch: pytest.MonkeyPatch):
    code = f"import mlplat; mlplat.log_table({{'a': [%s]}}, 't.{ending}', append=%s)"

    def elsewhere(value: int, append: bool = True) -> None:
        subprocess.run([sys.executable, "-c", code % (value, append)], check=True)

    with mlplat.start_run("e") as run:
        monkeypatch.setenv("MLPLAT_RUN_ID", run.id)
        for value in range(4):
            if value % 2:
                run.log_table({"a": [value]}, f"t.{ending}")
            else:
                elsewhere(value)
        assert run.load_table(f"t.{ending}").to_arrow()["a"].to_pylist() == [0, 1, 2, 3]
        elsewhere(4, append=False)
        assert run.load_table(f"t.{ending}").to_arrow()["a"].to_pylist() == [4]
        run.log_table({"a": [5]}, f"t.{ending}")
        assert run.load_table(f"t.{ending}").to_arrow()["a"].to_pylist() == [4, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_add_to_tables_and_histograms():
    with mlplat.start_run("e") as run:
        run.log_table({"a": [0]}, "t.json")
        run.log_histogram("h", [0.0], step=0)
        for at in (1, 2):
            pid = os.fork()
            if pid == 0:
                try:
                    run.log_table({"a": [at]}, "t.json")
                    run.log_histogram("h", [float(at)], step=at)
                    os._exit(0 if run.flush() else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(pid, 0)[1] == 0
        run.log_table({"a": [3]}, "t.json")
        run.log_histogram("h", [3.0], step=3)
    again = mlplat.get_run(run.id)
    assert sorted(again.load_table("t.json").to_arrow()["a"].to_pylist()) == [0, 1, 2, 3]
    histograms = again.histograms("h").to_arrow()
    assert len(histograms) == 4 * 64


def test_threads_lose_no_rows_and_no_histograms():
    def work(thread: int) -> None:
        for at in range(10):
            run.log_table({"thread": [thread], "at": [at]}, "t.json")
            run.log_histogram("h", [float(thread), float(at)], bins=2)
            run.log_image(np.zeros((2, 2)), key="i", step=1)

    with mlplat.start_run("e") as run:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    again = mlplat.get_run(run.id)
    assert again.load_table("t.json").num_rows == 60
    assert sorted(set(again.histograms("h").to_arrow()["step"].to_pylist())) == list(range(60))
    assert len(again.images("i")) == 60


def test_series_of_a_resumed_run_go_on():
    pixels = np.zeros((2, 2), np.uint8)
    sound = np.zeros(10)
    with mlplat.start_run("e") as run:
        for _ in range(2):
            run.log_image(pixels, key="samples")
            run.log_audio(sound, 8000, "speech")
            run.log_histogram("weights", [1.0, 2.0])
        run.log_histogram("weights", [1.0, 2.0], step=7)
    code = (
        "import sys, mlplat, numpy as np\n"
        "with mlplat.start_run(run_id=sys.argv[1]) as run:\n"
        "    for key in ('samples', 'new'):\n"
        "        run.log_image([np.zeros((2, 2), np.uint8)] * 2, key=key)\n"
        "        run.log_image(np.zeros((2, 2), np.uint8), key=key)\n"
        "    print(run.log_audio(np.zeros(10), 8000, 'speech'))\n"
        "    run.log_histogram('weights', [1.0, 2.0])\n"
    )
    command = [sys.executable, "-c", code, run.id]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("audio/speech/000000000002_")
    again = mlplat.get_run(run.id)
    assert [image.step for image in again.images("samples")] == [0, 1, 2, 2, 3]
    assert [image.step for image in again.images("new")] == [0, 0, 1]
    assert sorted(set(again.histograms("weights").to_arrow()["step"].to_pylist())) == [0, 1, 7, 8]


def test_series_of_a_resumed_run_collide_with_nothing_where_there_is_no_server(tmp_path: Path, project: str):
    code = (
        "import mlplat, numpy as np\n"
        "from mlplat._media import _resumed\n"
        "run = mlplat.start_run(run_id='019f0000-0000-7000-8000-000000000000')\n"
        "print(run.log_image(np.zeros((2, 2), np.uint8), key='k'))\n"
        "print(run.log_image(np.zeros((2, 2), np.uint8), key='k'))\n"
    )
    where = {"MLPLAT_URL": "http://127.0.0.1:9", "MLPLAT_HOME": str(tmp_path), "MLPLAT_FLUSH_TIMEOUT": "0"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **where}, capture_output=True, text=True
    )
    assert time.monotonic() - began < 20
    steps = [int(path.split("/")[2].split("_")[0]) for path in done.stdout.splitlines()]
    assert steps[1] == steps[0] + 1, done.stderr
    assert steps[0] > 1_700_000_000
    assert "seconds since 1970" in done.stderr


@pytest.mark.parametrize("ending", ["json", "parquet", "csv"])
def test_what_rows_lack_is_null(ending: str):
    with mlplat.start_run("e") as run:
        run.log_table([{"a": 1}, {"a": 2, "b": 3}, {}], f"t.{ending}")
        assert run.load_table(f"t.{ending}").to_dicts() == [
            {"a": 1, "b": None},
            {"a": 2, "b": 3},
            {"a": None, "b": None},
        ]


@pytest.mark.parametrize("make", [dict, pd.DataFrame])
@pytest.mark.parametrize("column", [[1, "a", 2.5], [[1], "a"], [{"a": 1}, 2], [object(), object()]])
def test_what_does_not_go_into_parquet_is_misuse(make: Any, column: list[Any]):
    with mlplat.start_run("e") as run, pytest.raises(mlplat.MisuseError, match=r"\.json|one type|give a"):
        run.log_table(make({"mixed": column}), "t.parquet")


def test_lists_and_dicts_come_back_from_json():
    data = {
        "list": [[1, 2], None, []],
        "texts": [["a"], ["b", None], ["c"]],
        "deep": [[[1.5]], [[2.5], []], None],
        "dict": [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}, None],
    }
    with mlplat.start_run("e") as run:
        run.log_table(data, "t.json")
        assert run.load_table("t.json").to_arrow().to_pydict() == data
        run.log_table({"mixed": [1, "a", 2.5], "bools": [[True], [1], None]}, "other.json")
        assert run.load_table("other.json").to_arrow().to_pydict() == {
            "mixed": ["1", "a", "2.5"],
            "bools": ["[true]", "[1]", None],
        }
