"""Paths in buckets, by a stand-in for Google Cloud Storage (tests.tools.bucket)."""

import io
from pathlib import Path

import pytest
from PIL import Image

from launch import cli, storage
from launch.config.errors import UserError
from launch.storage import checksums
from tests.tools import bucket

CHECK = b"123456789"  # whose CRC-32C every description of it gives
CRC = "e3069283"


def test_a_path_is_here_or_in_a_bucket(stand_in, monkeypatch):
    assert storage.path("runs/a") == Path.cwd() / "runs/a"
    assert str(storage.path("gs://b/runs/a/")) == "gs://b/runs/a"
    assert storage.is_bucket(storage.path("gs://b/x"))
    assert not storage.is_bucket(storage.path("/b/x"))
    with pytest.raises(UserError, match=r"s3://b/x: of buckets only gs:// is known here; mount"):
        storage.path("s3://b/x")
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'buckets need gcsfs: pip install "segen\[gcs\]"'):
        storage.path("gs://b/x")


def test_a_bucket_tells_sizes_and_hashes_without_being_read(place):
    (place / "a/b.bin").write_bytes(CHECK)
    (place / "empty").write_bytes(b"")
    assert storage.contents(place) == {
        "a/b.bin": {"bytes": 9, "crc32c": CRC},
        "empty": {"bytes": 0, "crc32c": "00000000"},
    }


def test_folders_move_and_go(place):
    (place / "10/state/d").write_bytes(CHECK)
    (place / "100").write_bytes(b"another")
    storage.move(place / "10", place / "damaged/10")
    assert set(storage.contents(place)) == {"100", "damaged/10/state/d"}
    storage.remove(place / "damaged/10")
    assert set(storage.contents(place)) == {"100"}


def test_a_bucket_that_is_not_there_is_named(stand_in):
    with pytest.raises(UserError, match=r"gs://nowhere/runs/a: there is no bucket 'nowhere'"):
        storage.make(storage.path("gs://nowhere/runs/a"))


def caught(action):
    try:
        action()
    except Exception as error:
        return error
    return pytest.fail("nothing was raised")


def test_trouble_with_a_bucket_is_one_message(place, monkeypatch):
    def refuse(*request):
        raise bucket.Failed(403)

    (place / "a").write_text("1")
    monkeypatch.setattr(bucket, "ROUTES", (("GET", ".*", refuse),))
    error = caught(lambda: storage.contents(place))
    message, code = cli.ending(error)
    assert message.startswith("the bucket cannot be reached: Forbidden: ")
    assert code == 2
    with pytest.raises(UserError, match=f"{place}: the bucket cannot be reached: Forbidden"):
        storage.make(place)


def test_other_errors_keep_their_stack_trace(place):
    assert cli.ending(ZeroDivisionError("ours")) is None
    assert cli.ending(FileNotFoundError(2, "No such file", "x")) is None
    pillow = caught(lambda: Image.open(io.BytesIO(b"no image")))  # an OSError without a number
    assert cli.ending(pillow) is None
    with pytest.raises(ZeroDivisionError), storage.bucket_errors(place):
        raise ZeroDivisionError


def test_a_manifest_needs_no_reading(place, stand_in, monkeypatch):
    (place / "state/data.bin").write_bytes(bytes(range(256)))
    (place / "run/metadata").write_text("{}")
    checksums.write(place)
    monkeypatch.setattr(bucket, "read", lambda *request: pytest.fail("an object was read"))
    listing = checksums.size(place)
    monkeypatch.undo()
    assert checksums.find_damage(place) is None
    assert listing == sum(facts["bytes"] for facts in storage.contents(place).values())
    name = str(place / "state/data.bin").removeprefix(f"gs://{bucket.NAME}/")
    stand_in.objects.spoil(name, b"\1" + bytes(range(1, 256)))
    assert (
        checksums.find_damage(place)
        == "the content of state/data.bin has changed since it was written"
    )
    stand_in.objects.spoil(name, b"short")
    assert checksums.find_damage(place) == "state/data.bin has 5 bytes instead of 256"
    stand_in.objects.delete(name, {})
    assert checksums.find_damage(place) == "state/data.bin is missing"


def test_data_are_copied_once_and_again_where_they_change(place, tmp_path, monkeypatch):
    (place / "mnist/3.0.1/a").write_bytes(b"one")
    (place / "mnist/3.0.0/a").write_bytes(b"old")
    (place / "cifar10/1/b").write_bytes(b"two")
    said = []

    def fetched(*parts):
        target = storage.fetch(str(place), tmp_path, said.append, parts)
        files = (path for path in target.rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(target)): path.read_bytes() for path in files}

    assert fetched("mnist", "3.0.1") == {"mnist/3.0.1/a": b"one"}
    assert said == [
        f"copying 1 files, 0.0 MiB, from {place} to {tmp_path / str(place).removeprefix('gs://')}"
    ]
    fetched("mnist", "3.0.1")
    assert len(said) == 1
    monkeypatch.setattr(bucket.time, "time", lambda: 2e9)
    (place / "mnist/3.0.1/a").write_bytes(b"six")  # of the same size, later
    assert fetched("mnist", "3.0.1") == {"mnist/3.0.1/a": b"six"}
    assert fetched() == {"mnist/3.0.1/a": b"six", "mnist/3.0.0/a": b"old", "cifar10/1/b": b"two"}
