"""`mlplat import` of logs and stores with values that are none, and of folders that somebody else made."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import mlplat
import pytest
from import_stores import FIRST, run_cli, summary, write_database
from mlplat._connection import client
from mlplat._import import _names
from mlplat._import._mlflow import open_store
from mlplat._import._summary import Wish
from mlplat._import._wandb import Offline
from mlplat._import._writer import import_all
from test_import_wandb import artifact, entry, field, item, nested, only_run, wandb_folder, wandb_log, whole

pytestmark = pytest.mark.usefixtures("project")

DEEP = "[" * 100_000 + "]" * 100_000


def raw(key: str, text: str) -> bytes:
    """An item whose value is not written by `json`."""
    return field(1, field(1, key) + field(16, text))


@pytest.mark.parametrize("time", ["null", '"NaN"', "NaN", "Infinity", "-1e300", "[1]", "1e12", DEEP, "?"])
def test_a_time_that_is_none_takes_nothing_with_it(tmp_path: Path, time: str):
    row = field(2, item("a", 1.0) + raw("_step", "7") + raw("_timestamp", time))
    place = wandb_folder(tmp_path, whole(row, field(2, item("a", 2.0) + raw("_timestamp", "1600000000.5"))))
    told = summary("wandb", str(tmp_path))
    said = f"{place}/run-abc123.wandb: 1 rows have a _timestamp that is none"
    assert (told["points"], told["errors"], told["notes"][0].startswith(said)) == (2, [], True)
    rows = only_run().metric_history("a").to_dicts()
    assert [(row["step"], row["value"]) for row in rows] == [(0, 2.0), (7, 1.0)]
    assert only_run().status == "FINISHED"
    assert summary("wandb", str(tmp_path))["unchanged"] == 1


@pytest.mark.parametrize("step", ["null", '"NaN"', "NaN", "-Infinity", "1e300", "{}", DEEP])
def test_a_step_that_is_none_takes_nothing_with_it(tmp_path: Path, step: str):
    body = item("a", 1.0) + raw("_step", step) + raw("_timestamp", "1600000000.5")
    wandb_folder(tmp_path, whole(field(2, field(2, field(1, 5)) + body), field(2, body)))
    told = summary("wandb", str(tmp_path))
    assert told["errors"] == []
    assert "2 rows have a _step that is none; they have the step of their record, or 0" in told["notes"][0]
    assert [row["step"] for row in only_run().metric_history("a").to_dicts()] == [0, 5]


def test_values_that_are_odd_stay_what_they_are(tmp_path: Path):
    """JSON that is nested too deep is kept as text; so are keys that are, and halves of letters."""
    nested = field(1, b"".join(field(2, "k") for _ in range(3000)) + field(16, "1.5"))
    config = raw("deep", DEEP[:500] + DEEP[-500:]) + raw("half", '"\\ud800"') + raw("big", "1" * 5000)
    media = {"_type": "images/separated", "filenames": 5, "path": {"x": 1}}
    records = [
        field(17, field(1, "abc123") + field(17, field(1, 1 << 60)) + field(4, config)),
        field(
            2,
            nested
            + raw("list", DEEP)
            + raw("huge", "9" * 400)
            + raw("half", '{"\\ud800k": 2.5}')
            + item("a", 1.0)
            + item("img", media),
        ),
        field(3, raw("best", DEEP)),
        field(18, field(1, 0)),
    ]
    wandb_folder(tmp_path, wandb_log(records))
    told = summary("wandb", str(tmp_path))
    assert told["errors"] == []
    run = only_run()
    assert (run.params["half"], run.params["big"]) == ("?", "1" * 5000)
    assert json.loads(run.params["deep"]) == json.loads(DEEP[:500] + DEEP[-500:])
    assert sorted(run.metrics.values()) == [1.0, 1.5, 2.5]
    assert run.metrics["half.?k"] == 2.5
    rows = {row["key"]: row["value"] for row in run.load_table("wandb/values.json").to_dicts()}
    assert rows["list"] == DEEP
    assert len(rows["huge"]) == 400
    assert run.tags["summary.best"].startswith("[[[[")


def test_one_run_that_fails_unforeseen_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    database = write_database(tmp_path / "store")
    source = open_store(str(database), None)
    streams = source.streams

    def broken(run):
        if run.key == FIRST:
            raise KeyError("nobody thought of this")
        return streams(run)

    monkeypatch.setattr(source, "streams", broken)
    told = import_all(client(), source, Wish())
    assert told.runs == 1
    assert [error.split(": ", 1)[0] for error in told.errors] == [f"run 'first' ({FIRST}) of 'delays"]
    assert told.errors[0].endswith("KeyError: 'nobody thought of this'")
    again = summary("mlflow", str(database))
    assert (again["runs"], again["errors"]) == (1, [])


def test_one_log_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path):
    wandb_folder(tmp_path, whole(field(2, item("a", 1.0))))
    other = tmp_path / "wandb" / "offline-run-20200914_000000-other"
    other.mkdir()
    (other / "run-other.wandb").write_bytes(wandb_log([field(17, b"\x0f")]))
    said = run_cli("import", "wandb", str(tmp_path), code=1)
    assert (
        f"{other}/run-other.wandb cannot be imported: a message has a field of the unknown wire type" in said
    )
    assert only_run().name == "first"


def test_one_run_of_a_folder_of_mlflow_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path):
    store = tmp_path / "mlruns" / "1"
    for name, start in (("a" * 32, "1600000000000"), ("b" * 32, "soon")):
        (store / name).mkdir(parents=True)
        (store / name / "meta.yaml").write_text(
            f"run_id: {name}\nrun_name: {start}\nstart_time: {start}\nstatus: 3\n"
        )
    (store / "meta.yaml").write_text("experiment_id: '1'\nname: e\n")
    said = run_cli("import", "mlflow", str(tmp_path / "mlruns"), code=1)
    assert f"the run in {store / ('b' * 32)} cannot be read: invalid literal for int()" in said
    assert mlplat.search_runs().to_dicts()[0]["name"] == "1600000000000"


@pytest.mark.parametrize("many", [3, 100])
def test_names_of_an_earlier_import_stay_also_where_they_were_by_another_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
):
    """Also where they are more than fit into the tag, and by either rule."""
    long = "x" * 200

    def rows(step: int) -> bytes:
        row = {f"at@{at}{long}": 1.0 for at in range(many)} | {f"at`{at}{long}": 2.0 for at in range(many)}
        return field(2, b"".join(item(key, value) for key, value in row.items()) + item("_step", step))

    place = wandb_folder(tmp_path, whole(rows(0)))
    with monkeypatch.context() as earlier:
        earlier.setattr(_names, "metric_key", _names.old_metric_key)
        earlier.setattr(_names, "_TOO_MANY", _names._TOO_MANY_OLD)
        assert import_all(client(), Offline(str(place)), Wish()).errors == []
    before = only_run()
    assert (before.tags["import.renamed"] == "too many") == (many == 100)
    assert len(before.metrics) == 2 * many
    assert not any("@" in key for key in before.metrics)
    for step in (1, 2):
        wandb_folder(tmp_path, whole(*(rows(at) for at in range(step + 1))))
        assert summary("wandb", str(place))["points"] == 2 * many
    run = only_run()
    assert run.metrics == before.metrics
    assert {one.count for one in run.metric_summaries.values()} == {3}
    assert run.tags["import.renamed"] == before.tags["import.renamed"]


def test_names_that_are_too_many_for_the_tag_stay(tmp_path: Path):
    keys = [f"{letter}{at}{'x' * 200}" for at in range(100) for letter in "`\t"]

    def rows(step: int) -> bytes:
        return field(2, b"".join(item(key, float(at)) for at, key in enumerate(keys)) + item("_step", step))

    for step in range(2):
        wandb_folder(tmp_path, whole(*(rows(at) for at in range(step + 1))))
        assert summary("wandb", str(tmp_path))["points"] == len(keys)
    run = only_run()
    assert run.tags["import.renamed"] == "too many: 2"
    assert sorted(run.metrics.values()) == [float(at) for at in range(len(keys))]
    assert {one.count for one in run.metric_summaries.values()} == {2}


# Folders of somebody else: nothing of this machine is taken because a log names it.


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "secret.png"
    path.parent.mkdir()
    path.write_text("private")
    return path


def test_media_are_taken_from_the_folder_of_the_run_only(tmp_path: Path, secret: Path):
    names = [str(secret), "../../../home/secret.png", "media/link.png", "media/\0.png"]
    images = {"of/_type": "images/separated", "of/filenames": [*names, "media/own.png"]}
    place = wandb_folder(tmp_path, whole(nested(images, 0)))
    media = place / "files" / "media"
    media.mkdir()
    (media / "own.png").write_text("own")
    (media / "link.png").symlink_to(secret)
    said = run_cli("import", "wandb", str(tmp_path), code=1)
    assert "4 media files are not in its folder" in said
    run = only_run()
    assert [image.read() for image in run.images()] == [b"own"]
    assert all(run.read_artifact(file.path) != b"private" for file in run.artifacts())


@pytest.mark.parametrize("digest", ["", "x", "cHJpdmF0ZQ=="])
def test_files_of_artifacts_need_the_digest_of_their_content(tmp_path: Path, secret: Path, digest: str):
    own = wandb_folder(tmp_path, b"") / "own.bin"
    own.write_text("own")
    entries = [field(1, path.name) + field(2, digest) + field(6, str(path)) for path in (secret, own)]
    wandb_folder(tmp_path, whole(artifact("model", "d1", *entries, entry("right", own, b"own"))))
    said = run_cli("import", "wandb", str(tmp_path), code=1)
    assert "2 files of artifact 'model' (v0) are not on this machine any more, or were changed since" in said
    found = [file.path for file in only_run().artifacts()]
    assert found == ["artifacts/model/v0.json", "artifacts/model/v0/right", "model.txt"]


def test_lists_of_files_are_read_where_wandb_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    place = wandb_folder(tmp_path, b"")
    line = {"path": "far", "ref": "https://example.org/far"}
    far, near = tmp_path / "far.gz", place / "near.gz"
    for path in (far, near):
        with gzip.open(path, "wt") as file:
            file.write(json.dumps(line))
    torn = place / "torn.gz"
    torn.write_bytes(near.read_bytes()[:-9])
    wandb_folder(
        tmp_path, whole(*(artifact(path.stem, "d", manifest=str(path)) for path in (far, near, torn)))
    )
    said = run_cli("import", "wandb", str(tmp_path), code=1)
    assert (
        f"the list of the files of artifact 'far' cannot be read: {far} is neither in the run's folder nor"
        in said
    )
    assert "the list of the files of artifact 'torn' cannot be read: EOFError" in said
    run = only_run()
    assert run.status == "FINISHED"
    assert json.loads(run.read_artifact("artifacts/near/v0.json"))["references"] == {"far": line["ref"]}


def test_links_in_the_folder_of_a_run_that_lead_out_are_not_followed(tmp_path: Path, secret: Path):
    files = wandb_folder(tmp_path, whole()) / "files"
    store = write_database(tmp_path / "store")
    artifacts = store.parent / "mlruns" / "1" / FIRST / "artifacts"
    for folder in (files, artifacts):
        (folder / "link").symlink_to(secret)
        (folder / "links").symlink_to(secret.parent)
    (files / "own").symlink_to("model.txt")
    for told in (summary("wandb", str(tmp_path)), summary("mlflow", str(store))):
        left = [
            note for note in told["notes"] if note.endswith("it is a link that leads out of the run's folder")
        ]
        assert (len(left), told["errors"]) == (2, [])
    for row in mlplat.search_runs().to_dicts():
        paths = {file.path for file in mlplat.get_run(row["run_id"]).artifacts()}
        assert paths in ({"model.txt", "own"}, {"a.txt", "dir/b.bin"}, set())


def test_a_folder_of_files_that_is_a_link_is_not_followed(tmp_path: Path, secret: Path):
    files = wandb_folder(tmp_path, whole()) / "files"
    shutil.rmtree(files)
    files.symlink_to(secret.parent)
    assert f"{files} was left out" in summary("wandb", str(tmp_path))["notes"][0]
    assert list(only_run().artifacts()) == []
