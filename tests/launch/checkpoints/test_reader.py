import json
import shutil
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from launch import checkpoints
from launch.checkpoints.writer import Writer
from launch.config.errors import UserError
from launch.engine import compiled_steps
from tests.tools import damage_storm


class State(NamedTuple):
    params: dict
    opt_state: tuple


def state_of(value):
    params = {"net": {"kernel": jnp.full((30, 4), float(value)), "bias": jnp.zeros(4)}}
    return State(params, optax.adam(1e-3).init(params))


def template(state):
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), state)


def saved(folder, losses, keep=2, best="", **options):
    writer = Writer(folder, keep, best, **options)
    for step, loss in losses.items():
        metrics = {"loss": loss, "accuracy": -loss} if loss is not None else None
        writer.save(step, state_of(step), {"config": {"seed": 1}}, metrics)
    writer.close()
    return checkpoints.steps(folder)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_latest_steps_are_kept(folder):
    assert saved(folder, {10: 1.0, 20: 2.0, 30: 3.0}) == [20, 30]


@pytest.mark.parametrize("best", ["loss", "-accuracy"])
def test_the_best_is_kept_beside_the_latest_and_across_restarts(folder, best):
    losses = {10: 3.0, 20: 1.0, 30: 2.0, 40: 2.5, 50: 1.5}
    assert saved(folder, losses, best=best) == [20, 40, 50]
    assert saved(folder, {60: 1.2, 70: None, 80: 4.0}, best=best) == [20, 70, 80]
    assert saved(folder, {90: 0.5, 100: 2.0, 110: 3.0}, best=best) == [90, 100, 110]


def test_another_metric_can_become_the_best_one(folder):
    """Checkpoints of before know nothing of it, and are kept by their age alone."""
    writer = Writer(folder, 1, "loss")
    writer.save(10, state_of(10), {}, {"loss": 1.0})
    writer.close()
    writer = Writer(folder, 1, "-score")
    for step, score in {20: 2.0, 30: float("nan"), 40: 1.0}.items():
        writer.save(step, state_of(step), {}, {"loss": 2.0, "score": score})
    writer.close()
    assert checkpoints.steps(folder) == [20, 40]


@pytest.mark.parametrize(
    ("metrics", "best", "wanted"),
    [
        ({"fid": 3.0}, "fid", -3.0),
        ({"fid": 3.0}, "-fid", 3.0),
        ({"fid": 3.0}, "", 0.0),
        ({}, "-fid", -np.inf),
        ({"fid": None}, "fid", -np.inf),
        ({"fid": float("nan")}, "-fid", -np.inf),
    ],
)
def test_what_the_best_has_most_of(metrics, best, wanted):
    assert checkpoints.goodness(metrics, best) == wanted


def test_metrics_are_kept_without_a_best_too(folder):
    saved(folder, {10: 1.0, 20: None})
    assert checkpoints.metrics(folder, 10) == {"loss": 1.0, "accuracy": -1.0}
    assert checkpoints.metrics(folder, 20) is None


def test_a_step_that_breaks_the_rule_does_not_drive_out_one_that_kept_it(folder):
    losses = {10: 5.0, 20: 6.0, 30: 1.0, 40: 9.0}
    sound = lambda metrics: metrics["loss"] >= 2.0
    assert saved(folder, losses, 1, "loss", sound=sound) == [10, 40]


def test_a_best_metric_that_does_not_exist_is_named(folder):
    with pytest.raises(UserError, match="gives no 'miou'; it gives accuracy, loss"):
        saved(folder, {10: 1.0}, best="miou")


def test_what_was_saved_comes_back(folder):
    saved(folder, {10: 1.0, 20: 1.0})
    found = checkpoints.restore(folder, 10, template(state_of(0)))
    assert jax.tree.structure(found) == jax.tree.structure(state_of(0))
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(state_of(10)), strict=True):
        np.testing.assert_array_equal(got, wanted)
    inside = json.loads((folder / "20" / "run" / "metadata").read_text())
    assert inside == {"config": {"seed": 1}}


def test_parameters_alone_can_be_restored(folder):
    saved(folder, {10: 1.0})
    wanted = template(state_of(0)).params
    found = checkpoints.restore_params(folder, 10, wanted)
    np.testing.assert_array_equal(found["net"]["kernel"], state_of(10).params["net"]["kernel"])


