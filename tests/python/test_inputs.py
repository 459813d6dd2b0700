"""Inputs of runs: what is noted of a data set, and that digests are stable."""

from __future__ import annotations

from pathlib import Path

import mlplat
import pytest
from mlplat._inputs import describe


def digest(dataset: object) -> str:
    return str(describe(dataset, None, None, None, None)["digest"])


def test_one_content_has_one_digest():
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    columns = {"n": [1, 2, 3], "x": [0.5, None, 2.0], "s": ["a", "b", None]}
    table = pyarrow.table(columns)
    chunked = pyarrow.concat_tables([table.slice(0, 1), table.slice(1)])
    digests = {
        digest(table),
        digest(chunked),
        digest(polars.DataFrame(columns)),
        digest(pandas.DataFrame(columns)),
    }
    assert len(digests) == 1, digests
    assert digest(table) != digest(table.slice(1))
    assert digest(table) != digest(table.rename_columns(["n", "x", "t"]))
    mixed = pandas.DataFrame({"o": [1, "a", (2,)]})
    assert digest(mixed) == digest(mixed.copy())


def test_arrays():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(12.0).reshape(3, 4)
    assert digest(array) == digest(numpy.asfortranarray(array))
    assert digest(array) != digest(array.T)
    assert digest(array) != digest(array.astype("float32"))
    described = describe(array, "training", "x", None, None)
    assert (described["rows"], described["fields"]) == (3, [("values", "float64[4]")])
    assert digest(numpy.array(["a", None], dtype=object))


def test_files_and_places(tmp_path: Path):
    file = tmp_path / "data.csv"
    file.write_text("a,b\n1,2\n")
    described = describe(file, None, None, None, None)
    assert (described["name"], described["source"], described["source_type"]) == (
        "data.csv",
        str(file),
        "local",
    )
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "x").write_text("x")
    before = digest(folder)
    assert digest(str(folder)) == before
    (folder / "deep" / "x").write_text("y")
    assert digest(folder) != before
    remote = describe("s3://bucket/train.parquet", None, None, None, "etag")
    assert (remote["name"], remote["source_type"], remote["digest"]) == ("train.parquet", "s3", "etag")
    with pytest.raises(mlplat.MisuseError, match="does not exist"):
        digest(tmp_path / "none")
    with pytest.raises(mlplat.WrongTypeError, match="Hugging Face"):
        digest(object())


class HuggingFace:
    """What `datasets.Dataset` shows of itself."""

    _fingerprint = "f1"
    num_rows = 5
    split = "train"
    config_name = "default"

    def __init__(self) -> None:
        self.features = {"text": "string"}

    class info:
        dataset_name = "imdb"


def test_inputs_are_kept_and_seen(project):
    with mlplat.start_run(experiment="e") as run:
        logged = run.log_input(
            {"n": [1, 2]}, "training", name="numbers", source="s3://bucket/numbers.parquet"
        )
        mlplat.log_input(HuggingFace(), context="validation")
        run.log_input({"n": [1, 2]}, "training", name="numbers", source="s3://bucket/numbers.parquet")
    assert (logged.rows, logged.fields) == (2, [("n", "Int64")])
    inputs = run.refresh().inputs
    assert [(i.name, i.context, i.source) for i in inputs] == [
        ("numbers", "training", "s3://bucket/numbers.parquet"),
        ("imdb train", "validation", "hf://datasets/imdb"),
    ]
    assert inputs[1].digest == "f1"
    assert len(mlplat.search_runs(f"datasets.digest = '{logged.digest}'")) == 1
    graph = mlplat.lineage.upstream(run.id)
    assert graph.find("numbers.parquet") is not None
    assert "imdb" in run.refresh()._repr_html_()
