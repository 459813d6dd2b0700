"""Files of runs, and models published from them."""

from __future__ import annotations

import hashlib
import os

import mlplat
import pytest

pytestmark = pytest.mark.usefixtures("project")


def test_files_and_directories_come_back_as_they_went(tmp_path):
    content = os.urandom(3 << 20)
    (tmp_path / "model.pkl").write_bytes(content)
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "a.svg").write_text("<svg/>")
    (tmp_path / "plots" / "deep" / "ä b.txt").write_text("ü")
    (tmp_path / "empty").write_bytes(b"")
    with mlplat.start_run("e") as run:
        assert run.log_artifact(tmp_path / "model.pkl") == "model.pkl"
        assert run.log_artifact(str(tmp_path / "plots"), "out") == "out/plots"
        run.log_artifact(tmp_path / "empty", artifact_path="x/y")
    again = mlplat.get_run(run.id)
    files = {file.path: file for file in again.artifacts()}
    assert list(files) == ["model.pkl", "out/plots/a.svg", "out/plots/deep/ä b.txt", "x/y/empty"]
    assert files["model.pkl"].sha256 == hashlib.sha256(content).hexdigest()
    assert files["model.pkl"].size_bytes == len(content)
    assert [file.path for file in again.artifacts("out/plots/deep")] == ["out/plots/deep/ä b.txt"]

    path = again.download_artifact("model.pkl")
    with open(path, "rb") as file:
        assert file.read() == content
    folder = again.download_artifact("out/plots", into=tmp_path / "back")
    assert folder == str(tmp_path / "back" / "plots")
    assert (tmp_path / "back" / "plots" / "deep" / "ä b.txt").read_text() == "ü"
    everything = again.download_artifact(into=tmp_path / "all")
    assert (tmp_path / "all" / "x" / "y" / "empty").read_bytes() == b""
    assert everything == str(tmp_path / "all")


def test_files_are_read_in_ranges(tmp_path):
    content = os.urandom(5 << 20)
    (tmp_path / "weights.bin").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    with mlplat.start_run("e") as run:
        run.log_artifact(tmp_path / "weights.bin")
        run.log_artifact(tmp_path / "empty")
        again = mlplat.get_run(run.id)
        assert again.read_artifact("weights.bin") == content
        assert again.read_artifact("weights.bin", 1000, 10) == content[1000:1010]
        assert again.read_artifact("weights.bin", len(content) - 3, 10) == content[-3:]
        assert again.read_artifact("weights.bin", len(content) + 3, 10) == b""
        assert again.read_artifact("empty") == b""
        with pytest.raises(mlplat.MisuseError, match="offset"):
            again.read_artifact("weights.bin", -1)
        with pytest.raises(mlplat.NotFoundError):
            again.read_artifact("nothing")

        with again.open_artifact("weights.bin") as file:
            assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
            assert (file.name, file.mode) == ("weights.bin", "rb")
            assert file.read(7) == content[:7]
            assert file.seek(-5, os.SEEK_END) == len(content) - 5
            assert file.read() == content[-5:]
            assert file.read() == b""
            file.seek(2 << 20)
            file.seek(10, os.SEEK_CUR)
            assert file.read(100) == content[(2 << 20) + 10 :][:100]
            file.seek(0)
            assert file.read() == content
            with pytest.raises(ValueError, match="negative"):
                file.seek(-1)
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            file.read(1)
        with pytest.raises(mlplat.NotFoundError):
            again.open_artifact("nothing")

        opened = again.open_artifact("weights.bin")
        (tmp_path / "weights.bin").write_bytes(b"other")
        run.log_artifact(tmp_path / "weights.bin")
        with pytest.raises(mlplat.FailedPreconditionError, match="other content"):
            opened.read(1)


