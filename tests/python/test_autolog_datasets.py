"""Autologging notes what a training read, as inputs of its run."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightgbm
import mlplat
import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
import xgboost
from autolog_runs import RX, X, only_run, runs, ry, y
from mlplat import _active
from mlplat._autolog import _datasets, _transformers, _xgboost
from mlplat._inputs import describe
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

FRAME = pandas.DataFrame(X, columns=list("abcdef"))
LATE = pandas.Series(y, name="late")
FIELDS = [*((name, "Float64") for name in "abcdef"), ("late", "Int64")]
QUIET: Any = {"objective": "binary", "verbose": -1}


def inputs(run: mlplat.Run | None = None) -> dict[tuple[str, str], Any]:
    return {(one.name, one.context): one for one in (run or only_run()).inputs}


def fields(one: Any) -> list[tuple[str, str]]:
    return [tuple(field) for field in one.fields]


def test_a_table_and_its_target(logged: str):
    with mlplat.start_run():
        for _ in range(3):
            LogisticRegression().fit(FRAME, LATE)
    [(key, one)] = inputs().items()
    assert key == ("dataset", "training")
    assert (fields(one), one.rows) == (FIELDS, 200)


def test_one_content_has_one_digest_whatever_is_trained(logged: str):
    GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(FRAME, LATE)
    xgboost.XGBClassifier(n_estimators=2).fit(FRAME, LATE)
    lightgbm.train(QUIET, lightgbm.Dataset(FRAME, LATE), 2)
    LogisticRegression().fit(FRAME, 1 - LATE)
    found = [mlplat.get_run(run["run_id"]) for run in runs() if run["parent_run_id"] is None]
    digests = [one.digest for run in found for one in run.inputs]
    assert len(digests) == 4
    assert len(set(digests)) == 2, "the target counts"
    [candidate] = [mlplat.get_run(run["run_id"]) for run in runs() if run["parent_run_id"] is not None]
    assert candidate.inputs == []


def test_data_without_a_target_has_the_digest_of_log_input(logged: str):
    KMeans(2, random_state=0).fit(X)
    KMeans(2, random_state=0).fit(FRAME)
    digests = {one.digest for run in runs() for one in mlplat.get_run(run["run_id"]).inputs}
    assert digests == {str(describe(data, None, None, None, None)["digest"]) for data in (X, FRAME)}


def test_texts_and_sparse_matrices(logged: str):
    with mlplat.start_run():
        make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["a bc", "de f"] * 5, ["u", "v"] * 5)
        Ridge().fit(scipy.sparse.csr_matrix(RX), ry)
    assert [fields(one) for one in sorted(only_run().inputs, key=lambda one: one.rows or 0)] == [
        [("values", "str"), ("target", "str")],
        [("values", "float64[4] sparse"), ("target", "float64")],
    ]


def test_what_is_evaluated_has_its_name(logged: str):
    train, valid = xgboost.DMatrix(FRAME, y), xgboost.DMatrix(FRAME[:50], y[:50])
    xgboost.train({}, train, 2, evals=[(train, "train"), (valid, "valid")], verbose_eval=False)
    found = inputs()
    assert found.keys() == {("dataset", "training"), ("valid", "eval")}
    assert fields(found["valid", "eval"]) == [*((name, "float") for name in "abcdef"), ("target", "float32")]
    assert found["valid", "eval"].rows == 50
    assert found["valid", "eval"].digest != found["dataset", "training"].digest


def test_data_sets_of_lightgbm(logged: str, tmp_path: Path):
    held = lightgbm.Dataset(X, y).construct()
    file = tmp_path / "train.csv"
    np.savetxt(file, np.column_stack([y, X]), delimiter=",")
    with mlplat.start_run():
        lightgbm.train(QUIET, held, 2, valid_sets=[lightgbm.Dataset(X[:50], y[:50])], valid_names=["late"])
        lightgbm.train(QUIET, lightgbm.Dataset(file), 2)
        lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, y, eval_X=X[:60], eval_y=y[:60])
    found = only_run().inputs
    assert sorted((one.name, one.context, one.rows, bool(one.digest)) for one in found if one.rows) == [
        ("dataset", "training", 200, False),
        ("dataset", "training", 200, True),
        ("late", "eval", 50, True),
        ("valid_0", "eval", 60, True),
    ]
    [place] = [one for one in found if not one.rows]
    assert (place.name, place.source, place.source_type) == ("train.csv", str(file), "local")


def test_trainer_of_transformers():
    """Only those that know their fingerprint are looked at."""

    class Items:
        def __len__(self) -> int:
            raise AssertionError("looked at")

    known = SimpleNamespace(
        _fingerprint="f1", features={"text": "string"}, num_rows=3, split="train", builder_name="imdb"
    )
    found: list[Any] = []
    session: Any = SimpleNamespace(run=1, options=SimpleNamespace(log_datasets=True), add_input=found.append)
    trainer = SimpleNamespace(train_dataset=known, eval_dataset={"a": known, "b": Items()})
    _transformers._log_datasets(session, trainer)
    assert [(one["name"], one["context"], one["digest"], one["source"]) for one in found] == [
        ("imdb train", "training", "f1", "hf://datasets/imdb"),
        ("imdb train", "eval", "f1", "hf://datasets/imdb"),
    ]


def test_large_data_is_sampled(monkeypatch: pytest.MonkeyPatch):
    array = np.arange(3_000_000.0).reshape(-1, 3)
    monkeypatch.setattr(_datasets, "MOST", 1 << 20)
    some = [
        array,
        np.asfortranarray(array),
        pandas.DataFrame(array),
        polars.DataFrame(array),
        scipy.sparse.csr_matrix(array),
        list(range(300_000)),
        xgboost.DMatrix(array),
    ]
    for data in some:
        describes: Any = _xgboost._describe if "DMatrix" in str(type(data)) else _datasets.described
        begun = time.process_time()
        one, again = describes(data), describes(data)
        assert time.process_time() - begun < 2
        assert one == again
        assert one["digest"].startswith("sampled-")
        assert one["rows"] == (300_000 if isinstance(data, list) else 1_000_000)
    changed = array.copy()
    changed[-1] = 0
    assert _datasets.described(changed) != _datasets.described(array)
    assert _datasets.described(array[:-1]) != _datasets.described(array)


def test_wide_and_odd_data():
    wide = pandas.DataFrame(np.ones((3, 5000)))
    found: Any = _datasets.described(wide)
    assert (found["rows"], len(found["fields"]), bool(found["digest"])) == (3, 5000, True)
    mixed: Any = _datasets.described(wide.assign(text="a"))
    assert (mixed["rows"], mixed["digest"]) == (3, "")
    assert _datasets.described(iter([1, 2])) is None
    assert _datasets.described(object()) is None


def test_frames_without_pyarrow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    one, again, other = (_datasets.described(frame) for frame in (FRAME, FRAME.copy(), FRAME + 1))
    assert one == again != other
    assert one is not None
    assert one["digest"].startswith("pandas-")
    assert one["fields"] == [(name, "float64") for name in "abcdef"]


def test_it_can_be_left_out(project: str):
    mlplat.autolog(log_datasets=False)
    try:
        LogisticRegression().fit(X, y)
        xgboost.train({}, xgboost.DMatrix(RX, ry), 2)
    finally:
        mlplat.autolog(disable=True)
    assert [mlplat.get_run(run["run_id"]).inputs for run in runs()] == [[], []]
    with pytest.raises(mlplat.MlplatError, match="log_datasets"):
        mlplat.autolog(log_datasets=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_inputs_need_no_server(logged: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLPLAT_OFFLINE_TIMEOUT", "0.2")
    monkeypatch.delenv("MLPLAT_PROJECT")
    other = type(server)(tmp_path)
    monkeypatch.setenv("MLPLAT_URL", other.url)
    other.stop()
    mlplat.connect(other.url, timeout=0.5)
    LogisticRegression().fit(FRAME, LATE)
    other = type(server)(tmp_path, other.url.removeprefix("http://"))
    try:
        mlplat.connect(other.url)
        _active.flush_at_exit()
        assert fields(inputs()["dataset", "training"]) == FIELDS
    finally:
        other.stop()
