"""The files that a run writes on this machine, and finds again in its bucket."""

import pytest

from launch.config.errors import UserError
from launch.storage import bucket, bucket_lock
from launch.storage.bucket_workdir import BucketWorkdir


def test_metrics_follow_to_the_bucket_and_back(place):
    (place / "checkpoints/5/d").write_text("not fetched")
    (place / "tensorboard/events").write_text("not fetched either")
    workdir = BucketWorkdir(place)
    with workdir.open():
        (workdir.local_path / "metrics.jsonl").write_text("1\n")
        (workdir.local_path / "half.tmp").write_text("no")
        workdir.sync()
        assert (place / "metrics.jsonl").read_text() == "1\n"
        (workdir.local_path / "metrics.jsonl").write_text("1\n2\n")
        (workdir.local_path / "figures").mkdir()
        (workdir.local_path / "figures/a.png").write_bytes(b"png")
    assert not workdir.local_path.exists()
    again = BucketWorkdir(place)
    with again.open():
        found = {path for path in again.local_path.rglob("*") if path.is_file()}
        names = {str(path.relative_to(again.local_path)) for path in found}
        assert names == {"metrics.jsonl", "figures/a.png"}
        assert (again.local_path / "metrics.jsonl").read_text() == "1\n2\n"
    assert set(bucket.contents(place)) == {
        "checkpoints/5/d",
        "tensorboard/events",
        "metrics.jsonl",
        "figures/a.png",
    }


def test_only_new_content_is_sent(place, monkeypatch):
    (place / "old").write_text("1")
    workdir, sent = BucketWorkdir(place), []
    with workdir.open():
        filesystem = bucket.filesystem()
        pipe = filesystem.pipe
        monkeypatch.setattr(filesystem, "pipe", lambda items: sent.append(items) or pipe(items))
        (workdir.local_path / "a").write_text("1")
        (workdir.local_path / "b").write_text("1")
        workdir.sync()
        workdir.sync()
        (workdir.local_path / "b").write_text("22")
        workdir.sync()
    assert sent == [{f"{place}/a": b"1", f"{place}/b": b"1"}, {f"{place}/b": b"22"}]


def test_an_error_of_the_run_is_not_replaced_by_an_error_of_the_bucket(place, capsys):
    workdir = BucketWorkdir(place)

    def lost():
        raise UserError("another process has the folder")

    def train():
        workdir._check_lock = lost
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), workdir.open():
        train()
    assert "another process has the folder" in capsys.readouterr().err
    assert not workdir.local_path.exists()


def test_a_process_that_lost_the_folder_writes_nothing(place, monkeypatch):
    monkeypatch.setattr(bucket_lock, "RENEWAL", 60.0)
    workdir = BucketWorkdir(place)

    def train():
        (workdir.local_path / "metrics.jsonl").write_text("1\n")
        (place / ".lock").write_text('{"who": "process 7 on afar", "token": "t"}')

    with pytest.raises(UserError, match="was taken over by process 7"), workdir.open():
        train()
    assert set(bucket.contents(place)) == {".lock"}
    assert not workdir.local_path.exists()
