import json
import logging
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from launch import distributed
from launch.checkpoints.writer import CheckpointWriter
from launch.config import run_config, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments, trained_runs
from launch.storage import checksums


@pytest.fixture(scope="module")
def run(small_config, tmp_path_factory):
    """A run of two steps saved with known parameters, and its experiment."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    data = batches.open_data(small_config.data, "train")
    experiment = experiments.build(small_config, data)
    workdir.mkdir()
    record = run_config.to_json(small_config, batches.facts(data))
    run_config.write(workdir, record)
    writer = CheckpointWriter(workdir / "checkpoints", 5, "")
    state = experiments.initial_state(experiment)
    for step in (1, 2):
        params = jax.tree.map(lambda leaf, step=step: jax.numpy.full_like(leaf, step), state.params)
        writer.save(step, state._replace(params=params), json.loads(record), {})
    writer.close()
    return workdir, experiment


def values(tree):
    return {float(x) for leaf in jax.tree.leaves(tree) for x in np.unique(leaf)}


def test_the_newest_step_or_the_one_asked_for_is_restored(run):
    workdir, _ = run
    restored = trained_runs.restore(workdir, [], None, None)
    assert (restored.step, values(restored.state.params)) == (2, {2.0})
    assert dict(restored.experiment.mesh.shape) == {"data": 8, "fsdp": 1}  # all that there are
    assert restored.data.split.size == 0  # only the shapes are known
    assert restored.experiment.example["image"].shape == (8, 8, 1)
    restored = trained_runs.restore(workdir, ["--config.mesh.data=1"], 1, "")
    assert (restored.step, values(restored.state.params)) == (1, {1.0})
    assert restored.data.split.size == 359
    assert restored.config.mesh.data == 1


def grey(split):
    return {"image": np.full((8, 8, 8, 1), 128, np.uint8)}


def test_images_that_do_not_suit_the_task_are_refused(run):
    with pytest.raises(UserError, match=r"grey test: .*bernoulli draws each value as black or whi"):
        trained_runs.restore(run[0], [f"--config.data.name={__name__}:grey"], 1, "")


def test_arguments_of_the_task_can_change(run):
    restored = trained_runs.restore(run[0], ["--config.mesh.data=1"], 1, None, {"nll_samples": 3})
    assert restored.config.task.nll_samples == 3


def test_steps_and_runs_that_are_not_there_are_named(run, tmp_path):
    with pytest.raises(UserError, match=r"--step=7: .* has steps \[1, 2\]"):
        trained_runs.restore(run[0], [], 7, None)
    with pytest.raises(UserError, match="no such directory"):
        trained_runs.restore(tmp_path / "none", [], None, None)
    (tmp_path / "config.json").write_bytes((run[0] / "config.json").read_bytes())
    with pytest.raises(UserError, match="has no checkpoint yet; train first"):
        trained_runs.restore(tmp_path, [], None, None)


def test_a_fresh_state_takes_the_parameters_of_another_run(run):
    workdir, experiment = run
    fresh = experiments.initial_state(experiment)
    assert values(fresh.params) != {1.0}
    for source, step in ((str(workdir), 2.0), (f"{workdir}:1", 1.0), (f"{workdir}:newest", 2.0)):
        state = experiments.initial_state(experiment, source)
        assert values(state.params) == {step}
        for one, other in zip(
            jax.tree.leaves(state.opt_state), jax.tree.leaves(fresh.opt_state), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_sources_of_parameters_that_do_not_fit_are_refused(run, tmp_path):
    workdir, experiment = run
    template = experiment.compiled.template
    with pytest.raises(UserError, match=r"config\.init_from: no checkpoints in .*none"):
        trained_runs.with_params_of(str(tmp_path / "none"), None, template)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"config\.init_from: no checkpoints in"):
        trained_runs.with_params_of(str(tmp_path), None, template)
    with pytest.raises(UserError, match="needs a task whose state has a field `params`"):
        trained_runs.with_params_of(str(workdir), None, ())
    with pytest.raises(UserError, match="has steps"):
        trained_runs.with_params_of(f"{workdir}:9", None, template)
    with pytest.raises(UserError, match="--step=best: the config keeps no best"):
        trained_runs.with_params_of(f"{workdir}:best", None, template)


def test_a_copy_of_a_config_has_other_values(small):
    changed = schema.with_values(small, {"mesh.data": 3, "task.new": 1, "seed": 5})
    assert (changed.mesh.data, changed.task.new, changed.seed) == (3, 1, 5)
    assert (small.mesh.data, "new" in small.task, small.seed) == (1, False, 0)
    assert changed.is_locked


@pytest.fixture
def copied(run, tmp_path):
    """A copy of the run, for one test to change."""
    return Path(shutil.copytree(run[0], tmp_path / "copy"))


def remove_when(monkeypatch, moment, folder):
    """Has another process save step 3 and remove step 2 before or after step 2 is read."""
    read = trained_runs.restoring.restore

    def race(place, step, template):
        if step == 3:
            return read(place, step, template)
        shutil.copytree(folder / "1", folder / "3")
        state = read(place, step, template) if moment == "after" else None
        shutil.rmtree(folder / "2")
        return state or read(place, step, template)

    monkeypatch.setattr(trained_runs.restoring, "restore", race)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_newer_step_takes_the_place_of_one_that_is_removed(copied, moment, monkeypatch, capsys):
    remove_when(monkeypatch, moment, copied / "checkpoints")
    restored = trained_runs.restore(copied, [], None, None)
    assert (restored.step, values(restored.state.params)) == (3, {1.0})
    said = capsys.readouterr().err
    assert "the run that trains has removed step 2; taking step 3" in said
    assert "damaged" not in said


def test_a_step_that_was_asked_for_and_is_removed_is_named(copied, monkeypatch):
    remove_when(monkeypatch, "after", copied / "checkpoints")
    message = r"--step=2: the run that trains has removed this step; .* has steps \[1, 3\]"
    with pytest.raises(UserError, match=message):
        trained_runs.restore(copied, [], 2, None)


class Two(distributed.Group):
    """Process 0 of two, which does everything itself."""

    processes = 2


def test_several_processes_do_not_choose_a_step_again(copied, monkeypatch, capsys):
    """Each of them could take another one."""
    restored = trained_runs.restore(copied, [], None, None, group=Two(), local=True)
    assert (restored.step, restored.group.processes) == (2, 2)
    assert "on 8 x cpu (data 8), in each of 2 processes\n" in capsys.readouterr().err
    remove_when(monkeypatch, "before", copied / "checkpoints")
    with pytest.raises(UserError, match=r"the run that trains has removed this step"):
        trained_runs.restore(copied, [], None, None, group=Two(), local=True)


def test_a_config_of_another_run_is_refused(copied, small_config):
    record = json.loads((copied / "config.json").read_text())
    other = schema.with_values(small_config, {"optimizer.learning_rate": 0.5})
    run_config.write(copied, run_config.to_json(other, record["data"]))
    with pytest.raises(UserError, match=r"checkpoints/2 was saved by a run with another config"):
        trained_runs.restore(copied, [], None, None)


def test_links_in_a_run_are_refused(copied, run):
    (copied / "figures").symlink_to(run[0])
    with pytest.raises(UserError, match="figures is a symbolic link"):
        trained_runs.restore(copied, [], None, None)
    with pytest.raises(UserError, match="figures is a symbolic link"):
        trained_runs.with_params_of(str(copied), None, None)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """(step -> loss) -> a folder of checkpoints with these evaluations."""
    monkeypatch.setattr(trained_runs.state_files, "find_unreadable", lambda step: None)

    def save(losses):
        for step, loss in losses.items():
            folder = tmp_path / str(step)
            for item in ("metrics", "run"):
                (folder / item).mkdir(parents=True)
            (folder / "run" / "metadata").write_text("{}")
            values = {} if loss is None else {"loss": loss, "twice": 2 * loss}
            (folder / "metrics" / "metrics").write_text(json.dumps(values))
            checksums.write(folder)
        return tmp_path

    return save


def test_the_best_is_taken_where_the_config_keeps_it(saved):
    folder = saved({1: 5.0, 2: -3.0, 3: 4.0, 4: None, 5: -3.0})
    choose = partial(trained_runs.choose_step, folder)
    assert choose(None, "loss") == (5, "the best by config.checkpoint.best=loss, -3")
    assert choose("best", "-twice") == (1, "the best by config.checkpoint.best=-twice, 10")
    assert choose(None, "") == (5, "the newest (config.checkpoint.best is not set)")
    assert choose("newest", "-loss") == (5, "the newest")
    assert choose(3, "-loss") == (3, "as asked for")
    assert choose("best", "loss", "loss >= 4")[0] == 3


def test_a_best_that_cannot_be_taken(saved, caplog):
    folder = saved({1: 5.0, 2: 3.0, 3: 4.0})
    choose = partial(trained_runs.choose_step, folder)
    with pytest.raises(UserError, match=r"--step=best: the config keeps no best checkpoint"):
        choose("best", "")
    with pytest.raises(UserError, match=r"--step=best: no whole step in .* has the metric 'fid'"):
        choose("best", "fid")
    reason = "the newest, as none has the metric of config.checkpoint.best=fid"
    assert choose(None, "fid") == (3, reason)
    logging.getLogger("segen").propagate = True
    (folder / "2" / "metrics" / "metrics").write_text('{"loss": 1.0}')
    assert choose(None, "loss")[0] == 3
    assert "checkpoint 2, the best, is damaged" in caplog.text
    (folder / "3" / "metrics" / "metrics").write_text('{"lo')
    assert choose("best", "loss")[0] == 1
    with pytest.raises(UserError, match="has no checkpoint yet; train first"):
        trained_runs.choose_step(folder / "none", "best", "loss")


def test_the_step_that_is_taken_is_said(run, caplog):
    logging.getLogger("segen").propagate = True
    caplog.set_level(logging.INFO, "segen")
    trained_runs.restore(run[0], [], "newest", None)
    assert f"step 2 of {run[0]}: the newest" in caplog.text


def test_flags_without_effect_on_a_trained_run_are_refused(run):
    with pytest.raises(UserError, match=r"config\.predict\.overlap=0\.7 has no effect"):
        trained_runs.restore(run[0], ["--config.predict.overlap=0.7"], None, None)
    with pytest.raises(UserError, match=r"--config\.train\.steps has no effect"):
        trained_runs.restore(run[0], ["--config.train.steps=7"], None, None)
