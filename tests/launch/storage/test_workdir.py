"""What a run writes here and finds again in its bucket."""

import pytest

from launch import storage
from launch.config.errors import UserError
from launch.storage import bucket_lock, workdir


def test_a_folder_of_this_machine_is_its_own_home(tmp_path):
    made = workdir.Workdir(tmp_path / "run")
    with made.open():
        assert made.folder == made.workdir == tmp_path / "run"
        made.publish()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_the_journal_follows_to_the_bucket_and_back(place):
    (place / "checkpoints/5/d").write_text("not to be fetched")
    (place / "tensorboard/events").write_text("neither")
    made = workdir.Workdir(place)
    with made.open():
        (made.folder / "metrics.jsonl").write_text("1\n")
        (made.folder / "half.tmp").write_text("no")
        made.publish()
        assert (place / "metrics.jsonl").read_text() == "1\n"
        (made.folder / "metrics.jsonl").write_text("1\n2\n")
        (made.folder / "figures").mkdir()
        (made.folder / "figures/a.png").write_bytes(b"png")
    assert not made.folder.exists()
    again = workdir.Workdir(place)
    with again.open():
        found = {str(p.relative_to(again.folder)) for p in again.folder.rglob("*") if p.is_file()}
        assert found == {"metrics.jsonl", "figures/a.png"}
        assert (again.folder / "metrics.jsonl").read_text() == "1\n2\n"
    assert set(storage.contents(place)) == {
        "checkpoints/5/d",
        "tensorboard/events",
        "metrics.jsonl",
        "figures/a.png",
    }


def test_only_what_is_new_is_sent(place, monkeypatch):
    made, sent = workdir.Workdir(place), []
    with made.open():
        (made.folder / "a").write_text("1")
        (made.folder / "b").write_text("1")
        made.publish()
        fs = storage.bucket()
        pipe = fs.pipe
        monkeypatch.setattr(fs, "pipe", lambda content: sent.append(content) or pipe(content))
        made.publish()
        (made.folder / "b").write_text("22")
        made.publish()
    assert sent == [{f"{place}/b": b"22"}]


def test_an_error_is_not_hidden_by_the_trouble_of_telling_of_it(place, monkeypatch, capsys):
    made = workdir.Workdir(place)

    def lost():
        raise UserError("somebody else has it")

    def fail():
        made._still = lost
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), made.open():
        fail()
    assert "somebody else has it" in capsys.readouterr().err
    assert not made.folder.exists()


def test_who_lost_the_workdir_commits_nothing(place, monkeypatch):
    monkeypatch.setattr(bucket_lock, "RENEWAL", 60.0)
    made = workdir.Workdir(place)
    with pytest.raises(UserError, match="was taken over by process 7"), made.open():
        (place / ".lock").write_text('{"who": "process 7 on afar", "token": "t"}')
