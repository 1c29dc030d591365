"""Recovery: a model that collapses at a known step, and losses that are not finite."""

from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxgen import vae as vaes
from launch import checkpoints
from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config.errors import Collapsed, Diverged, UserError
from launch.data import batches, order
from launch.engine import recovery, training
from launch.engine.loop import Schedule, run_loop
from launch.engine.pending import Speed
from launch.reporting import metrics_file
from launch.reporting.metrics_writer import MetricsWriter
from launch.reporting.sinks import JsonlSink
from tests.launch.engine.small import experiment_of
from tests.tools import runs


class State(NamedTuple):
    params: jax.Array


class Collapsing:
    """Adds 1 a step. The quality is the state; it is 0 from 7 on."""

    def init(self, rng, batch):
        return State(jnp.zeros(3))

    def train_step(self, state, batch, rng):
        return State(state.params + 1), {"loss": state.params[0]}

    def eval_step(self, state, batch, rng):
        value = state.params[0]
        return {"quality": jnp.where(value < 7, value, 0.0)}

    def finish(self, sums):
        return {name: float(value) for name, value in sums.items()} | {"loss": 0.0}

    def figures(self, state, batch, rng):
        return {}


def halve(state):
    return State(state.params / 2)


def train(folder, start=0, steps=14, recover=halve, best="-quality", **settings):
    """Trains `Collapsing`; returns the last state and the lines that tell of a rollback."""
    section = ConfigDict({"rule": "quality >= 1", "action": "rollback", "after": 0, "times": 3})
    section.update(settings)
    task = Collapsing()
    experiment, place = experiment_of(task), folder / "checkpoints"
    made = experiment.compiled
    metrics = MetricsWriter([JsonlSink(folder, start)])
    writer = CheckpointWriter(place, 2, best)
    counters = Counter(checkpoints.record(place, start).get("recovery", {}))
    check = recovery.CollapseCheck(
        section,
        best=best,
        template=made.template,
        recover=recover,
        counters=counters,
        checkpoint_writer=writer,
        metrics=metrics,
    )
    report = lambda state: task.finish(jax.device_get(made.eval_step(state, {})))

    def evaluate(state, step):
        values = report(state)
        other = check(values, step)
        return (values, None) if other is None else (report(other), other)

    state = restoring.restore(place, start, made.template) if start else None
    try:
        run_loop(
            experiment,
            made.init({"index": np.zeros(2, np.int32)}) if state is None else state,
            start,
            schedule=Schedule(steps=steps, steps_per_dispatch=1, log=2, evaluate=2, save=2),
            feed=({"index": np.arange(2, dtype=np.int32)} for _ in range(99)),
            evaluate=evaluate,
            checkpoint_writer=writer,
            record=lambda: {"recovery": dict(counters)},
            metrics=metrics,
            speed=Speed(2),
        )
    finally:
        metrics.close()
        writer.close()
    last = restoring.restore(place, steps, made.template)
    lines = metrics_file.read(folder / "metrics.jsonl").lines
    return float(last.params[0]), [line for line in lines if "rollback_to" in line]


def test_goes_back_to_the_best_and_on_with_the_steps_of_now(tmp_path):
    value, notes = train(tmp_path, steps=12)
    # 2, 4, 6, then 8 is broken: back to 6, halved to 3 at step 8; 5 at 10; 7 is broken at
    # 12: back to the best, 6 of step 6, halved to 3.
    assert [(line["step"], line["rollback_to"]) for line in notes] == [(8, 6), (12, 6)]
    assert value == 3
    assert checkpoints.metrics(tmp_path / "checkpoints", 12)["quality"] == 3
    assert checkpoints.record(tmp_path / "checkpoints", 12)["recovery"] == {"collapses": 2}


def test_a_run_that_resumes_after_going_back_ends_alike(tmp_path):
    straight, notes = train(tmp_path / "straight", steps=14)
    first, _ = train(tmp_path / "parts", steps=8)
    assert first == 3
    # metrics.jsonl is output: without it the run still knows how often it went back.
    (tmp_path / "parts" / "metrics.jsonl").unlink()
    resumed, again = train(tmp_path / "parts", start=8, steps=14)
    assert resumed == straight
    assert again == [note for note in notes if note["step"] > 8]
    with pytest.raises(Collapsed, match="it went back 2 times already"):
        train(tmp_path / "parts", start=14, steps=22, times=2)


def test_without_the_tasks_own_recovery_the_checkpoint_itself_goes_on(tmp_path):
    assert train(tmp_path, steps=8, recover=None)[0] == 6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"times": 1}, "it went back 1 times already"),
        ({"action": "stop"}, "step 6 passed"),
    ],
)
def test_stops_where_it_is_told_to(tmp_path, settings, words):
    with pytest.raises(Collapsed, match=words) as caught:
        train(tmp_path, steps=14, **settings)
    assert "quality 0" in str(caught.value)
    assert caught.value.exit_code == 4
    # What was good is still there.
    assert checkpoints.metrics(tmp_path / "checkpoints", 6)["quality"] == 6


def test_without_a_best_the_newest_that_kept_the_rule_is_named(tmp_path):
    with pytest.raises(Collapsed, match="step 6 passed"):
        train(tmp_path, best="", action="stop")


def test_checkpoints_of_before_the_rule_did_not_pass(tmp_path):
    train(tmp_path, steps=4)
    folder = tmp_path / "checkpoints"
    assert recovery.best_step(folder, "fid <= 30", "fid") is None
    assert recovery.best_step(folder, "quality >= 1", "fid") == 4


