"""Paths in buckets, with a stand-in for Google Cloud Storage (tests.tools.bucket)."""

import io
from pathlib import Path

import pytest
from PIL import Image

from launch import cli, storage
from launch.config.errors import UserError
from launch.storage import bucket, checksums
from tests.tools import bucket as stand_in_for_gcs

CHECK = b"123456789"  # the input of which every description of CRC-32C gives the result
CRC = "e3069283"


def caught(action):
    try:
        action()
    except Exception as error:
        return error
    return pytest.fail("nothing was raised")


def test_a_path_in_a_bucket(stand_in, monkeypatch):
    assert str(storage.path("gs://b/runs/a/")) == "gs://b/runs/a"
    assert storage.is_bucket(storage.path("gs://b/x"))
    with pytest.raises(UserError, match=r"s3://b/x: of buckets only gs:// is supported; mount"):
        storage.path("s3://b/x")
    monkeypatch.setattr(bucket.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'buckets need gcsfs: pip install "segen\[gcs\]"'):
        storage.path("gs://b/x")


def test_listings_have_sizes_and_checksums(place):
    (place / "a/b.bin").write_bytes(CHECK)
    (place / "empty").write_bytes(b"")
    assert bucket.contents(place) == {
        "a/b.bin": {"bytes": 9, "crc32c": CRC},
        "empty": {"bytes": 0, "crc32c": "00000000"},
    }


def test_folders_are_moved_and_removed(place):
    (place / "10/state/d").write_bytes(CHECK)
    (place / "100").write_bytes(b"another")
    storage.move(place / "10", place / "damaged/10")
    assert set(bucket.contents(place)) == {"100", "damaged/10/state/d"}
    storage.remove(place / "damaged/10")
    assert set(bucket.contents(place)) == {"100"}


def test_a_missing_bucket_is_named(stand_in, place):
    storage.make(place)
    with pytest.raises(UserError, match=r"gs://nowhere/runs/a: there is no bucket 'nowhere'"):
        storage.make(storage.path("gs://nowhere/runs/a"))


def test_an_error_of_a_bucket_is_one_message(place, monkeypatch):
    def refuse(*request):
        raise stand_in_for_gcs.Failed(403)

    (place / "a").write_text("1")
    monkeypatch.setattr(stand_in_for_gcs, "ROUTES", (("GET", ".*", refuse),))
    error = caught(lambda: bucket.contents(place))
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
    for folder in (place, Path("/here")):
        with pytest.raises(ZeroDivisionError), bucket.bucket_errors(folder):
            raise ZeroDivisionError


def test_checksums_need_no_reading(place, stand_in, monkeypatch):
    (place / "state/data.bin").write_bytes(bytes(range(256)))
    (place / "run/metadata").write_text("{}")
    checksums.write(place)
    monkeypatch.setattr(
        stand_in_for_gcs, "read", lambda *request: pytest.fail("an object was read")
    )
    listing = checksums.size(place)
    monkeypatch.undo()
    assert checksums.find_damage(place) is None
    assert listing == sum(facts["bytes"] for facts in bucket.contents(place).values())
    name = str(place / "state/data.bin").removeprefix(f"gs://{stand_in_for_gcs.NAME}/")
    stand_in.objects.spoil(name, b"\1" + bytes(range(1, 256)))
    changed = "the content of state/data.bin has changed since it was written"
    assert checksums.find_damage(place) == changed
    stand_in.objects.spoil(name, b"short")
    assert checksums.find_damage(place) == "state/data.bin has 5 bytes instead of 256"
    stand_in.objects.delete(name, {})
    assert checksums.find_damage(place) == "state/data.bin is missing"


def test_files_are_copied_once_and_again_when_they_change(place, tmp_path, monkeypatch, capsys):
    (place / "mnist/3.0.1/a").write_bytes(b"one")
    (place / "mnist/3.0.0/a").write_bytes(b"old")
    (place / "cifar10/1/b").write_bytes(b"two")

    def fetched(*parts):
        target = bucket.fetch(str(place), tmp_path, parts)
        files = (path for path in target.rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(target)): path.read_bytes() for path in files}

    assert fetched("mnist", "3.0.1") == {"mnist/3.0.1/a": b"one"}
    target = tmp_path / str(place).removeprefix("gs://")
    message = f"copying 1 files, 0.0 MiB, from {place} to {target}"
    assert capsys.readouterr().err.strip() == message
    fetched("mnist", "3.0.1")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(stand_in_for_gcs.time, "time", lambda: 2e9)
    (place / "mnist/3.0.1/a").write_bytes(b"six")  # the same size, a later time
    assert fetched("mnist", "3.0.1") == {"mnist/3.0.1/a": b"six"}
    everything = {"mnist/3.0.1/a": b"six", "mnist/3.0.0/a": b"old", "cifar10/1/b": b"two"}
    assert fetched() == everything


def test_an_object_without_a_time_is_as_old_as_can_be(place):
    assert bucket._modified({"size": 3}) == 0


def test_the_size_of_a_copy_is_told_in_mebibytes(place, tmp_path, capsys):
    for name in "ab":
        (place / name).write_bytes(bytes(3 * 2**18))
    bucket.fetch(str(place), tmp_path)
    assert "copying 2 files, 1.5 MiB" in capsys.readouterr().err
