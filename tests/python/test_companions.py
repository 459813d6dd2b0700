"""What goes along with a run by itself: where it was made, what it printed, what the machine did."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlplat
import pytest
from mlplat._companions import _companion, _console
from mlplat._companions._environment import _clean
from mlplat._companions._masks import masked, masked_arguments, masked_diff
from mlplat._companions._transcript import Transcript


@pytest.fixture(autouse=True)
def companions(project: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("SYSTEM_METRICS", "ENVIRONMENT", "CONSOLE"):
        monkeypatch.delenv(f"MLPLAT_{name}")
    return project


def script(folder: Path, code: str, *arguments: str, name: str = "train.py", **env: str) -> mlplat.Run:
    """The run of a script that prints its id in its first line."""
    (folder / name).write_text(code)
    done = subprocess.run(
        [sys.executable, str(folder / name), *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode in (0, 3), done.stderr
    assert "mlplat:" not in done.stderr, done.stderr
    return mlplat.get_run(done.stdout.splitlines()[0])


def content(run: mlplat.Run, path: str) -> str:
    return Path(run.download_artifact(path)).read_text()


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


CODE = """
import mlplat
with mlplat.start_run("e", "first") as run:
    print(run.id)
"""


def test_where_a_run_was_made(tmp_path: Path):
    git(tmp_path, "init", "-b", "main")
    (tmp_path / "train.py").write_text(CODE)
    (tmp_path / "notes.txt").write_text("one\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "remote", "add", "origin", "https://me:hunter2@example.org/repo.git")
    run = script(tmp_path, CODE, "--depth", "3", "--api-key", "hunter2", "--password=hunter2", "a b")
    assert run.tags["mlplat.git.commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert run.tags["mlplat.git.branch"] == "main"
    assert run.tags["mlplat.git.remote"] == "https://***@example.org/repo.git"
    assert run.tags["mlplat.git.dirty"] == "false"
    assert run.tags["mlplat.source.name"] == str(tmp_path / "train.py")
    assert run.tags["mlplat.source.type"] == "SCRIPT"
    assert run.tags["mlplat.command"].endswith("train.py --depth 3 --api-key '***' '--password=***' 'a b'")
    assert run.tags["mlplat.python.version"] == ".".join(map(str, sys.version_info[:3]))
    files = {file.path for file in run.artifacts("environment")}
    assert files == {"environment/environment.json", "environment/requirements.txt"}
    import importlib.metadata

    assert (
        f"numpy=={importlib.metadata.version('numpy')}"
        in content(run, "environment/requirements.txt").split()
    )
    facts = json.loads(content(run, "environment/environment.json"))
    assert facts["directory"] == str(tmp_path)
    assert "hunter2" not in json.dumps(facts)
    # With something that is not committed.
    (tmp_path / "notes.txt").write_text("two\n")
    dirty = script(tmp_path, CODE)
    assert dirty.tags["mlplat.git.dirty"] == "true"
    assert "+two" in content(dirty, "environment/git.diff")


def test_a_difference_of_binary_files_can_be_applied(tmp_path: Path):
    git(tmp_path, "init", "-b", "main")
    (tmp_path / "image.bin").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "notes.txt").write_text("one\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "first")
    changed = random.Random(1).randbytes(20_000)
    (tmp_path / "image.bin").write_bytes(changed)
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    run = script(tmp_path, CODE)
    git(tmp_path, "checkout", ".")
    git(tmp_path, "apply", run.download_artifact("environment/git.diff"))
    assert (tmp_path / "image.bin").read_bytes() == changed
    assert (tmp_path / "notes.txt").read_text() == "one\ntwo\n"
    (tmp_path / "image.bin").write_bytes(random.Random(2).randbytes(2 << 20))
    too_large = content(script(tmp_path, CODE), "environment/git.diff")
    assert "+two" in too_large
    assert "Binary files" in too_large


def test_binary_patches_are_not_masked():
    token = "hf_" + "A" * 34
    patch = f"GIT binary patch\nliteral 50\nzab+sk-{'a' * 59}\n\n+key = {token}\n"
    assert masked_diff(patch.encode()) == patch.replace(token, "***").encode()


def test_a_large_difference_is_cut_off(tmp_path: Path):
    git(tmp_path, "init", "-b", "main")
    (tmp_path / "big.txt").write_text("x")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "big.txt").write_text("line\n" * 1_000_000)
    run = script(tmp_path, CODE)
    diff = content(run, "environment/git.diff")
    assert len(diff) < (1 << 20) + 100
    assert diff.endswith("cut off: the difference is longer\n")


def test_modules_and_commands_have_names(tmp_path: Path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "__main__.py").write_text(CODE)
    for arguments, kind, name in (
        (["-m", "pack"], "MODULE", "pack"),
        (["-c", CODE], "INTERACTIVE", "-c"),
    ):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        tags = mlplat.get_run(done.stdout.splitlines()[0]).tags
        assert (tags["mlplat.source.type"], tags["mlplat.source.name"]) == (kind, name)


def test_all_of_it_can_be_switched_off(tmp_path: Path):
    off = {"MLPLAT_SYSTEM_METRICS": "0", "MLPLAT_ENVIRONMENT": "no", "MLPLAT_CONSOLE": "off"}
    run = script(tmp_path, CODE, **off)
    assert (run.tags, run.artifacts(), run.metrics) == ({}, [], {})
    code = CODE.replace('"first"', '"first", system_metrics=False, environment=False, console=False')
    run = script(tmp_path, code)
    assert (run.tags, run.artifacts(), run.metrics) == ({}, [], {})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"system_metrics": 0.01}, "0.2"),
        ({"console": "pipe"}, "console"),
        ({"environment": 3}, "environment"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(arguments: dict[str, Any], why: str):
    with pytest.raises(mlplat.MisuseError, match=why):
        mlplat.start_run("e", **arguments)
    assert len(mlplat.search_runs()) == 0


def test_what_is_no_unicode_is_no_trouble():
    assert _clean("train-\udcff.py\0") == "train-?.py?"


def test_where_later_runs_are_made_goes_with_their_start():
    with mlplat.start_run("e", system_metrics=False, console=False, environment=True) as first:
        pass
    made = {key: value for key, value in mlplat.get_run(first.id).tags.items() if key.startswith("mlplat.")}
    assert "mlplat.source.name" in made
    with mlplat.start_run(
        "e", tags={"team": "a"}, system_metrics=False, console=False, environment=True
    ) as second:
        assert second.tags == {**made, "team": "a"}
        with mlplat.start_run("e", system_metrics=False, console=False, environment=True) as child:
            assert set(child.tags) < set(made)
            assert child.tags["mlplat.source.name"] == made["mlplat.source.name"]
        with mlplat.start_run("e", system_metrics=False, console=False, environment=False) as other:
            assert other.tags == {}
    assert mlplat.get_run(second.id).tags == {**made, "team": "a"}
    assert mlplat.get_run(child.id).tags == child.tags
    assert mlplat.get_run(other.id).tags == {}
    assert {file.path for file in mlplat.get_run(second.id).artifacts("environment")} >= {
        "environment/environment.json"
    }


def test_wrong_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLPLAT_CONSOLE", "maybe")
    with pytest.raises(mlplat.MisuseError, match="MLPLAT_CONSOLE is 'maybe'"):
        mlplat.start_run("e")
    monkeypatch.setenv("MLPLAT_CONSOLE", "0")
    monkeypatch.setenv("MLPLAT_SYSTEM_METRICS_INTERVAL", "soon")
    with pytest.raises(mlplat.MisuseError, match="give seconds"):
        mlplat.start_run("e")


def test_what_was_printed(tmp_path: Path):
    code = """
