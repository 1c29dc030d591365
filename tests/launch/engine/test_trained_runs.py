import jax
import numpy as np
import pytest

from launch.checkpoints.writer import CheckpointWriter
from launch.config import run_config, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments, trained_runs


@pytest.fixture(scope="module")
def run(small_config, tmp_path_factory):
    """A run of two steps saved with known parameters, and its experiment."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    data = batches.open_data(small_config.data, "train")
    experiment = experiments.build(small_config, data)
    workdir.mkdir()
    run_config.write(workdir, run_config.to_json(small_config, batches.facts(data)))
    writer = CheckpointWriter(workdir / "checkpoints", 5, "")
    state = experiments.initial_state(experiment)
    for step in (1, 2):
        params = jax.tree.map(lambda leaf, step=step: jax.numpy.full_like(leaf, step), state.params)
        writer.save(step, state._replace(params=params), {}, {})
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
    for source, step in ((str(workdir), 2.0), (f"{workdir}:1", 1.0)):
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


def test_a_copy_of_a_config_has_other_values(small):
    changed = schema.with_values(small, {"mesh.data": 3, "task.new": 1, "seed": 5})
    assert (changed.mesh.data, changed.task.new, changed.seed) == (3, 1, 5)
    assert (small.mesh.data, "new" in small.task, small.seed) == (1, False, 0)
    assert changed.is_locked