def test_another_model_is_refused_by_leaf(folder):
    saved(folder, {10: 1.0})
    other = template(state_of(0))
    wider = jax.ShapeDtypeStruct((30, 5), jnp.float32)
    grown = other._replace(params={"net": other.params["net"] | {"kernel": wider}})
    more = other._replace(params={"net": other.params["net"] | {"scale": wider}})
    with pytest.raises(UserError, match=r"params/net/kernel is \[30, 4\].*has \[30, 5\]"):
        checkpoints.restore(folder, 10, grown)
    with pytest.raises(UserError, match=r"has no params/net/scale"):
        checkpoints.restore_params(folder, 10, more.params)
    with pytest.raises(UserError, match=r"has opt_state/0/count|has opt_state"):
        checkpoints.restore(folder, 10, other._replace(opt_state=()))


def test_damage_to_any_file_is_noticed(folder):
    saved(folder, {10: 1.0, 20: 2.0})
    count = damage_storm.storm(folder, trials=24)
    assert count["noticed_and_named"] == count["touched_data"] > 10


def test_damaged_steps_are_set_aside_and_can_be_saved_again(folder):
    saved(folder, {10: 1.0, 20: 2.0, 30: 3.0}, keep=3)
    for step in (20, 30):
        (folder / str(step) / "state" / "manifest.ocdbt").unlink()
    said = []
    assert checkpoints.newest_whole(folder, said.append, discard=True) == 10
    assert len(said) == 2
    assert "checkpoint 30 is damaged: state/manifest.ocdbt is missing" in said[0]
    assert checkpoints.steps(folder) == [10]
    assert sorted(path.name for path in (folder.parent / "damaged").iterdir()) == ["20", "30"]
    assert saved(folder, {20: 1.0}, keep=3) == [10, 20]


def test_a_run_never_silently_starts_over(folder):
    assert checkpoints.newest_whole(folder) is None
    saved(folder, {10: 1.0, 20: 2.0})
    for step in (10, 20):
        shutil.rmtree(folder / str(step) / "state")
    with pytest.raises(
        UserError, match=r"no whole checkpoint in .*step 20: .* is missing; step 10:"
    ):
        checkpoints.newest_whole(folder, discard=True)
    assert checkpoints.steps(folder) == [10, 20]


def test_half_written_steps_do_not_count(folder):
    saved(folder, {10: 1.0})
    shutil.copytree(folder / "10", folder / "20.orbax-checkpoint-tmp")
    for marker in ("_CHECKPOINT_METADATA", "manifest.json"):
        (folder / "20.orbax-checkpoint-tmp" / marker).unlink()
    assert checkpoints.newest_whole(folder) == 10
    Writer(folder, 2, "").close()
    assert [path.name for path in folder.iterdir()] == ["10"]


def test_a_missing_step_is_named(folder):
    saved(folder, {10: 1.0, 20: 2.0})
    with pytest.raises(UserError, match=r"--step=15: .* has steps \[10, 20\]"):
        checkpoints.check_whole(folder, 15)


def test_a_file_in_place_of_the_folder_is_named(folder):
    folder.write_text("")
    with pytest.raises(UserError, match="is a file"):
        Writer(folder, 2, "")


def test_a_failing_save_is_reported_and_the_last_good_step_named(folder, monkeypatch):
    writer = Writer(folder, 2, "")
    writer.save(10, state_of(1), {}, {})
    writer.wait()

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.manifest, "write", full)
    writer.save(20, state_of(2), {}, {})
    with pytest.raises(
        UserError, match=r"No space left on device; the last good checkpoint is step 10"
    ):
        writer.wait()
    monkeypatch.undo()
    assert checkpoints.newest_whole(folder) == 10


def test_states_are_checked_for_finite_numbers():
    assert compiled_steps.all_finite(state_of(1))
    assert not compiled_steps.all_finite(state_of(np.nan))
    assert compiled_steps.all_finite({"count": jnp.zeros((), int), "key": jax.random.key(0)})


def test_a_disk_without_room_is_noticed_before_anything_is_written(folder, monkeypatch):
    saved(folder, {10: 1.0})
    writer = Writer(folder, 2, "")
    room = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: room)
    with pytest.raises(
        UserError, match=r"No space left on device; the last good checkpoint is step 10"
    ):
        writer.save(20, state_of(2), {}, {})
    assert [path.name for path in folder.iterdir()] == ["10"]
