"""A model that collapses at a known step, and what the guard makes of it."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch import checkpoints
from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config import schema
from launch.config.errors import Collapsed, UserError
from launch.engine import collapse, compiled_steps, loop
from launch.reporting.metrics_writer import MetricsWriter


class State(NamedTuple):
    params: jax.Array


class Collapsing:
    """Adds 1 a step; the quality is what it adds up to, and nothing from 7 on."""

    score_step = sample = None

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
    config = schema.defaults()
    config.checkpoint.best = best
    config.collapse.update({"rule": "quality >= 1", "action": "rollback"} | settings)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))
    task = Collapsing()
    made = compiled_steps.compile_task(
        task, jax.eval_shape(task.init, None, None), config, mesh, {}
    )
    journal = MetricsWriter(folder, task.finish, steps, 2, start, 0.0)
    writer = CheckpointWriter(folder / "checkpoints", 2, best)
    judge = collapse.make_collapse_check(
        config, recover, made.template, folder / "checkpoints", folder, writer, journal.note
    )

    def report(state, step):
        return task.finish(jax.device_get(made.eval_step(state, {})))

    def evaluate(state, step):
        metrics = report(state, step)
        other = judge(metrics, step)
        return (metrics, None) if other is None else (report(other, step), other)

    feed = ({"index": np.arange(2, dtype=np.int32)} for _ in range(99))
    state = restoring.restore(folder / "checkpoints", start, made.template) if start else None
    state = made.init({"index": np.zeros(2, np.int32)}) if state is None else state
    plan = loop.Schedule(steps=steps, stride=1, log=2, evaluate=2, save=2)
    try:
        loop.train(made, plan, feed, state, start, evaluate, writer, {}, journal)
    finally:
        journal.close()
        writer.close()
    last = restoring.restore(folder / "checkpoints", steps, made.template)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return float(last.params[0]), [line for line in lines if "rollback_to" in line]


def test_goes_back_to_the_best_and_on_with_the_steps_of_now(tmp_path):
    value, notes = train(tmp_path, steps=12)
    # 2, 4, 6, then 8 is broken: back to 6, halved to 3 at step 8; 5 at 10; 7 is broken at
    # 12: back to the best, 6 of step 6, halved to 3.
    assert [(line["step"], line["rollback_to"]) for line in notes] == [(8, 6), (12, 6)]
    assert value == 3
    assert checkpoints.metrics(tmp_path / "checkpoints", 12)["quality"] == 3


def test_a_run_that_resumes_after_going_back_ends_alike(tmp_path):
    straight, notes = train(tmp_path / "straight", steps=14)
    first, _ = train(tmp_path / "parts", steps=8)
    assert first == 3
    resumed, again = train(tmp_path / "parts", start=8, steps=14)
    assert resumed == straight
    assert again == notes


def test_without_the_tasks_own_recovery_the_checkpoint_itself_goes_on(tmp_path):
    assert train(tmp_path, steps=8, recover=None)[0] == 6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"times": 1}, "it went back 1 times already"),
        ({"action": "stop"}, "step 6 kept it"),
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
    with pytest.raises(Collapsed, match="step 6 kept it"):
        train(tmp_path, best="", action="stop")


def test_checkpoints_of_before_the_rule_did_not_keep_it(tmp_path):
    train(tmp_path, steps=4)
    folder = tmp_path / "checkpoints"
    assert collapse.best_step(folder, collapse.parse("fid <= 30"), "fid") is None
    assert collapse.best_step(folder, collapse.parse("quality >= 1"), "fid") == 4


def test_nothing_is_judged_before_its_time(tmp_path):
    assert train(tmp_path, steps=10, after=11) == (10, [])


def test_rules():
    bounds = collapse.parse("quality >= 0.5 and fid <= 30")
    assert bounds == (collapse.Bound("quality", True, 0.5), collapse.Bound("fid", False, 30.0))
    assert bounds[1].kept({"fid": 30.0})
    assert not bounds[1].kept({"fid": float("nan")})
    assert not bounds[1].kept({"fid": None})
    assert collapse.parse("") == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "quality > 1"}, "METRIC >= NUMBER"),
        ({"rule": "quality >= high"}, "METRIC >= NUMBER"),
        ({"rule": "sharpness >= 1"}, "gives no 'sharpness'; it gives loss, quality"),
        ({"rule": "quality >= 1", "action": "restart"}, "stop or rollback"),
        ({"rule": "quality >= 1", "action": "rollback"}, "config.checkpoint.best"),
    ],
)
def test_a_guard_that_cannot_work_is_refused(settings, words):
    config = schema.defaults()
    config.collapse.update(settings)
    with pytest.raises(UserError, match=words):
        collapse.check(config, {"loss", "quality"})