def test_a_zip_is_read_where_it_is(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("big", os.urandom(3 << 20))
        archive.writestr("note", "hello")
    with mlplat.start_run("e") as run:
        run.log_artifact(tmp_path / "a.zip")
    with mlplat.get_run(run.id).open_artifact("a.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.read("note") == b"hello"


def test_large_and_many_files_come_back_as_they_went(tmp_path):
    source = tmp_path / "out"
    source.mkdir()
    for number in range(300):
        (source / f"{number}.json").write_text(f'{{"number": {number}}}')
    (source / "large.bin").write_bytes(os.urandom(40 << 20))
    with mlplat.start_run("e") as run:
        run.log_artifact(source)
    back = tmp_path / "back"
    mlplat.get_run(run.id).download_artifact("out", into=back)
    for file in source.iterdir():
        assert (back / "out" / file.name).read_bytes() == file.read_bytes()
    assert len(list((back / "out").iterdir())) == 301


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_download_does_not_follow_links_out(tmp_path):
    (tmp_path / "source" / "logs").mkdir(parents=True)
    (tmp_path / "source" / "logs" / "a").write_text("new")
    (tmp_path / "outside").mkdir()
    (tmp_path / "back" / "source").mkdir(parents=True)
    (tmp_path / "back" / "source" / "logs").symlink_to(tmp_path / "outside")
    with mlplat.start_run("e") as run:
        run.log_artifact(tmp_path / "source")
    with pytest.raises(mlplat.MisuseError, match="symbolic link"):
        mlplat.get_run(run.id).download_artifact("source", into=tmp_path / "back")
    assert list((tmp_path / "outside").iterdir()) == []


def test_bad_artifacts_are_clear_errors(tmp_path):
    (tmp_path / "f").write_text("x")
    with mlplat.start_run("e") as run:
        with pytest.raises(mlplat.FileError, match="nothing-here"):
            run.log_artifact(tmp_path / "nothing-here")
        with pytest.raises(mlplat.MlplatError):
            run.log_artifact(tmp_path / "f", "../up")
        with pytest.raises(mlplat.WrongTypeError, match="path"):
            run.log_artifact(3)  # type: ignore[arg-type]
    again = mlplat.get_run(run.id)
    with pytest.raises(mlplat.NotFoundError, match="nothing"):
        again.download_artifact("nothing")


def test_publish_a_model(tmp_path):
    (tmp_path / "model.pkl").write_text("v1")
    with mlplat.start_run("e") as run:
        run.log_params({"depth": 3})
        run.log_metric("mae", 1.5)
        version = run.publish_model("arrival-delay", tmp_path / "model.pkl", description="first")
        assert (version.name, version.version, version.stage) == ("arrival-delay", 1, "DEVELOPMENT")
        assert (version.params, version.metrics) == ({"depth": "3"}, {"mae": 1.5})
        assert version.files[0].sha256 == hashlib.sha256(b"v1").hexdigest()
        # Uploaded once: the same content is in the run already.
        second = run.publish_model("arrival-delay", tmp_path / "model.pkl")
        assert second.version == 2
        third = run.publish_model("arrival-delay", "model.pkl")
        assert third.artifact_path == "model.pkl"
        assert len(mlplat.get_run(run.id).artifacts()) == 1
        with pytest.raises(mlplat.NotFoundError, match="neither"):
            run.publish_model("arrival-delay", "nothing.pkl")
    assert "arrival-delay" in repr(version)
    assert "depth=3" in version._repr_html_()


def test_publish_a_directory(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_text("a")
    (tmp_path / "model" / "b").write_text("b")
    with mlplat.start_run("e") as run:
        version = run.publish_model("m", tmp_path / "model")
    assert [file.path for file in version.files] == ["model/a", "model/b"]
    back = mlplat.models.download(version, into=tmp_path / "back")
    assert (tmp_path / "back" / "model" / "b").read_text() == "b"
    assert back == str(tmp_path / "back" / "model")


def test_the_catalogue(tmp_path):
    (tmp_path / "f").write_text("x")
    with mlplat.start_run("e") as run:
        for _ in range(3):
            run.publish_model("m", tmp_path / "f")
    assert [model.name for model in mlplat.models.list_models()] == ["m"]
    assert mlplat.models.get_model("m").latest_version == 3
    assert [version.version for version in mlplat.models.list_versions("m")] == [3, 2, 1]
    assert mlplat.models.get_version("m").version == 3
    assert mlplat.models.get_version("m", 1).version == 1
    assert mlplat.models.set_alias("m", "champion", 2).aliases == {"champion": 2}
    assert mlplat.models.get_version("m", "champion").version == 2
    assert mlplat.models.get_version("m", 2).aliases == ["champion"]
    assert mlplat.models.delete_alias("m", "champion").aliases == {}
    assert mlplat.models.transition("m", 1, "staging", comment="ok").stage == "STAGING"
    with pytest.raises(mlplat.MlplatError, match="nonsense"):
        mlplat.models.transition("m", 1, "nonsense")
    with pytest.raises(mlplat.FailedPreconditionError):
        mlplat.models.transition("m", 2, "PRODUCTION")
    with pytest.raises(mlplat.NotFoundError):
        mlplat.models.get_version("m", 9)
