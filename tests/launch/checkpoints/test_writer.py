import json
import time
import types

import pytest

from launch import checkpoints
from launch.checkpoints import writer
from launch.checkpoints.writer import CheckpointWriter
from launch.config.errors import UserError
from launch.storage import checksums
from tests.launch.checkpoints.states import RECORD, save, state_of


def test_the_items_of_a_step(saved):
    items = {path.name for path in (saved / "10").iterdir() if path.is_dir()}
    assert items == {"state", "run", "metrics"}
    assert json.loads((saved / "10" / "run" / "metadata").read_text()) == RECORD
    assert checksums.find_damage(saved / "10") is None


@pytest.mark.parametrize("best", ["loss", "-accuracy"])
def test_the_best_is_kept_beside_the_latest_and_across_restarts(folder, best):
    save(folder, {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.5}, best=best)
    assert checkpoints.steps(folder) == [20, 30, 40]
    save(folder, {50: None, 60: 4.0}, best=best)
    assert checkpoints.steps(folder) == [20, 50, 60]
    save(folder, {70: 0.5, 80: 3.0, 90: 2.0}, best=best)
    assert checkpoints.steps(folder) == [70, 80, 90]


def test_without_a_best_only_the_latest_are_kept(folder):
    save(folder, {10: 1.0, 20: 2.0, 30: 3.0})
    assert checkpoints.steps(folder) == [20, 30]


def test_another_metric_can_become_the_best_one(folder):
    """Steps that were saved before have no such metric, and are kept by their age alone."""
    save(folder, {10: 1.0}, keep=1, best="loss")
    later = CheckpointWriter(folder, 1, "-score")
    for step, score in {20: 2.0, 30: float("nan"), 40: 1.0}.items():
        later.save(step, state_of(step), {}, {"loss": 2.0, "score": score})
    later.close()
    assert checkpoints.steps(folder) == [20, 40]


def test_a_step_that_is_not_eligible_does_not_replace_the_best(folder):
    is_eligible = lambda metrics: metrics["loss"] >= 2.0
    save(folder, {10: 5.0, 20: 6.0, 30: 1.0, 40: 9.0}, 1, "loss", is_eligible=is_eligible)
    assert checkpoints.steps(folder) == [10, 40]


def test_a_best_metric_that_does_not_exist_is_named(folder):
    with pytest.raises(UserError, match="gives no 'miou'; it gives accuracy, loss"):
        save(folder, {10: 1.0}, best="miou")


def test_half_written_steps_are_removed(folder):
    (folder / "20.orbax-checkpoint-tmp").mkdir(parents=True)
    (folder / "notes").mkdir()
    CheckpointWriter(folder, 2, "").close()
    assert [path.name for path in folder.iterdir()] == ["notes"]


def test_a_file_in_place_of_the_folder_is_named(folder):
    folder.write_text("")
    with pytest.raises(UserError, match="is a file"):
        CheckpointWriter(folder, 2, "")


def test_a_folder_that_cannot_be_written_is_named(folder, monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(folder), "write_text", refuse)
    with pytest.raises(UserError, match=f"cannot write into {folder}: Permission denied"):
        CheckpointWriter(folder, 2, "")


def test_before_commit_is_called_once_a_step_and_may_prevent_it(folder):
    calls = []

    def before_commit():
        calls.append([path.name.partition(".")[0] for path in checkpoints.unfinished(folder)])
        assert all((path / checksums.NAME).exists() for path in checkpoints.unfinished(folder))
        if len(calls) == 2:
            raise UserError("another process has the folder")

    saving = CheckpointWriter(folder, 2, "", before_commit=before_commit)
    saving.save(10, state_of(1), {}, {})
    saving.wait()
    saving.save(20, state_of(2), {}, {})
    with pytest.raises(
        UserError, match=r"another process has the folder; the last good .* step 10"
    ):
        saving.wait()
    assert calls == [["10"], ["20"]]
    assert checkpoints.steps(folder) == [10]


def poll_for_a_minute(saving):
    """Polls, which does not wait, until the background save has failed."""
    for _ in range(6000):
        saving.poll()
        time.sleep(0.01)


def test_a_failing_save_is_reported_and_the_last_good_step_named(folder, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    saving = CheckpointWriter(folder, 2, "")
    monkeypatch.setattr(checksums, "write", full)
    saving.save(10, state_of(1), {}, {})
    with pytest.raises(UserError, match="No space left on device; nothing was saved yet"):
        saving.wait()
    monkeypatch.undo()
    saving.save(20, state_of(1), {}, {})
    saving.wait()
    monkeypatch.setattr(checksums, "write", full)
    saving.save(30, state_of(2), {}, {})
    message = r"No space left on device; the last good checkpoint is step 20"
    with pytest.raises(UserError, match=message):
        poll_for_a_minute(saving)
    saving.poll()  # reported already
    monkeypatch.undo()
    assert checkpoints.newest_whole(folder) == 20


def test_a_disk_without_room_is_noticed_before_anything_is_written(saved, monkeypatch):
    size = sum(leaf.nbytes for leaf in (state_of(2).params["net"].values()))
    needed = size + 4 + 480  # and the state of the optimiser
    saving = CheckpointWriter(saved, 9, "")
    room = types.SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: room)
    message = r"No space left on device; the last good checkpoint is step 30"
    with pytest.raises(UserError, match=message):
        saving.save(40, state_of(2), {}, {})
    assert sorted(path.name for path in saved.iterdir()) == ["10", "20", "30"]
    room.free = needed
    saving.save(40, state_of(2), {}, {})
    saving.close()
    assert checkpoints.newest_whole(saved) == 40


def test_a_save_may_be_refused_before_anything_is_written(tmp_path):
    def refuse():
        raise UserError("the folder is another one now")

    saving = CheckpointWriter(tmp_path / "checkpoints", 2, "", before_save=refuse)
    with pytest.raises(UserError, match="another one now"):
        saving.save(1, {}, {}, None)
    assert not list((tmp_path / "checkpoints").iterdir())
    saving.close()
