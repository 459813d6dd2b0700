"""`mlplat import wandb`, from logs written here as wandb writes them; the real ones are in heavy/."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import mlplat
import pytest
from import_stores import points_of, run_cli, same, summary
from mlplat._companions._masks import HIDDEN

pytestmark = pytest.mark.usefixtures("project")


def varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (2**64 - 1))
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def item(key: str, value: object, nested: tuple[str, ...] = ()) -> bytes:
    names = b"".join(field(2, part) for part in nested) or field(1, key)
    return field(1, names + field(16, json.dumps(value)))


def wandb_log(records: list[bytes]) -> bytes:
    log = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for record in records:
        begin = True
        while True:
            left = 32768 - len(log) % 32768
            if left < 7:
                log += bytes(left)
                continue
            part, record = record[: left - 7], record[left - 7 :]
            kind = (1 if begin else 4) if not record else (2 if begin else 3)
            log += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            begin = False
            if not record:
                break
    return bytes(log)


def history(step: int, values: dict[str, object]) -> bytes:
    rows = [item(key, value) for key, value in values.items()]
    rows += [item("_step", step), item("_timestamp", 1_600_000_000.25 + step)]
    return field(2, b"".join(rows))


def wandb_records(exit_code: int | None = 0) -> list[bytes]:
    run = [
        field(1, "abc123"), field(3, "delays"), field(8, "first"), field(9, "# Notes"), field(10, "fast"),
        field(4, item("lr", 0.1) + item("", 3, ("model", "depth")) + item("_wandb", {"x": 1})),
        field(17, field(1, 1_600_000_000) + field(2, 500_000_000)),
    ]  # fmt: skip
    records = [field(17, b"".join(run))]
    records += [
        history(step, {"loss": 1 / (step + 1), "text": "x", "n": {"a": step}}) for step in range(3000)
    ]
    records.append(history(5000, {"odd": float("nan"), "media": {"_type": "image-file", "size": 3}}))
    records.append(history(5001, {"odd": float("inf"), "note": "y" * 100_000}))
    records.append(field(5, item("late", "config")))
    records.append(field(3, item("best", 0.5)))
    return records if exit_code is None else [*records, field(18, field(1, exit_code))]


def wandb_folder(root: Path, content: bytes) -> Path:
    place = root / "wandb" / "offline-run-20200913_122640-abc123"
    (place / "files").mkdir(parents=True, exist_ok=True)
    (place / "files" / "model.txt").write_text("weights")
    log = place / "run-abc123.wandb"
    log.write_bytes(content)
    os.utime(log, (1_600_009_000, 1_600_009_000))
    return place


def only_run() -> mlplat.Run:
    [found] = mlplat.search_runs().to_dicts()
    return mlplat.get_run(found["run_id"])


def test_an_offline_run_of_wandb(tmp_path: Path):
    place = wandb_folder(tmp_path, wandb_log(wandb_records()))
    told = summary("wandb", str(place))
    assert (told["runs"], told["points"], told["files"], told["errors"]) == (1, 6002, 2, [])
    run = only_run()
    assert (run.name, run.experiment, run.status) == ("first", "delays", "FINISHED")
    assert run.started_at.timestamp() == 1_600_000_000.5
    assert run.ended_at is not None
    assert run.ended_at.timestamp() == 1_600_005_001.25
    assert run.description == "# Notes"
    assert run.params == {"lr": "0.1", "model.depth": "3", "late": "config"}
    assert (run.tags["wandb.tag.fast"], run.tags["summary.best"], run.tags["wandb.run_id"]) == (
        "true",
        "0.5",
        "abc123",
    )
    wanted = [(step, 1 / (step + 1), 1_600_000_000_250 + 1000 * step) for step in range(3000)]
    assert same(points_of(run, "loss"), wanted)
    assert len(points_of(run, "n.a")) == 3000
    assert [str(row["value"]) for row in run.metric_history("odd").to_dicts()] == ["nan", "inf"]
    assert [file.path for file in run.artifacts()] == ["model.txt", "wandb/values.json"]
    again = summary("wandb", str(tmp_path))
    assert (again["unchanged"], again["points"]) == (1, 0)


def test_a_run_of_wandb_that_was_killed(tmp_path: Path):
    content = wandb_log(wandb_records(None))
    wandb_folder(tmp_path, content[: len(content) - 50_000])
    told = summary("wandb", str(tmp_path / "wandb"), "--experiment", "mine")
    assert told["points"] == 6001
    run = only_run()
    assert (run.experiment, run.status, run.status_message) == (
        "mine",
        "KILLED",
        "the log of wandb has no end",
    )


def test_a_run_of_wandb_that_goes_on(tmp_path: Path):
    records = wandb_records(1)
    log = wandb_folder(tmp_path, wandb_log(records[:1001])) / "run-abc123.wandb"
    os.utime(log)
    assert summary("wandb", str(tmp_path))["points"] == 2000
    assert only_run().status == "RUNNING"
    wandb_folder(tmp_path, wandb_log(records))
    assert summary("wandb", str(tmp_path))["points"] == 4002
    run = only_run()
    assert (run.status, run.status_message) == ("FAILED", "exit code 1")
    assert run.metric_summaries["loss"].count == 3000


def test_a_run_of_wandb_that_was_killed_and_resumed(tmp_path: Path):
    records = wandb_records()
    wandb_folder(tmp_path, wandb_log(records[:1001]))
    assert summary("wandb", str(tmp_path))["errors"] == []
    killed = only_run()
    assert killed.status == "KILLED"
    resumed = tmp_path / "wandb" / "offline-run-20200914_000000-abc123"
    resumed.mkdir()
    (resumed / "run-abc123.wandb").write_bytes(wandb_log([records[0], *records[1001:]]))
    told = summary("wandb", str(tmp_path))
    assert (told["runs"], told["points"], told["errors"]) == (1, 4002, [])
    run = only_run()
    assert (run.id, run.status, run.status_message) == (killed.id, "FINISHED", "")
    assert run.ended_at is not None
    assert run.ended_at.timestamp() == 1_600_005_001.25
    assert summary("wandb", str(tmp_path))["unchanged"] == 1


def test_damage_in_the_middle_of_a_log_is_said(tmp_path: Path):
    content = bytearray(wandb_log(wandb_records()))
    content[40_000] ^= 0xFF
    place = wandb_folder(tmp_path, bytes(content))
    whole = tmp_path / "wandb" / "offline-run-20200914_000000-other"
    whole.mkdir()
    (whole / "run-other.wandb").write_bytes(wandb_log([field(17, field(1, "other")), field(18, field(1, 0))]))
    said = run_cli("import", "wandb", str(tmp_path), code=1)
    assert f"{place}/run-abc123.wandb is damaged at byte" in said
    assert "Traceback" not in said
    assert only_run().name == "other", "the others are imported"


def test_a_log_without_anything_in_it_makes_no_run(tmp_path: Path):
    records = wandb_records()
    for content in (wandb_log([]), b""):
        place = wandb_folder(tmp_path, content)
        told = summary("wandb", str(tmp_path))
        assert (told["runs"], told["experiments"], told["errors"]) == (0, 0, [])
        assert f"{place}/run-abc123.wandb has nothing in it yet" in told["notes"][0]
        assert mlplat.list_experiments() == []
    wandb_folder(tmp_path, wandb_log(records))
    assert summary("wandb", str(tmp_path))["runs"] == 1
    assert (only_run().name, only_run().status) == ("first", "FINISHED")
    wandb_folder(tmp_path, wandb_log(records[1:]))
    assert "does not say of which run it is" in run_cli("import", "wandb", str(tmp_path), code=1)


def test_metrics_whose_keys_are_alike_stay_apart(tmp_path: Path):
    """A key that comes first has the plain name, unless another one is just that; and each keeps its name."""
    head = [field(17, field(1, "abc123") + field(4, item("a\tb", 1) + item("a b", 2)))]
    rows = [history(0, {"acc`1": 1.0, "acc\t1": 2.0, "n\n": 5.0})]
    wandb_folder(tmp_path, wandb_log(head + rows))
    dry = summary("wandb", str(tmp_path), "--dry-run")
    told = summary("wandb", str(tmp_path))
    assert told["points"] == 3
    run = only_run()
    second = next(key for key in run.metrics if key.startswith("acc_1-"))
    assert run.metrics == {"acc_1": 1.0, second: 2.0, "n_": 5.0}
    other = next(key for key in run.params if key.startswith("a b-"))
    assert run.params == {"a b": "2", other: "1"}
    said = ["the metric 'acc`1' is called 'acc_1' here", f"the metric 'acc\\t1' is called {second!r} here",
            "the metric 'n\\n' is called 'n_' here", f"the param 'a\\tb' is called {other!r} here"]  # fmt: skip
    assert set(said) <= set(told["notes"]) == set(dry["notes"])
    assert summary("wandb", str(tmp_path))["unchanged"] == 1

    rows.append(history(1, {"acc_1": 9.0, "acc\t1": 3.0, "acc`1": 4.0}))
    wandb_folder(tmp_path, wandb_log(head + rows))
    assert summary("wandb", str(tmp_path))["points"] == 3
    metrics = only_run().metrics
    third = next(key for key in metrics if key not in ("acc_1", second, "n_"))
    assert metrics == {"acc_1": 4.0, second: 3.0, "n_": 5.0, third: 9.0}


def test_nested_and_dotted_keys_stay_apart(tmp_path: Path):
    """Also what wandb measured and a metric that is called so, whichever the log has first."""
    config = item("a.b", 1) + item("", 2, ("a", "b"))
    head = field(17, field(1, "abc123") + field(4, config))
    summed = field(3, item("v.l", 3) + item("v", {"l": 4}))
    first = [head, summed, stats(0, cpu=50.0, gpu=2.0), history(0, {"val.loss": 1.0, "val": {"loss": 100.0}})]
    place = wandb_folder(tmp_path, wandb_log(first))
    assert summary("wandb", str(place))["points"] == 4
    rows = [
        history(
            1, {"val": {"loss": 101.0}, "val.loss": 2.0, "system/cpu": 7.0, "t.x": "flat", "t": {"x": "in"}}
        )
    ]
    wandb_folder(tmp_path, wandb_log([*first, *rows, stats(9, cpu=51.0)]))
    told = summary("wandb", str(place))
    assert (told["points"], told["errors"]) == (4, [])
    run = only_run()
    renamed = json.loads(run.tags["import.renamed"])
    nested, own = renamed["metrics"]['["val", "loss"]'], renamed["metrics"]['["system/cpu"]']
    assert (nested[:9], own[:11]) == ("val.loss-", "system/cpu-")
    assert run.metrics == {"val.loss": 2.0, nested: 101.0, "system/cpu": 51.0, "system/gpu": 2.0, own: 7.0}
    assert run.params == {"a.b": "1", renamed["params"]['["a", "b"]']: "2"}
    assert run.tags["summary.v.l"] == "3"
    assert run.tags[renamed["tags"]['summary.["v", "l"]']] == "4"
    texts = {row["value"]: row["key"] for row in run.load_table("wandb/values.json").to_dicts()}
    assert texts["flat"] == "t.x"
    assert texts["in"].startswith("t.x-")
    said = " ".join(told["notes"])
    assert f"the metric '[\"system/cpu\"]' is called {own!r} here" in said
    assert f"is called {texts['in']!r} here" in said
    assert summary("wandb", str(place))["unchanged"] == 1


def test_a_negative_zero_stays_one(tmp_path: Path):
    wandb_folder(tmp_path, whole(field(2, field(1, field(1, "z") + field(16, "-0")) + item("in", {"z": 5}))))
    summary("wandb", str(tmp_path))
    [(_, value, _)] = points_of(only_run(), "z")
    assert math.copysign(1, value) == -1


def test_where_a_run_was_made(tmp_path: Path):
    """Under the names that runs of mlplat have for it; and secrets stay what they are."""
    git = field(1, "https://me:secret@example.org/x.git") + field(2, "ea89069452fd")
    said = [
        field(1, "Linux-6.1"), field(2, "CPython 3.11.7"), field(5, "--lr"), field(5, "0.1"),
        field(5, "--api-key"), field(5, "hunter2"), field(6, "/home/me/train it.py"), field(9, git),
        field(11, "/home/me"), field(12, "box"), field(14, "/usr/bin/python"),
    ]  # fmt: skip
    machine = field(16, 2) + field(17, 4) + field(24, field(1, "A100")) + field(24, field(1, "A100"))
    wandb_folder(tmp_path, whole(field(26, b"".join(said)), field(26, machine)))
    assert summary("wandb", str(tmp_path))["errors"] == []
    run = only_run()
    assert {key[7:]: value for key, value in run.tags.items() if key.startswith("mlplat.")} == {
        "source.name": "/home/me/train it.py", "source.type": "SCRIPT", "python.version": "3.11.7",
        "command": f"/usr/bin/python '/home/me/train it.py' --lr 0.1 --api-key '{HIDDEN}'",
        "host.name": "box", "host.os": "Linux-6.1", "host.cpus": "4", "host.gpus": "A100, A100",
        "git.commit": "ea89069452fd", "git.remote": f"https://{HIDDEN}@example.org/x.git",
    }  # fmt: skip
    file = json.loads(run.read_artifact("environment/environment.json"))
    assert (file["directory"], file["host"]["cpus"], file["git"]["commit"]) == ("/home/me", 4, "ea89069452fd")
    assert "hunter2" not in str(file)
    assert summary("wandb", str(tmp_path))["unchanged"] == 1


# What is no number


def nested(values: Mapping[str, object], step: int) -> bytes:
    """A row as newer versions of wandb write it: media part by part."""
    rows = b"".join(item("", value, tuple(key.split("/"))) for key, value in values.items())
    return field(2, rows + item("_step", step) + item("_timestamp", 1_600_000_000.5))


def artifact(name: str, digest: str, *entries: bytes, **more: str) -> bytes:
    body = field(4, "model") + field(5, name) + field(6, digest) + field(8, '{"k": 1}') + field(11, "best")
    manifest = (
        field(1, 1) + b"".join(field(4, entry) for entry in entries) + field(5, more.get("manifest", ""))
    )
    return field(8, body + field(12, manifest))


def entry(path: str, local: Path, content: bytes) -> bytes:
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    return field(1, path) + field(2, digest) + field(4, len(content)) + field(6, str(local))


def stats(second: int, **readings: float) -> bytes:
    items = b"".join(
        field(3, field(1, key) + field(16, json.dumps(value))) for key, value in readings.items()
    )
    return field(7, field(2, field(1, 1_600_000_000 + second)) + items)


def whole(*records: bytes) -> bytes:
    start = field(17, field(1, "abc123") + field(3, "delays") + field(8, "first"))
    return wandb_log([start, *records, field(18, field(1, 0))])


def test_texts_and_lists_become_a_table(tmp_path: Path):
    rows = [
        nested({"a": 1.5, "text": f"epoch {step}", "in/list": [1, "x"], "none": None}, step)
        for step in range(2)
    ]
    used = field(25, field(1, "QX") + field(2, "dataset") + field(3, "data:v3"))
    rows.append(nested({"_mine": 2.0, "_runtime": 1.0}, 1))
    wandb_folder(tmp_path, whole(*rows, field(10, field(1, "late") + field(2, "text")), used, field(77, "?")))
    told = summary("wandb", str(tmp_path))
    assert told["points"] == 3
    assert told["notes"][0].endswith("run-abc123.wandb: 1 records of the unknown kind 77 were left out")
    assert only_run().metrics == {"a": 1.5, "_mine": 2.0}
    table = only_run().load_table("wandb/values.json").to_dicts()
    assert table[0] == {"step": 0, "time": 1_600_000_000.5, "key": "text", "kind": "text", "value": "epoch 0"}
    assert [(row["step"], row["key"], row["kind"], row["value"]) for row in table[3:]] == [
        (1, "text", "text", "epoch 1"),
        (1, "in.list", "list", '[1, "x"]'),
        (1, "none", "null", "null"),
        (1, "late", "alert", '{"_type": "alert", "text": "text", "level": ""}'),
        (1, "data:v3", "used-artifact", '{"_type": "used-artifact", "id": "QX", "type": "dataset"}'),
    ]


def test_numbers_of_media_are_no_metrics(tmp_path: Path):
    table = {"tab/_type": "table-file", "tab/nrows": 2, "tab/path": "media/table/t.table.json", "a": 1.0}
    image = {"a/img/path": "media/i.png", "a/img/width": 8, "a/img/_type": "image-file"}
    images = {"of/_type": "images/separated", "of/filenames": ["media/i.png", "media/i.png"], "of/count": 2}
    place = wandb_folder(tmp_path, whole(nested(table, 0), nested(image, 1), nested(images, 2)))
    media = place / "files" / "media"
    (media / "table").mkdir(parents=True)
    (media / "table" / "t.table.json").write_text(
        '{"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]], "nrows": 2}'
    )
    (media / "i.png").write_bytes(b"png")
    assert summary("wandb", str(tmp_path))["errors"] == []
    run = only_run()
    assert run.metrics == {"a": 1.0}
    assert run.load_table("media/table/t.table.json").to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    found = [(image.key, image.step, image.read()) for image in run.images()]
    assert found == [("a.img", 1, b"png"), ("of", 2, b"png"), ("of", 2, b"png")]
    kinds = [row["kind"] for row in run.load_table("wandb/values.json").to_dicts()]
    assert kinds == ["table-file", "image-file", "images/separated"]
    assert summary("wandb", str(tmp_path))["unchanged"] == 1


def test_histograms(tmp_path: Path):
    def hist(step: int) -> bytes:
        return nested({"h/_type": "histogram", "h/bins": [0, 1, 3], "h/values": [step, 5]}, step)

    packed = {"p/_type": "histogram", "p/values": [1, 2], "p/packedBins": {"min": 0, "size": 0.5, "count": 2}}
    odd = {"odd/_type": "histogram", "odd/bins": [0, 1], "odd/values": [1, 2]}
    records = [*(hist(step) for step in range(70)), nested(packed, 70), nested(odd, 71)]
    wandb_folder(tmp_path, whole(*records[:40]))
    assert summary("wandb", str(tmp_path))["errors"] == []
    wandb_folder(tmp_path, whole(*records))
    assert summary("wandb", str(tmp_path))["errors"] == []
    run = only_run()
    assert run.metrics == {}
    rows = [tuple(row.values()) for row in run.histograms("h").to_dicts()]
    assert [row[:1] + row[2:] for row in rows] == [
        bin for step in range(70) for bin in ((step, 0.0, 1.0, float(step)), (step, 1.0, 3.0, 5.0))
    ]
    assert [row["bin_end"] for row in run.histograms("p").to_dicts()] == [0.5, 1.0]
    assert [row["key"] for row in run.load_table("wandb/values.json").to_dicts()] == ["odd"]


def test_measurements_of_the_machine(tmp_path: Path):
    """Also over a resumption, and without moving the numbers of the history."""
    start = field(17, field(1, "abc123") + field(3, "delays") + field(8, "first"))
    records = [start, stats(0, cpu=1.5, gpu=2.0), nested({"a": 1.0}, 0), stats(9, cpu=2.5)]
    wandb_folder(tmp_path, wandb_log(records))
    assert summary("wandb", str(tmp_path))["points"] == 4
    resumed = tmp_path / "wandb" / "offline-run-20200914_000000-abc123"
    resumed.mkdir()
    (resumed / "run-abc123.wandb").write_bytes(whole(stats(20, cpu=3.5), nested({"a": 2.0}, 1)))
    assert summary("wandb", str(tmp_path))["points"] == 2
    run = only_run()
    millis = 1_600_000_000_000
    assert points_of(run, "system/cpu") == [
        (0, 1.5, millis),
        (1, 2.5, millis + 9000),
        (2, 3.5, millis + 20_000),
    ]
    assert points_of(run, "system/gpu") == [(0, 2.0, millis)]
    assert run.metric_summaries["a"].count == 2


def test_files_of_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With their versions; what is only referred to is in the description of the version."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    staged = tmp_path / "artifacts" / "staging"
    staged.mkdir(parents=True)
    for name, content in (("s1", b"weights"), ("s2", b"more"), ("s3", b"other weights")):
        (staged / name).write_bytes(content)
    refers = field(1, "far.bin") + field(2, "x") + field(3, "https://example.org/far.bin")
    first = [entry("w.bin", staged / "s1", b"weights"), entry("d/x.txt", staged / "s2", b"more"), refers]
    with gzip.open(staged / "list.gz", "wt") as file:
        digest = base64.b64encode(hashlib.md5(b"more").digest()).decode()
        file.write(
            json.dumps({"path": "y", "digest": digest, "size": 4, "local_path": str(staged / "s2")}) + "\n"
        )
    records = [
        artifact("model", "d1", *first), artifact("model", "d2", entry("w.bin", staged / "s3", b"other weights")),
        artifact("model", "d1", *first), artifact("long", "d3", manifest=str(staged / "list.gz")),
    ]  # fmt: skip
    wandb_folder(tmp_path, whole(*records))
    told = summary("wandb", str(tmp_path))
    assert told["errors"] == []
    run = only_run()
    found = {
        file.path: run.read_artifact(file.path)
        for file in run.artifacts()
        if file.path.startswith("artifacts")
    }
    said = json.loads(found.pop("artifacts/model/v0.json"))
    assert said["references"] == {"far.bin": "https://example.org/far.bin"}
    assert (said["type"], said["aliases"], said["metadata"]) == ("model", ["best"], {"k": 1})
    assert {path: content for path, content in found.items() if not path.endswith(".json")} == {
        "artifacts/model/v0/w.bin": b"weights", "artifacts/model/v0/d/x.txt": b"more",
        "artifacts/model/v1/w.bin": b"other weights", "artifacts/long/v0/y": b"more",
    }  # fmt: skip
    assert "import.left_out" not in run.tags
    assert summary("wandb", str(tmp_path))["unchanged"] == 1


def test_what_is_not_there_any_more_is_said(tmp_path: Path):
    """And is seen at the run, until it is found again."""
    staged = tmp_path / "staged"
    image = {"img/path": "media/gone.png", "img/_type": "image-file"}
    records = [artifact("model", "d1", entry("w.bin", staged, b"weights")), nested(image, 0)]
    place = wandb_folder(tmp_path, whole(*records))
    staged.write_bytes(b"changed")
    for _ in range(2):
        said = run_cli("import", "wandb", str(tmp_path), code=1)
        gone = (
            "1 files of artifact 'model' (v0) are not on this machine any more, or were changed since: w.bin"
        )
        assert f"run 'first' (/delays/abc123): {gone}" in said
        assert "1 media files are not in its folder: media/gone.png" in said
        run = only_run()
        assert run.status == "FINISHED"
        left = run.tags["import.left_out"].splitlines()
        assert len(left) == 2
        assert left[1].endswith(gone)
    staged.write_bytes(b"weights")
    (place / "files" / "media").mkdir()
    (place / "files" / "media" / "gone.png").write_bytes(b"png")
    assert summary("wandb", str(tmp_path))["errors"] == []
    run = only_run()
    assert "import.left_out" not in run.tags
    assert run.read_artifact("artifacts/model/v0/w.bin") == b"weights"
    assert summary("wandb", str(tmp_path))["unchanged"] == 1


def test_files_that_were_saved_come_over_links(tmp_path: Path):
    """wandb links them until they are uploaded; other links that lead out are not followed."""
    (tmp_path / "far").mkdir()
    for name in ("top.bin", "saved.bin", "secret"):
        (tmp_path / "far" / name).write_text(name)
    names = ("top.bin", "sub/saved.bin")
    records = [field(6, field(1, field(1, name) + field(2, 2))) for name in names]
    files = wandb_folder(tmp_path, whole(*records)) / "files"
    (files / "sub").mkdir()
    for name in (*names, "sub/secret"):
        (files / name).symlink_to(tmp_path / "far" / Path(name).name)
    (files / "sub" / "own.txt").write_text("own")
    told = summary("wandb", str(tmp_path))
    assert told["errors"] == []
    assert "sub/secret was left out" in " ".join(told["notes"])
    run = only_run()
    assert {file.path for file in run.artifacts()} == {"model.txt", "sub/own.txt", "sub/saved.bin", "top.bin"}
    assert run.read_artifact("sub/saved.bin") == b"saved.bin"
    assert summary("wandb", str(tmp_path))["unchanged"] == 1
    said = summary("wandb", str(tmp_path), "--no-artifacts")["notes"]
    assert "texts, lists, histograms and media of the history are left out too" in " ".join(said)
