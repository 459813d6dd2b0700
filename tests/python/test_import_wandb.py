"""`mlplat import wandb`, from logs written here as wandb writes them; the real ones are in heavy/."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import mlplat
import pytest
from import_stores import points_of, run_cli, same, summary

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
    assert (told["runs"], told["points"], told["files"]) == (1, 6002, 1)
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
    assert [file.path for file in run.artifacts()] == ["model.txt"]
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
    rows = [history(0, {"acc@1": 1.0, "acc#1": 2.0, "n?": 5.0})]
    wandb_folder(tmp_path, wandb_log(head + rows))
    dry = summary("wandb", str(tmp_path), "--dry-run")
    told = summary("wandb", str(tmp_path))
    assert told["points"] == 3
    run = only_run()
    second = next(key for key in run.metrics if key.startswith("acc_1-"))
    assert run.metrics == {"acc_1": 1.0, second: 2.0, "n_": 5.0}
    other = next(key for key in run.params if key.startswith("a b-"))
    assert run.params == {"a b": "2", other: "1"}
    said = ["the metric 'acc@1' is called 'acc_1' here", f"the metric 'acc#1' is called {second!r} here",
            "the metric 'n?' is called 'n_' here", f"the param 'a\\tb' is called {other!r} here"]  # fmt: skip
    assert set(said) <= set(told["notes"]) == set(dry["notes"])
    assert summary("wandb", str(tmp_path))["unchanged"] == 1

    rows.append(history(1, {"acc_1": 9.0, "acc#1": 3.0, "acc@1": 4.0}))
    wandb_folder(tmp_path, wandb_log(head + rows))
    assert summary("wandb", str(tmp_path))["points"] == 3
    metrics = only_run().metrics
    third = next(key for key in metrics if key not in ("acc_1", second, "n_"))
    assert metrics == {"acc_1": 4.0, second: 3.0, "n_": 5.0, third: 9.0}
