import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from launch import checkpoints
from launch.config import run_config, schema
from launch.config.errors import Diverged, UserError
from launch.engine import experiments, training
from launch.engine.evaluation import Monitor
from launch.reporting import metrics_file
from tests.tools import runs


@pytest.fixture(scope="module")
def run(small_config, tmp_path_factory):
    """The small run, trained to its 40 steps by one process."""
    workdir = tmp_path_factory.mktemp("training") / "run"
    training.train(small_config, workdir)
    return workdir


def test_a_run_leaves_what_the_readme_says(run, small_config):
    names = {path.name for path in run.iterdir()} - {".lock"}
    assert names == {"config.json", "metrics.jsonl", "checkpoints", "figures", "tensorboard"}
    assert checkpoints.steps(run / "checkpoints") == [30, 40]
    figures = {path.name for path in (run / "figures").iterdir()}
    assert {"samples-00000020.png", "samples-00000040.png", "samples.webp", "curves.png"} < figures
    lines = metrics_file.read(run / "metrics.jsonl").lines
    assert [line["step"] for line in lines if line["split"] == "train"] == list(range(5, 41, 5))
    assert [line["step"] for line in lines if line["split"] == "test"] == [20, 40]
    assert {"loss", "learning_rate", "images_per_second", "data_wait"} < lines[0].keys()
    record = checkpoints.record(run / "checkpoints", 40)
    assert record["config"] == json.loads(json.dumps(small_config.to_dict()))
    assert record["recovery"] == {}


def test_a_run_in_two_parts_ends_with_the_same_bits(run, small_config, tmp_path, capsys):
    first = schema.with_values(small_config, {"train.steps": 20})
    training.train(first, tmp_path / "run")
    capsys.readouterr()
    training.train(small_config, tmp_path / "run")
    said = capsys.readouterr().err
    assert f"going on from step 20 of {tmp_path / 'run' / 'checkpoints'}" in said
    assert "first step after" in said
    assert runs.state_hash(tmp_path / "run", 40) == runs.state_hash(run, 40)
    clock = ("images_per_second", "data_wait")
    parts = [
        [
            {key: value for key, value in line.items() if key not in clock}
            for line in metrics_file.read(folder / "metrics.jsonl").lines
        ]
        for folder in (run, tmp_path / "run")
    ]
    assert parts[0] == parts[1]


def test_a_run_that_is_done_stays_as_it_is(run, small_config, capsys):
    before = (run / "metrics.jsonl").read_bytes()
    training.train(small_config, run)
    assert f"{run} is done: step 40 of 40" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": 7}, "seed: 0 -> 7"),
        ({"optimizer.learning_rate": 0.5}, "optimizer.learning_rate: 0.001 -> 0.5"),
        (
            {"train.steps": 90, "train.steps_per_dispatch": 30, "data.resident": True},
            "stands at step 40, which is not a multiple of",
        ),
    ],
)
def test_another_config_does_not_continue_a_run(run, small_config, values, words):
    with pytest.raises(UserError, match=words):
        training.train(schema.with_values(small_config, values), run)


def test_checkpoints_without_a_config_are_not_continued(small, tmp_path):
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has checkpoints but no config.json, and no whole copy"):
        training.train(small, tmp_path)


