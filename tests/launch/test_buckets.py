"""Whole runs in a bucket: as on a disk, to the bit, whatever happens to them."""

import json
import re
import signal
import time

import numpy as np
import pytest

from launch import checkpoints, export, inspect, storage, train
from launch.checkpoints.writer import Writer
from launch.config import loading
from launch.config.errors import CommandExit, UserError
from launch.data import batches
from launch.engine import trained_runs
from tests.tools import bucket, runs

SMALL = "--config=tests/tools/small.py:vae"


@pytest.fixture
def straight(small, tmp_path):
    train.train(small, tmp_path / "straight")
    return tmp_path / "straight"


def shipped(steps, evaluate):
    config = loading.load("tests/tools/small.py:vae")
    config.train.steps, config.eval.every, config.mesh.data = steps, evaluate, 1
    return config


def losses(place):
    lines = map(json.loads, (place / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines]


def names(place):
    return {name.partition("/")[0] for name in storage.contents(place)}


def test_a_run_in_a_bucket_is_the_run_on_a_disk(small, place, straight):
    small.train.steps = 20
    train.train(small, place)
    small.train.steps = 40
    train.train(small, place)  # another process, on another machine for all it knows
    assert checkpoints.steps(place / "checkpoints") == [30, 40]
    assert runs.state_hash(place, 40) == runs.state_hash(straight, 40)
    assert losses(place) == losses(straight)
    assert names(place) == {"checkpoints", "config.json", "figures", "metrics.jsonl", "tensorboard"}
    figures = {path.name for path in (straight / "figures").iterdir()}
    assert {path.name for path in (place / "figures").iterdir()} == figures


def test_a_save_that_was_cut_off_is_cleared_and_the_run_goes_on(small, place, straight):
    small.train.steps = 30
    train.train(small, place)
    small.train.steps = 40
    # As kill -9 leaves it: files of step 40, and nothing that says they are whole.
    (place / "checkpoints/40/state/d/half").write_bytes(b"half")
    assert checkpoints.steps(place / "checkpoints") == [20, 30]
    assert [path.name for path in checkpoints.unfinished(place / "checkpoints")] == ["40"]
    train.train(small, place)
    assert runs.state_hash(place, 40) == runs.state_hash(straight, 40)
    assert "checkpoints/40/state/d/half" not in storage.contents(place)


def test_damage_is_found_and_set_aside(small, place, stand_in, straight, capsys):
    train.train(small, place)
    inspect.main([str(place)])
    assert re.search(r"step +40 .* whole", capsys.readouterr().out)
    name = next(n for n in storage.contents(place) if n.startswith("checkpoints/40/state/d/"))
    full = f"{str(place).removeprefix('gs://' + bucket.NAME + '/')}/{name}"
    content = bytearray(stand_in.objects.get(full)[0])
    content[len(content) // 2] ^= 1
    stand_in.objects.spoil(full, bytes(content))
    with pytest.raises(CommandExit, match="damaged: step 40"):
        inspect.main([str(place)])
    small.train.steps = 50
    train.train(small, place)
    assert "checkpoint 40 is damaged: the content of state/d/" in capsys.readouterr().err
    assert checkpoints.steps(place / "checkpoints") == [40, 50]
    assert runs.state_hash(place, 40) == runs.state_hash(straight, 40)
    assert "damaged" in names(place)


def test_a_kill_loses_nothing_but_the_steps_since_the_last_save(place, tmp_path):
    arguments = [
        SMALL,
        "--config.train.steps=60",
        "--config.eval.every=30",
        "--config.checkpoint.every=20",
    ]
    process = runs.start("train", *arguments, f"--workdir={place}")
    deadline = time.monotonic() + 90
    while not checkpoints.steps(place / "checkpoints"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = runs.run("train", *arguments, f"--workdir={place}")
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    # Not in this process, which may have begun with other XLA flags, and so other bits.
    alone = runs.run("train", *arguments, f"--workdir={tmp_path}")
    assert alone.returncode == 0, alone.stderr
    assert runs.state_hash(place, 60) == runs.state_hash(tmp_path, 60)


def test_two_processes_write_one_run_there(place, tmp_path):
    arguments = "--processes=2", "--restarts=0", "--", SMALL
    done = runs.run("local", *arguments, f"--workdir={place}")
    assert done.returncode == 0, done.stderr
    train.train(shipped(20, 10), tmp_path)
    np.testing.assert_allclose(losses(place), losses(tmp_path), rtol=1e-5)
    assert checkpoints.steps(place / "checkpoints") == [15, 20]
    assert checkpoints.newest_whole(place / "checkpoints", pytest.fail) == 20
    assert not [name for name in names(place) if name.startswith(".")]


def test_what_reads_a_run_reads_it_there(small, place, tmp_path):
    train.train(small, place)
    restored = trained_runs.restore(place, [], None, None)
    assert restored.step == 40
    export.main([f"--workdir={place}", f"--out={tmp_path / 'model.zip'}"])
    assert (tmp_path / "model.zip").stat().st_size > 10_000
    other = small.copy_and_resolve_references()
    other.init_from = f"{place}:30"
    other.train.steps = 10
    train.train(other, tmp_path / "other")
    assert checkpoints.steps(tmp_path / "other/checkpoints") == [10]


def test_a_save_that_the_bucket_refuses_ends_the_run_with_the_last_good_step(
    small, place, monkeypatch
):
    real = Writer._sign

    def refused(self):
        if "20" in {path.name for path in checkpoints.unfinished(self._folder)}:
            raise OSError("Forbidden: the key has expired")
        real(self)

    monkeypatch.setattr(Writer, "_sign", refused)
    with pytest.raises(
        UserError, match="Forbidden: the key has expired; the last good checkpoint is step 10"
    ):
        train.train(small, place)
    assert (place / "metrics.jsonl").exists()


def test_data_that_are_not_in_the_bucket_are_asked_for(small, place, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small.data.update(name="mnist", data_dir=str(place))
    with pytest.raises(UserError, match=f"data_dir={place} has no mnist as array_record. Prepare"):
        batches.open_data(small.data, "train")


def test_data_in_a_bucket_are_copied_and_read(small, place, data_dir, monkeypatch, tmp_path):
    batches.open_data(small.data, "train")  # prepares it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    storage.bucket().put(f"{data_dir}/digits", f"{place}/tfds/digits", recursive=True)
    here = batches.open_data(small.data, "train")
    small.data.data_dir = f"{place}/tfds"
    there = batches.open_data(small.data, "train")
    assert str(tmp_path / "segen/buckets") in str(there.split.folder)
    np.testing.assert_array_equal(here.arrays["image"], there.arrays["image"])
    assert here.split.fingerprint == there.split.fingerprint
