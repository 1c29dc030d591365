"""Signals and kill -9: each against a real process."""

import os
import signal
import time

import pytest

from launch import checkpoints
from tests.tools import kill_storm, runs


def test_kill_9_anywhere_changes_nothing(tmp_path):
    count = kill_storm.storm(2, tmp_path)
    assert count["kills"] == 2
    assert count["identical_state"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_the_same_command_continues(tmp_path, data_dir, number):
    arguments = [*runs.SHORT, f"--config.data.data_dir={data_dir}", f"--workdir={tmp_path}"]
    process = runs.start("train", *arguments, "--config.train.steps=100000")
    deadline = time.monotonic() + 60
    while not checkpoints.steps(tmp_path / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert f"{number.name}: saved step" in stderr
    reached = checkpoints.newest_whole(tmp_path / "checkpoints")
    more = [f"--config.train.steps={reached + 20}", "--config.mesh.data=1"]
    done = runs.call("train", *arguments, *more)
    assert done.returncode == 0, done.stderr
    assert f"from step {reached:,} of" in done.stderr
    assert checkpoints.newest_whole(tmp_path / "checkpoints") == reached + 20
