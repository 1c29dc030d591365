"""What a run does about a loss that is not finite: stop, skip, or go back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import vae as vaes
from launch import checkpoints, train
from launch.config import schema
from launch.config.errors import Diverged, UserError
from launch.data import batches, order
from launch.engine import compiled_steps, nonfinite
from tests.tools import runs

SEVENTH = 7


def spiky(poison=(), **kwargs):
    """A VAE whose step gives no finite number where a batch holds all of these examples."""
    task = vaes.vae(**kwargs)

    def train_step(state, batch, rng):
        new, sums = task.train_step(state, batch, rng)
        hit = jnp.all(jnp.isin(jnp.array(poison), batch["index"]))
        spoil = lambda x: jnp.where(hit, jnp.nan, x) if jnp.issubdtype(x.dtype, jnp.inexact) else x
        return new._replace(params=jax.tree.map(spoil, new.params)), jax.tree.map(spoil, sums)

    return task._replace(train_step=train_step)


@pytest.fixture
def config(small):
    """The small run; its seventh batch, and in this order no other, spoils everything."""
    data = batches.open_data(small.data, "train")
    first = order.examples_at(order.train_rows(SEVENTH - 1, 32), small.seed, data.split.size)
    with small.unlocked():
        small.task.update(
            name="tests.launch.engine.test_nonfinite:spiky", poison=tuple(map(int, first[:3]))
        )
    small.train.steps = 20
    small.checkpoint.every = 5
    small.eval.every = 10
    return small


def lines(workdir, split="fault"):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["split"] == split]


def kept_batch(workdir, config, step=SEVENTH):
    """Whether nonfinite/ holds just the batch of this step."""
    (path,) = (workdir / nonfinite.FOLDER).iterdir()
    assert path.name == f"step-{step:08d}.npz"
    data = batches.open_data(config.data, "train")
    with np.load(path) as kept:
        np.testing.assert_array_equal(
            kept["index"],
            order.examples_at(order.train_rows(step - 1, 32), config.seed, data.split.size),
        )
        np.testing.assert_array_equal(kept["image"], data.arrays["image"][kept["index"]])


def test_a_run_stops_at_the_last_good_checkpoint_and_keeps_the_batch(config, tmp_path):
    with pytest.raises(Diverged, match=r"not finite at step 7; the last good checkpoint is step 5"):
        train.train(config, tmp_path)
    assert checkpoints.steps(tmp_path / "checkpoints") == [5]
    kept_batch(tmp_path, config)


@pytest.mark.parametrize(
    "layout",
    [
        {"mesh.data": 1},
        {"mesh.data": 1, "data.resident": True, "train.steps_per_dispatch": 5},
        {"mesh.data": 2, "mesh.fsdp": 2},
    ],
    ids=str,
)
def test_a_batch_is_left_out_as_if_it_had_not_been(config, tmp_path, layout):
    config.update_from_flattened_dict(layout)
    config.nonfinite.action = "skip"
    train.train(config, tmp_path)
    assert lines(tmp_path) == [{"step": SEVENTH, "split": "fault", "skipped": 1}]
    kept_batch(tmp_path, config)
    assert all(np.isfinite(line["loss"]) for line in lines(tmp_path, "train"))
    assert "skipped" not in lines(tmp_path, "train")[0]
    # The optimiser has counted one update fewer.
    state = checkpoints.record(tmp_path / "checkpoints", 20)
    assert state["rollbacks"] == 0
    counts = counted(tmp_path, 20)
    assert set(counts) == {19}


def counted(workdir, step):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore(workdir / "checkpoints" / str(step) / "state")
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [int(leaf) for path, leaf in leaves if "count" in jax.tree_util.keystr(path)]


def test_under_pmap_all_devices_leave_a_batch_out(config, tmp_path):
    config.task.poison = config.task.poison[:1]  # on one device's rows alone
    config.update_from_flattened_dict({"mesh.data": 4, "parallel": "pmap"})
    config.nonfinite.action = "skip"
    train.train(config, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [SEVENTH]
    assert np.isfinite(lines(tmp_path, "test")[-1]["loss"])


def test_skipping_survives_a_stop_to_the_bit(config, tmp_path):
    config.nonfinite.action = "skip"
    train.train(config, tmp_path / "straight")
    config.train.steps = 10
    train.train(config, tmp_path / "stopped")
    config.train.steps = 20
    train.train(config, tmp_path / "stopped")
    assert lines(tmp_path / "straight") == lines(tmp_path / "stopped")
    ends = {runs.state_hash(tmp_path / name, 20) for name in ("straight", "stopped")}
    assert len(ends) == 1


def test_more_skips_than_allowed_stop_the_run(config, tmp_path):
    config.task.poison = ()  # every batch
    config.nonfinite.update(action="skip", times=2)
    with pytest.raises(Diverged, match="after 2 batches were left out"):
        train.train(config, tmp_path)
    assert len(list((tmp_path / nonfinite.FOLDER).iterdir())) == 3


def test_going_back_takes_another_order_of_the_data(config, tmp_path):
    config.nonfinite.action = "rollback"
    train.train(config, tmp_path / "straight")
    kept_batch(tmp_path / "straight", config)
    folder = tmp_path / "straight" / "checkpoints"
    assert checkpoints.steps(folder) == [15, 20]
    assert checkpoints.record(folder, 20)["rollbacks"] == 1
    # Stopped after it went back, and gone on with: the same.
    config.train.steps = 10
    train.train(config, tmp_path / "stopped")
    config.train.steps = 20
    train.train(config, tmp_path / "stopped")
    ends = {runs.state_hash(tmp_path / name, 20) for name in ("straight", "stopped")}
    assert len(ends) == 1


def test_a_run_that_always_fails_goes_back_so_often_and_stops(config, tmp_path):
    config.task.poison = ()
    config.nonfinite.update(action="rollback", times=2)
    with pytest.raises(Diverged, match="nothing was saved yet"):
        train.train(config, tmp_path)
    assert len(list((tmp_path / nonfinite.FOLDER).iterdir())) == 1  # step 1 each time


def test_skipping_is_compiled_only_where_it_is_wanted(config, small_config):
    assert config.nonfinite.action == "stop"
    one = lambda state, batch, step: (state + batch, {"loss": batch}, {"rate": jnp.ones(1)})
    skip = lambda batch: compiled_steps.skip_not_finite(one, None, jnp.float32(2.0), batch, 0)
    state, sums, rates = skip(jnp.float32(1.0))
    assert (float(state), float(sums["loss"]), float(rates["skipped"][0])) == (3.0, 1.0, 0.0)
    state, sums, rates = skip(jnp.float32(jnp.inf))
    assert (float(state), float(sums["loss"]), float(rates["skipped"][0])) == (2.0, 0.0, 1.0)


def test_unknown_policies_are_refused(small):
    small.nonfinite.action = "ignore"
    with pytest.raises(UserError, match="stop, skip or rollback, got 'ignore'"):
        schema.check_values(small)