def test_nothing_is_checked_before_the_step_after(tmp_path):
    assert train(tmp_path, steps=10, after=11) == (10, [])


def test_rules():
    bounds = recovery.parse_rule("quality >= 0.5 and fid <= 30")
    assert bounds == (
        recovery.Bound("quality", True, 0.5),
        recovery.Bound("fid", False, 30.0),
    )
    assert [bounds[0].passes({"quality": value}) for value in (0.4, 0.5, 0.6)] == [0, 1, 1]
    assert [bounds[1].passes({"fid": value}) for value in (29.0, 30.0, 31.0)] == [1, 1, 0]
    assert not bounds[1].passes({"fid": float("nan")})
    assert not bounds[1].passes({"fid": None})
    assert recovery.parse_rule("") == ()
    assert recovery.passes_rule("quality >= 1", {"quality": 1.0})
    assert not recovery.passes_rule("quality >= 1 and fid <= 3", {"quality": 1.0, "fid": 4.0})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("quality > 1", "METRIC >= NUMBER"),
        ("quality >= high", "METRIC >= NUMBER"),
        ("sharpness >= 1", "gives no 'sharpness'; it gives loss, quality"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(rule, words):
    with pytest.raises(UserError, match=words):
        recovery.check_rule(rule, {"loss", "quality"})


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
            name="tests.launch.engine.test_recovery:spiky", poison=tuple(map(int, first[:3]))
        )
    small.train.steps = 20
    small.checkpoint.every = 5
    small.eval.every = 10
    return small


def lines(workdir, split="nonfinite"):
    found = metrics_file.read(workdir / "metrics.jsonl").lines
    return [line for line in found if line["split"] == split]


def kept_batch(workdir, config, step=SEVENTH):
    """Whether nonfinite/ holds just the batch of this step."""
    (path,) = (workdir / recovery.FOLDER).iterdir()
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
        training.train(config, tmp_path)
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
def test_a_batch_is_skipped_as_if_it_had_not_been(config, tmp_path, layout):
    config.update_from_flattened_dict(layout)
    config.nonfinite.action = "skip"
    training.train(config, tmp_path)
    assert lines(tmp_path) == [{"step": SEVENTH, "split": "nonfinite", "skipped": 1}]
    kept_batch(tmp_path, config)
    assert all(np.isfinite(line["loss"]) for line in lines(tmp_path, "train"))
    assert "skipped" not in lines(tmp_path, "train")[0]
    # The optimiser has counted one update fewer.
    record = checkpoints.record(tmp_path / "checkpoints", 20)
    assert record["recovery"] == {"skipped": 1}
    counts = counted(tmp_path, 20)
    assert set(counts) == {19}


def counted(workdir, step):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore(workdir / "checkpoints" / str(step) / "state")
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [int(leaf) for path, leaf in leaves if "count" in jax.tree_util.keystr(path)]


def test_under_pmap_all_devices_skip_a_batch(config, tmp_path):
    config.task.poison = config.task.poison[:1]  # on one device's rows alone
    config.update_from_flattened_dict({"mesh.data": 4, "parallel": "pmap"})
    config.nonfinite.action = "skip"
    training.train(config, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [SEVENTH]
    assert np.isfinite(lines(tmp_path, "test")[-1]["loss"])


def test_skipping_survives_a_stop_to_the_bit(config, tmp_path):
    config.nonfinite.action = "skip"
    training.train(config, tmp_path / "straight")
    config.train.steps = 10
    training.train(config, tmp_path / "stopped")
    config.train.steps = 20
    assert checkpoints.record(tmp_path / "stopped" / "checkpoints", 10)["recovery"]["skipped"] == 1
    training.train(config, tmp_path / "stopped")
    assert lines(tmp_path / "straight") == lines(tmp_path / "stopped")
    ends = {runs.state_hash(tmp_path / name, 20) for name in ("straight", "stopped")}
    assert len(ends) == 1


def test_more_skips_than_allowed_stop_the_run(config, tmp_path):
    config.task.poison = ()  # every batch
    config.nonfinite.update(action="skip", times=2)
    with pytest.raises(Diverged, match="after 2 batches were skipped"):
        training.train(config, tmp_path)
    assert len(list((tmp_path / recovery.FOLDER).iterdir())) == 3


def test_going_back_takes_another_order_of_the_data(config, tmp_path):
    config.nonfinite.action = "rollback"
    training.train(config, tmp_path / "straight")
    kept_batch(tmp_path / "straight", config)
    folder = tmp_path / "straight" / "checkpoints"
    assert checkpoints.steps(folder) == [15, 20]
    assert checkpoints.record(folder, 20)["recovery"] == {"rollbacks": 1}
    # Stopped after it went back, and gone on with: the same.
    config.train.steps = 10
    training.train(config, tmp_path / "stopped")
    config.train.steps = 20
    training.train(config, tmp_path / "stopped")
    ends = {runs.state_hash(tmp_path / name, 20) for name in ("straight", "stopped")}
    assert len(ends) == 1


def test_a_run_that_always_fails_goes_back_so_often_and_stops(config, tmp_path):
    config.task.poison = ()
    config.nonfinite.update(action="rollback", times=2)
    with pytest.raises(Diverged, match="nothing was saved yet"):
        training.train(config, tmp_path)
    assert len(list((tmp_path / recovery.FOLDER).iterdir())) == 1  # step 1 each time
