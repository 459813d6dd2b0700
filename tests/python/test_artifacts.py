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
