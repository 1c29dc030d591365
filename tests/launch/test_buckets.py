"""Whole runs in a bucket: the same as on a disk, to the bit, after every kind of failure."""

import re
import signal
import time

import numpy as np
import pytest

from launch import checkpoints, inspect, storage, train
from launch.checkpoints.writer import CheckpointWriter
from launch.config import loading
from launch.config.errors import CommandExit, UserError
from launch.data import batches
from launch.engine import trained_runs
from launch.reporting import metrics_file
from launch.storage.bucket import contents, filesystem
from tests.tools import bucket, runs

SMALL = "--config=tests/tools/small.py:vae"
STEPS = 40
LONGER = [f"--config.train.steps={STEPS}", f"--config.eval.every={STEPS}"]


def short(config, steps):
    """The config of the runs below: saves at steps 10, 20, 30, 40."""
    config = config.copy_and_resolve_references()
    config.train.steps, config.eval.every = steps, 20
    return config


@pytest.fixture(scope="module")
def straight(small_config, tmp_path_factory):
    """A run of 40 steps on a disk."""
    workdir = tmp_path_factory.mktemp("straight")
    train.train(short(small_config, STEPS), workdir)
    return workdir


@pytest.fixture(scope="module")
def finished(stand_in, small_config):
    """The same run in a bucket, in two parts."""
    workdir = storage.path(f"gs://{bucket.NAME}/finished")
    for steps in (20, STEPS):
        train.train(short(small_config, steps), workdir)
    return workdir


@pytest.fixture
def copy(finished, place, stand_in):
    """A copy of the run in the bucket, for one test to damage."""
    for name in contents(finished):
        stand_in.objects.put(full(place, name), stand_in.objects.get(full(finished, name))[0], {})
    return place


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run that the commands below start, in this process and on a disk."""
    workdir = tmp_path_factory.mktemp("alone")
    config = loading.load("tests/tools/small.py:vae")
    config.train.steps, config.eval.every, config.mesh.data = STEPS, STEPS, 1
    train.train(config, workdir)
    return workdir


def full(place, name):
    return f"{str(place).removeprefix(f'gs://{bucket.NAME}/')}/{name}"


def losses(place):
    return [
        (line["step"], line["loss"]) for line in metrics_file.read(place / "metrics.jsonl").lines
    ]


def names(place):
    return {name.partition("/")[0] for name in contents(place)}


def test_a_run_in_a_bucket_is_the_run_on_a_disk(finished, straight):
    assert checkpoints.steps(finished / "checkpoints") == [30, 40]
    assert runs.state_hash(finished, 40) == runs.state_hash(straight, 40)
    assert losses(finished) == losses(straight)
    written = {"checkpoints", "config.json", "figures", "metrics.jsonl", "tensorboard"}
    assert names(finished) == written
    figures = {path.name for path in (straight / "figures").iterdir()}
    assert {path.name for path in (finished / "figures").iterdir()} == figures


def test_a_save_that_was_cut_off_is_cleared_and_the_run_goes_on(
    small, copy, stand_in, straight, capsys
):
    # As kill -9 leaves it: files of step 40, and no file that commits them.
    for name in ("commit_success.txt", "manifest.json"):
        stand_in.objects.delete(full(copy, f"checkpoints/40/{name}"), {})
    (copy / "checkpoints/40/state/d/half").write_bytes(b"half")
    assert checkpoints.steps(copy / "checkpoints") == [30]
    assert [path.name for path in checkpoints.unfinished(copy / "checkpoints")] == ["40"]
    train.train(short(small, STEPS), copy)
    assert "going on from step 30" in capsys.readouterr().err
    assert runs.state_hash(copy, 40) == runs.state_hash(straight, 40)
    assert "checkpoints/40/state/d/half" not in contents(copy)


def test_damage_is_found_and_set_aside(small, copy, stand_in, straight, capsys):
    inspect.main([str(copy)])
    assert re.search(r"step +40 .* whole", capsys.readouterr().out)
    name = next(n for n in contents(copy) if n.startswith("checkpoints/40/state/d/"))
    content = bytearray(stand_in.objects.get(full(copy, name))[0])
    content[len(content) // 2] ^= 1
    stand_in.objects.spoil(full(copy, name), bytes(content))
    with pytest.raises(CommandExit, match="damaged: step 40"):
        inspect.main([str(copy)])
    train.train(short(small, STEPS), copy)
    assert "checkpoint 40 is damaged: the content of state/d/" in capsys.readouterr().err
    assert checkpoints.steps(copy / "checkpoints") == [30, 40]
    assert runs.state_hash(copy, 40) == runs.state_hash(straight, 40)
    assert "damaged" in names(copy)


def test_a_run_in_a_bucket_is_read_there(small, finished, tmp_path):
    restored = trained_runs.restore(finished, [], None, None)
    assert restored.step == 40
    other = short(small, 10)
    other.init_from = f"{finished}:30"
    train.train(other, tmp_path)
    assert checkpoints.steps(tmp_path / "checkpoints") == [10]


def test_a_save_that_the_bucket_refuses_ends_the_run_with_the_last_good_step(
    small, place, monkeypatch
):
    real = CheckpointWriter._finish_step

    def refused(self):
        if "20" in {path.name for path in checkpoints.unfinished(self.folder)}:
            raise OSError("Forbidden: the key has expired")
        real(self)

    monkeypatch.setattr(CheckpointWriter, "_finish_step", refused)
    message = "Forbidden: the key has expired; the last good checkpoint is step 10"
    with pytest.raises(UserError, match=message):
        train.train(short(small, STEPS), place)
    assert (place / "metrics.jsonl").exists()


def test_data_that_are_not_in_the_bucket_are_asked_for(small, place, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small.data.update(name="mnist", data_dir=str(place))
    with pytest.raises(UserError, match=f"data_dir={place} has no mnist as array_record. Prepare"):
        batches.open_data(small.data, "train")


def test_data_in_a_bucket_are_copied_and_read(small, place, data_dir, monkeypatch, tmp_path):
    batches.open_data(small.data, "train")  # prepares it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    filesystem().put(f"{data_dir}/digits", f"{place}/tfds/digits", recursive=True)
    here = batches.open_data(small.data, "train")
    small.data.data_dir = f"{place}/tfds"
    there = batches.open_data(small.data, "train")
    assert str(tmp_path / "segen/buckets") in str(there.split.folder)
    np.testing.assert_array_equal(here.arrays["image"], there.arrays["image"])
    assert here.split.fingerprint == there.split.fingerprint


def test_a_kill_loses_nothing_but_the_steps_since_the_last_save(place, alone):
    process = runs.start("train", SMALL, *LONGER, f"--workdir={place}")
    deadline = time.monotonic() + 90
    while not checkpoints.steps(place / "checkpoints"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = runs.run("train", SMALL, *LONGER, f"--workdir={place}")
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    # To the bit only where the processes have the same devices and XLA flags.
    np.testing.assert_allclose(losses(place), losses(alone), rtol=1e-5)
    assert checkpoints.steps(place / "checkpoints") == [STEPS - 5, STEPS]


def test_two_processes_write_one_run_there(place, alone):
    arguments = ["--processes=2", "--restarts=0", "--", SMALL, *LONGER]
    done = runs.run("local", *arguments, f"--workdir={place}")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(place), losses(alone), rtol=1e-5)
    assert checkpoints.steps(place / "checkpoints") == [STEPS - 5, STEPS]
    assert checkpoints.newest_whole(place / "checkpoints") == STEPS
    assert not [name for name in names(place) if name.startswith(".")]