import logging, sys
logging.basicConfig(stream=sys.stderr, format="%(message)s")
import mlplat
print("before")
with mlplat.start_run("e") as run:
    print(run.id)
    logging.warning("logged")
    for share in range(5):
        print(f"\\r{share * 25} %", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("grüß", "Gott", sep="\\n")
print("after")
"""
    (tmp_path / "train.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    run_id = done.stdout.splitlines()[1]
    assert content(mlplat.get_run(run_id), "console.log") == f"{run_id}\nlogged\n100 %\ngrüß\nGott\n"
    assert done.stdout.endswith("grüß\nGott\nafter\n")


def test_what_children_and_c_print(tmp_path: Path):
    code = """
import os, subprocess, sys
import mlplat
with mlplat.start_run("e", console="fd") as run:
    print(run.id, flush=True)
    os.write(1, b"from c\\n")
    subprocess.run(["echo", "from a child"])
    print("last")
os.write(1, b"after\\n")
"""
    (tmp_path / "train.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    run_id = done.stdout.splitlines()[0]
    assert done.stdout == f"{run_id}\nfrom c\nfrom a child\nlast\nafter\n"
    assert content(mlplat.get_run(run_id), "console.log") == f"{run_id}\nfrom c\nfrom a child\nlast\n"


def test_a_failed_run_keeps_what_it_printed(tmp_path: Path):
    code = CODE + "    print('so far')\n    raise SystemExit(3)\n"
    run = script(tmp_path, code)
    assert run.status == "FAILED"
    assert content(run, "console.log").endswith("so far\n")


def test_a_resumed_run_keeps_what_was_printed_before(tmp_path: Path):
    code = """
import sys, mlplat
with mlplat.start_run("e", run_id=sys.argv[1] if len(sys.argv) > 1 else None, {more}) as run:
    print(run.id)
    raise SystemExit(3)
"""
    first = script(tmp_path, code.format(more=""))
    script(tmp_path, code.format(more="environment=True"), first.id, name="second.py")
    third = script(tmp_path, code.format(more="resume_from=0"), first.id, name="third.py")
    files = [file.path for file in third.artifacts()]
    assert files == sorted(files)
    consoles = [path for path in files if path.startswith("console")]
    assert consoles[0] == "console.log"
    assert [content(third, path) for path in consoles] == [f"{first.id}\n"] * 3
    origins = [path for path in files if path.endswith("/environment.json")]
    assert origins[0] == "environment/environment.json"
    names = [Path(json.loads(content(third, path))["source"]["name"]).name for path in origins]
    assert names == ["train.py", "second.py", "third.py"]
    # The two kinds of files of one process have one name.
    assert [path[len("environment") :].partition("/")[0] for path in origins] == [
        path[len("console") :].removesuffix(".log") for path in consoles
    ]


def test_processes_that_resume_a_run_at_one_moment_have_files_of_their_own():
    assert _companion.suffix_of(fresh=True) == ""
    assert len({_companion.suffix_of(fresh=False) for _ in range(100)}) == 100


def test_streams_are_as_before(capsys: pytest.CaptureFixture[str]):
    before = (sys.stdout, sys.stdout.write, sys.stderr.write)
    with mlplat.start_run("e", environment=False), mlplat.start_run("e", environment=False) as inner:
        print("inner")
    assert (sys.stdout, sys.stdout.write, sys.stderr.write) == before
    assert content(mlplat.get_run(inner.id), "console.log") == "inner\n"
    assert capsys.readouterr().out == "inner\n"
    assert not _console._taps


def until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def companion_threads() -> int:
    return sum(thread.name == "mlplat-companion" for thread in threading.enumerate())


def test_a_run_has_a_thread_when_there_is_something_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_companion, "_FIRST_UPLOAD_S", 0.05)
    with mlplat.start_run("e") as sweep:
        until("the environment is known", lambda: "mlplat.source.name" in mlplat.get_run(sweep.id).tags)
        with mlplat.start_run("e", environment=False) as silent:
            before = companion_threads()
            print("now")
            assert companion_threads() == before + 1
            until(
                "the output is there",
                lambda: [a.path for a in mlplat.get_run(silent.id).artifacts()] == ["console.log"],
            )
        with mlplat.start_run("e") as another:
            assert companion_threads() == before
    assert "mlplat.source.name" in mlplat.get_run(another.id).tags
    assert not mlplat.get_run(another.id).artifacts()


def test_where_no_thread_can_start_the_end_does_its_work(monkeypatch: pytest.MonkeyPatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        run = mlplat.start_run("e")
        print("all the same")
        run.end()
    found = {artifact.path for artifact in mlplat.get_run(run.id).artifacts()}
    assert {"console.log", "environment/environment.json"} <= found


def test_a_forked_process_prints_for_itself():
    with mlplat.start_run("e", environment=False) as run:
        print("parent")
        pid = os.fork()
        if pid == 0:
            print("child")
            os._exit(0 if not _console._listening else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert content(mlplat.get_run(run.id), "console.log") == "parent\n"


def test_transcripts_are_bounded():
    transcript = Transcript()
    for at in range(200_000):
        transcript.add(f"line {at:06d} {'x' * 40}\n")
    text = transcript.text()
    assert len(text) < 5_300_000
    assert text.startswith("line 000000")
    assert text.endswith(f"line 199999 {'x' * 40}\n")
    assert "characters left out" in text
    bar = Transcript()
    for at in range(100_000):
        bar.add(f"\r{at} of 100000")
    assert bar.text() == "99999 of 100000"
    endless = Transcript()
    for _ in range(100):
        endless.add("y" * 10_000)
    assert endless.text() == "y" * 1_000_000


def test_secrets_are_masked():
    hidden = masked_arguments(
        [
            "train.py",
            "--token",
            "abc",
            "--lr",
            "0.1",
            "API_KEY=xyz",
            "--db",
            "postgres://u:p@host/db",
            "-x",
            "sk-" + "a" * 30,
        ]
    )
    assert hidden == [
        "train.py",
        "--token",
        "***",
        "--lr",
        "0.1",
        "API_KEY=***",
        "--db",
        "postgres://***@host/db",
        "-x",
        "***",
    ]
    assert masked("export HF=hf_" + "A" * 34) == "export HF=***"
    assert masked("tokens per second: 5, s3://bucket/key") == "tokens per second: 5, s3://bucket/key"
    harmless = ["--max-tokens=5", "--tokenizer", "bert", "--author=me", "token", "x"]
    assert masked_arguments(harmless) == harmless
    assert masked_arguments(["--wandb-api-key", "x", "--AWS_SECRET_ACCESS_KEY=y", "--hf.token=z"]) == [
        "--wandb-api-key",
        "***",
        "--AWS_SECRET_ACCESS_KEY=***",
        "--hf.token=***",
    ]


@pytest.mark.parametrize(
    "option",
    [
        "--openai-key",
        "--key",
        "--wandb-key",
        "--ssh-key",
        "--db-pass",
        "--hf_token",
        "--openaiKey",
        "--PGPASSWORD",
        "--api-keys",
        "--AWS_ACCESS_KEY_ID",
    ],
)
def test_options_with_secrets(option: str):
    assert masked_arguments([option, "abcd", "rest"]) == [option, "***", "rest"]
    assert masked_arguments([f"{option}=abcd", "rest"]) == [f"{option}=***", "rest"]


@pytest.mark.parametrize(
    "option",
    [
        "--monkey",
        "--keyboard",
        "--max_tokens",
        "--tokenizer",
        "--keypoints",
        "--bypass",
        "--num-key-value-heads",
        "--image-key",
        "--key-dim",
        "--passes",
    ],
)
def test_options_without_secrets(option: str):
    for harmless in ([option, "abcd"], [f"{option}=abcd"]):
        assert masked_arguments(harmless) == harmless


def test_system_metrics(tmp_path: Path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nwhile :; do echo '0, 37, 1024, 8192, 51, [N/A]'; sleep 0.1; done\n")
    fake.chmod(0o755)
    code = CODE.replace('"first"', '"first", system_metrics=0.3') + "    import time; time.sleep(1.5)\n"
    run = script(tmp_path, code, PATH=f"{tmp_path}:{os.environ['PATH']}")
    expected = {"cpu_percent", "memory_percent", "memory_used_mb", "process_cpu_percent", "process_rss_mb", "network_sent_mb_per_s", "network_received_mb_per_s", "gpu_0_percent", "gpu_0_memory_percent"}  # fmt: skip
    found = {key.removeprefix("system/") for key in run.metrics}
    assert expected <= found, expected - found
    assert run.metrics["system/gpu_0_percent"] == 37
    assert "system/gpu_0_power_w" not in run.metrics
    assert 0 < run.metrics["system/memory_percent"] < 100
    assert run.metrics["system/process_rss_mb"] > 5
    history = run.metric_history("system/cpu_percent").to_arrow()
    assert 3 <= len(history) <= 6
    assert history["step"].to_pylist() == list(range(len(history)))


def test_system_metrics_of_a_short_run_are_none():
    with mlplat.start_run("e", environment=False, console=False) as run:
        pass
    assert mlplat.get_run(run.id).metrics == {}


def test_children_do_not_repeat_their_parent(monkeypatch: pytest.MonkeyPatch):
    with (
        mlplat.start_run("e", console=False),
        mlplat.start_run(console=False) as child,
    ):
        pass
    found = mlplat.get_run(child.id)
    assert found.artifacts() == []
    assert "mlplat.source.name" in found.tags
    assert "mlplat.command" not in found.tags


def test_a_joined_run_has_its_companions_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with mlplat.start_run("e", environment=False, console=False) as run:
        monkeypatch.setenv("MLPLAT_RUN_ID", run.id)
        script(tmp_path, CODE)
    assert mlplat.get_run(run.id).artifacts() == []


def test_starting_a_run_stays_fast():
    mlplat.start_run("e").end()
    began = time.process_time()
    runs = [mlplat.start_run("e", parent=None, console=False) for _ in range(20)]
    took = (time.process_time() - began) / 20
    for run in reversed(runs):
        run.end()
    assert took < 0.02


def test_asyncio_runs_have_companions_too():
    import asyncio

    async def work() -> str:
        async with mlplat.aio.start_run("e", environment=True, console=True) as run:
            print("async")
        return run.id

    run = mlplat.get_run(asyncio.run(work()))
    assert content(run, "console.log") == "async\n"
    assert run.tags["mlplat.source.type"] in ("SCRIPT", "MODULE")


KILLED = """
import os, signal, sys, time
import mlplat
run = mlplat.start_run("e", environment=False, system_metrics=False)
print(run.id)
for at in range(1000):
    print(f"\\rstep {{at}}", end="")
print("\\nlast words", flush=True)
if {wait}:
    run.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("wait", [True, False])
def test_a_killed_process_loses_nothing_of_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: bool
):
    monkeypatch.setenv("MLPLAT_HOME", str(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(wait=wait)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr
    run_id = done.stdout.splitlines()[0]
    (kept,) = (tmp_path / "home" / "console").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    subprocess.run([sys.executable, "-m", "mlplat", "sync"], check=True, capture_output=True)
    assert content(mlplat.get_run(run_id), "console.log") == f"{run_id}\nstep 999\nlast words\n"
    assert not list((tmp_path / "home" / "console").iterdir())


def test_the_next_process_delivers_what_a_killed_one_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLPLAT_HOME", str(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(wait=True)], cwd=tmp_path, capture_output=True, text=True
    )
    run_id = done.stdout.splitlines()[0]
    code = """
import os, time, mlplat
with mlplat.start_run("e", system_metrics=False) as run:
    print(run.id)
    folder = os.environ["MLPLAT_HOME"] + "/console"
    for _ in range(200):
        if len(os.listdir(folder)) == 1:
            break
        time.sleep(0.05)
"""
    (tmp_path / "next.py").write_text(code)
    changed = "from mlplat._companions import _companion; _companion._LOOK_EVERY_S = 0.5\n"
    script(tmp_path, changed + code, name="next.py")
    assert content(mlplat.get_run(run_id), "console.log") == f"{run_id}\nstep 999\nlast words\n"
    # Nor does the one that ended well leave anything.
    assert not list((tmp_path / "home" / "console").iterdir())


def test_what_is_kept_of_a_long_output_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mlplat._companions import _kept

    monkeypatch.setenv("MLPLAT_HOME", str(tmp_path))
    monkeypatch.setattr(_kept, "_LARGE", 100_000)
    kept = _kept.Kept(mlplat.connect(), "run", "console.log")
    transcript = Transcript(kept=kept)
    for at in range(20_000):
        transcript.add(f"\r{at} of 20000 {'#' * 50}")
    ((_, about, held),) = _kept._files()
    assert about["path"] == "console.log"
    assert len(held) < 110_000
    again = Transcript()
    again.add(held.decode())
    assert again.text() == transcript.text() == f"19999 of 20000 {'#' * 50}"
    # This process lives.
    assert _kept.deliver(mlplat.connect()) == 0
    kept.remove()
    assert not list((tmp_path / "console").iterdir())


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a\b\bbc", "bc"),
        ("10%\b\b\b20%\n", "20%\n"),
        ("long line\r\x1b[Kshort\n", "short\n"),
        ("outer 0\r\n\rinner 0\rinner 1\x1b[A\router 1\n\rinner 0\rinner 9\x1b[A\rend\x1b[2K\router 2\n\n", "outer 2\ninner 9\n"),
        ("a\nb\nc\x1b[2Ad\n", "ad\nb\nc"),
        ("\r\x1b[32mgreen\x1b[0m\r\x1b[31mred  \x1b[0m\n", "\x1b[31mred  \x1b[0m\n"),
        ("one\r        \r\ntwo", "\ntwo"),
        ("\x1b[?25lx\x1b[?25h", "x"),
        ("a\r\nb\r\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_a_transcript_reads_as_a_terminal_does(written: str, shown: str):
    whole = Transcript()
    whole.add(written)
    assert whole.text() == shown
    # Also where a sequence arrives in pieces.
    pieces = Transcript()
    for character in written:
        pieces.add(character)
    assert pieces.text() == shown
