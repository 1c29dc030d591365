import shutil

import numpy as np
import pytest

from launch import checkpoints
from launch.checkpoints import reader
from launch.config.errors import UserError
from launch.storage import checksums
from tests.launch.checkpoints import states
from tests.tools import damage_storm


def test_committed_steps_are_listed_in_order(saved):
    (saved / "notes").mkdir()
    (saved / "5").write_text("a file is no step")
    shutil.copytree(saved / "30", saved / "200")
    assert checkpoints.steps(saved) == [10, 20, 30, 200]
    assert checkpoints.steps(saved.parent / "nowhere") == []
    assert checkpoints.unfinished(saved.parent / "nowhere") == []


def test_the_metrics_and_the_record_of_a_step(saved):
    assert checkpoints.metrics(saved, 10) == {"loss": 1.0, "accuracy": -1.0}
    assert checkpoints.metrics(saved, 20) is None
    assert checkpoints.record(saved, 20) == states.RECORD
    assert checkpoints.record(saved, 15) == {}


@pytest.mark.parametrize(
    ("metrics", "best", "expected"),
    [
        ({"fid": 3.0}, "fid", -3.0),
        ({"fid": 3.0}, "-fid", 3.0),
        ({"fid": 3.0}, "", 0.0),
        ({}, "-fid", -np.inf),
        ({"fid": None}, "fid", -np.inf),
        ({"fid": float("nan")}, "-fid", -np.inf),
        ({"fid": -np.inf}, "fid", -np.inf),
    ],
)
def test_goodness_is_largest_for_the_best(metrics, best, expected):
    assert checkpoints.goodness(metrics, best) == expected


def test_damage_to_any_file_is_noticed(saved):
    count = damage_storm.storm(saved, trials=24)
    assert count["noticed_and_named"] == count["touched_data"] > 10


def test_damaged_steps_are_set_aside_and_can_be_saved_again(saved, capsys):
    for step in (20, 30):
        (saved / str(step) / "state" / "manifest.ocdbt").unlink()
    assert checkpoints.newest_whole(saved) == 10
    assert checkpoints.steps(saved) == [10, 20, 30]
    first, second = capsys.readouterr().err.splitlines()
    assert "checkpoint 30 is damaged: state/manifest.ocdbt is missing" in first
    assert "checkpoint 20 is damaged" in second
    (saved.parent / "damaged" / "30").mkdir(parents=True)  # set aside before
    assert checkpoints.newest_whole(saved, discard=True) == 10
    assert checkpoints.steps(saved) == [10]
    damaged = sorted(path.name for path in (saved.parent / "damaged").iterdir())
    assert damaged == ["20", "30", "30+"]
    states.save(saved, {20: 1.0})
    assert checkpoints.newest_whole(saved) == 20


def test_a_run_never_silently_starts_over(saved):
    assert checkpoints.newest_whole(saved.parent / "nowhere") is None
    for step in (10, 20, 30):
        shutil.rmtree(saved / str(step) / "state")
    message = r"no whole checkpoint in .*step 30: .* is missing; step 20: .*; step 10:"
    with pytest.raises(UserError, match=message):
        checkpoints.newest_whole(saved, discard=True)
    assert checkpoints.steps(saved) == [10, 20, 30]


def test_half_written_steps_do_not_count(saved):
    half = saved / "40.orbax-checkpoint-tmp"
    shutil.copytree(saved / "10", half)
    for marker in ("_CHECKPOINT_METADATA", checksums.NAME):
        (half / marker).unlink()
    assert checkpoints.newest_whole(saved) == 30
    assert checkpoints.unfinished(saved) == [half]


def test_a_missing_or_damaged_step_is_named(saved):
    checkpoints.check_whole(saved, 20)
    with pytest.raises(UserError, match=r"--step=15: .* has steps \[10, 20, 30\]"):
        checkpoints.check_whole(saved, 15)
    (saved / "20" / checksums.NAME).unlink()
    with pytest.raises(UserError, match=r"checkpoint 20 in .* is damaged: manifest.json is miss"):
        checkpoints.check_whole(saved, 20)


def test_a_step_that_a_run_removes_is_not_damaged(saved, monkeypatch, capsys):
    """The run saves step 40 and removes step 30 while step 30 is checked."""
    find_damage = reader.state_files.find_damage

    def race(step):
        if step.name == "30":
            shutil.copytree(saved / "20", saved / "40")
            shutil.rmtree(step)
        return find_damage(step)

    monkeypatch.setattr(reader.state_files, "find_damage", race)
    assert checkpoints.newest_whole(saved) == 40
    assert capsys.readouterr().err == ""


def test_all_steps_are_checked_before_a_run_goes_on(saved, capsys):
    """Orbax reads the metrics of each, to find the best one."""
    (saved / "10" / "metrics" / "metrics").write_text("{")
    assert checkpoints.newest_whole(saved) == 30
    assert capsys.readouterr().err == ""
    assert checkpoints.newest_whole(saved, discard=True) == 30
    said = capsys.readouterr().err
    assert "checkpoint 10 is damaged: metrics/metrics has 1 bytes" in said
    assert said.endswith("it is set aside\n")
    assert checkpoints.steps(saved) == [20, 30]


@pytest.mark.parametrize("name", ["²", "٣", "007", "-1", "+1", "1_0", " 1"])
def test_folders_of_other_names_are_no_steps(saved, name):
    (saved / name).mkdir()
    assert checkpoints.steps(saved) == [10, 20, 30]
