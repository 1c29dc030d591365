"""Paths on this machine; `test_bucket.py` has those in buckets."""

import os
from pathlib import Path

import pytest

from launch import storage
from launch.config.errors import UserError
from launch.storage import paths


def test_a_local_path_becomes_absolute(monkeypatch):
    monkeypatch.setenv("HOME", "/users/me")
    assert storage.path("runs/a") == Path.cwd() / "runs/a"
    assert storage.path("/runs/a") == Path("/runs/a")
    assert storage.path("~/runs") == Path("/users/me/runs")


def test_only_gs_is_a_bucket():
    assert storage.is_bucket("gs://b/x")
    assert not storage.is_bucket(Path("/b/x"))
    assert not storage.is_bucket(Path("/gs:/b"))


def test_folders_are_made_moved_and_removed(tmp_path):
    source, target = tmp_path / "a" / "b", tmp_path / "damaged" / "b"
    storage.make(source)
    storage.make(source)  # no error if it exists
    (source / "file").write_text("x")
    storage.move(source, target)
    assert not source.exists()
    assert (target / "file").read_text() == "x"
    storage.make(source)
    storage.move(source, tmp_path / "damaged" / "c")
    assert {path.name for path in (tmp_path / "damaged").iterdir()} == {"b", "c"}
    storage.remove(tmp_path / "damaged")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert storage.cache_dir() == Path("/caches/segen")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/users/me")
    assert storage.cache_dir() == Path("/users/me/.cache/segen")


@pytest.mark.parametrize("name", ["b[1]", "a*", "who?", "a b", "x#y", "50%", "日本\n", "-a:b"])
def test_names_that_checkpoints_can_have(name):
    assert storage.path(f"/runs/{name}/x") == Path(f"/runs/{name}/x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\\b", r"below a folder named 'a\\\\b'; take a name without a backslash"),
        ("gs:", r"below a folder named 'gs:'"),
        ("\udcff", r"'/runs/\\udcff/x' is not in UTF-8"),
    ],
)
def test_names_that_they_cannot_have_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        storage.path(f"/runs/{name}/x")


def test_paths_that_leave_no_room_for_checkpoints_are_refused():
    longest = "/é" + "/a" * ((paths.LONGEST - 3) // 2) + "b" * ((paths.LONGEST - 3) % 2)
    assert len(longest.encode()) == paths.LONGEST
    assert str(storage.path(longest)) == longest
    with pytest.raises(UserError, match=f"has {paths.LONGEST + 1} bytes; take one of at most"):
        storage.path(longest + "c")


def test_only_files_themselves_are_regular(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert storage.is_regular(tmp_path / "file")
    assert storage.is_regular("gs://b/object")
    for name in ("link", "pipe", "none", "."):
        assert not storage.is_regular(tmp_path / name)


def test_links_and_pipes_in_a_folder_are_refused(tmp_path):
    storage.check_regular(tmp_path / "none")
    storage.check_regular("gs://b/x")
    inner = tmp_path / "checkpoints" / "5"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    storage.check_regular(tmp_path)
    for link, target in (("to_file", "file"), ("to_folder", tmp_path), ("to_nothing", "none")):
        (inner / link).symlink_to(target)
        with pytest.raises(UserError, match=f"{inner / link} is a symbolic link"):
            storage.check_regular(tmp_path)
        (inner / link).unlink()
    os.mkfifo(inner / "pipe")
    with pytest.raises(UserError, match=f"{inner / 'pipe'} is not a regular file"):
        storage.check_regular(tmp_path)
