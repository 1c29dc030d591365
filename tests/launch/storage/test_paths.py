"""Paths on this machine; `test_bucket.py` has those in buckets."""

from pathlib import Path

from launch import storage


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