@pytest.fixture
def copied(run, tmp_path):
    """A copy of the run, for one test to damage."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_config_that_is_gone_is_written_again_from_the_newest_step(copied, small_config, capsys):
    before = json.loads((copied / "config.json").read_text())
    (copied / "config.json").unlink()
    with pytest.raises(UserError, match=r"seed: 0 -> 7"):
        training.train(schema.with_values(small_config, {"seed": 7}), copied)
    training.train(schema.with_values(small_config, {"train.steps": 45}), copied)
    assert f"it is written again from {copied}/checkpoints/40/run" in capsys.readouterr().err
    after = json.loads((copied / "config.json").read_text())
    assert after["config"].pop("train")["steps"] == 45
    before["config"].pop("train")
    assert after["config"] == before["config"]


def test_the_steps_of_another_run_are_not_continued(copied, small_config):
    other = schema.with_values(small_config, {"seed": 7})
    record = json.loads((copied / "config.json").read_text())
    run_config.write(copied, run_config.to_json(other, record["data"]))
    with pytest.raises(UserError, match=r"40 was saved by a run with another.*\n  seed: 0 -> 7"):
        training.train(schema.with_values(other, {"train.steps": 45}), copied)


def test_lines_of_metrics_that_have_changed_are_named_and_never_lost(copied, small_config, capsys):
    path = copied / "metrics.jsonl"
    whole = path.read_bytes()
    damaged = whole.replace(b'"step": 10', b'"step": 90', 1).replace(b"{", b"\xff", 1)
    path.write_bytes(damaged)
    training.train(schema.with_values(small_config, {"train.steps": 45}), copied)
    said = capsys.readouterr().err
    kept = copied / "damaged" / "metrics.jsonl"
    assert f"line 1 of {path} cannot be read; the run goes on" in said
    assert f"a copy of the file is {kept}" in said
    assert kept.read_bytes() == damaged
    assert path.read_bytes().startswith(damaged.split(b"\n")[0] + b"\n")
    path.write_bytes(whole)
    training.train(schema.with_values(small_config, {"train.steps": 50}), copied)
    assert f"{path}: one of the first " in capsys.readouterr().err
    assert kept.with_name("metrics.jsonl+").read_bytes() == whole
    path.unlink()
    training.train(schema.with_values(small_config, {"train.steps": 55}), copied)
    assert (
        f"{path} is missing; the run goes on, and its state is whole\n" in capsys.readouterr().err
    )


def test_runs_of_another_version_are_refused(run, tmp_path):
    record = json.loads((run / "config.json").read_text())
    del record["format"], record["sha256"]  # as in runs of that version
    record["versions"]["segen"] = "0.1.0"
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"was written by Segen 0\.1\.0, whose runs"):
        run_config.read_config(tmp_path)


@pytest.mark.parametrize(("action", "times"), [("rollback", 2), ("stop", 2), ("rollback", 0)])
def test_a_run_goes_back_as_often_as_it_may(action, times, small, tmp_path, monkeypatch, capsys):
    small.nonfinite.update(action=action, times=times)
    attempts = []

    def diverge(config, experiment, data, held_out, start, counters, **rest):
        attempts.append((start, counters["rollbacks"]))
        raise Diverged("the loss is not finite", 3)

    monkeypatch.setattr(training, "train_attempt", diverge)
    with pytest.raises(Diverged):
        training.train(small, tmp_path)
    allowed = times if action == "rollback" else 0
    assert attempts == [(0, turn) for turn in range(allowed + 1)]
    said = [f"going back to step 0, and on in order {n + 1} of the data" for n in range(allowed)]
    assert [line for line in capsys.readouterr().err.splitlines() if "going" in line] == said


def grey(split):
    return {"image": np.full((8, 8, 8, 1), 128, np.uint8)}


def test_images_that_do_not_suit_the_task_are_refused_before_anything_is_built(
    small, tmp_path, monkeypatch
):
    monkeypatch.setattr(experiments, "build", None)
    small.data.name = f"{__name__}:grey"
    with pytest.raises(UserError, match=r"grey train: .*bernoulli draws each value as black or wh"):
        training.train(small, tmp_path)


@pytest.mark.parametrize(("key", "value"), [("score.samples", 100), ("encoder.weights", "a.npz")])
def test_what_the_command_alone_does_is_refused(small, tmp_path, key, value):
    config = schema.with_values(small, {key: value})
    with pytest.raises(UserError, match=rf"config\.{key} is for launch\.train alone"):
        training.train(config, tmp_path)


def test_scores_of_a_command_join_every_evaluation(small, tmp_path):
    small.train.steps, small.eval.every = 10, 5
    made = []

    def make_monitor(experiment, held_out, *, classes):
        made.append((experiment.task.sample is not None, held_out.split.size, classes))
        return Monitor(frozenset({"fid"}), lambda state: {"fid": 3.0})

    small.collapse.rule = "fid <= 5"  # a rule may ask for what the command adds
    training.train(small, tmp_path, make_monitor=make_monitor)
    assert made == [(True, 359, 0)]
    lines = metrics_file.read(tmp_path / "metrics.jsonl").lines
    assert [line["fid"] for line in lines if line["split"] == "test"] == [3.0, 3.0]


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_workdir_that_is_taken_away_ends_the_run_in_one_message(small, tmp_path, how):
    workdir = tmp_path / "run"

    def take_away(state):
        for _ in range(1000):  # until step 10 is saved
            if (workdir / "checkpoints" / "10").is_dir():
                break
            time.sleep(0.01)
        workdir.rename(tmp_path / "other")
        if how == "removed":
            shutil.rmtree(tmp_path / "other")
        return {}

    monitor = lambda *arguments, **options: Monitor(scores=take_away)
    with pytest.raises(UserError, match=f"{workdir} was removed or renamed"):
        training.train(small, workdir, make_monitor=monitor)
    assert not workdir.exists()  # and nothing was written where it had been
    if how == "renamed":  # what was saved goes on there
        found = checkpoints.newest_whole(tmp_path / "other" / "checkpoints")
        assert found == 10


def test_a_mistaken_source_of_parameters_leaves_no_run_behind(small_config, tmp_path):
    wrong = schema.with_values(small_config, {"init_from": str(tmp_path / "typo")})
    with pytest.raises(UserError, match=r"config\.init_from: no checkpoints in .*typo"):
        training.train(wrong, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
