"""The loop with a task that is no model: sums of known numbers, faults on purpose."""

import itertools
import json
import os
import signal
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch import checkpoints
from launch.checkpoints.writer import CheckpointWriter
from launch.config import schema
from launch.config.errors import Diverged, Interrupted
from launch.engine import compiled_steps, loop, preemption
from launch.reporting.metrics_writer import MetricsWriter


class State(NamedTuple):
    params: jax.Array


def make_program(poison_loss_at=None, poison_state_at=None):
    """Adds 1 to its state a step; the loss is the step's number."""

    class Counter:
        score_step = sample = None

        @staticmethod
        def init(rng, batch):
            return State(jnp.zeros(3))

        @staticmethod
        def train_step(state, batch, rng):
            step = state.params[0] + 1
            loss = jnp.where(step == poison_loss_at, jnp.nan, step)
            grown = jnp.where(step == poison_state_at, jnp.nan, state.params + 1)
            return State(grown), {"loss": loss}

        @staticmethod
        def eval_step(state, batch, rng):
            return {"loss": state.params[0]}

        @staticmethod
        def finish(sums):
            return {"loss": float(sums["loss"])}

        @staticmethod
        def figures(state, batch, rng):
            return {}

    config = schema.defaults()
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))
    state = jax.eval_shape(Counter.init, None, None)
    return compiled_steps.compile_task(
        Counter, state, config, mesh, {"learning_rate": lambda step: 0.1}
    )


def run(folder, made, start=0, state=None, steps=12, on_evaluate=lambda step: None):
    journal = MetricsWriter(
        folder, lambda s: {"loss": float(s["loss"])}, steps, 2, start, time.perf_counter()
    )
    writer = CheckpointWriter(folder / "checkpoints", 9, "")
    seen = []

    def evaluate(state, step):
        on_evaluate(step)
        seen.append((step, float(state.params[0])))
        return {"loss": float(state.params[0])}, None

    feed = ({"index": np.arange(2, dtype=np.int32)} for _ in itertools.count())
    plan = loop.Schedule(steps=steps, stride=1, log=2, evaluate=6, save=4)
    state = made.init({"index": np.zeros(2, np.int32)}) if state is None else state
    try:
        loop.train(made, plan, feed, state, start, evaluate, writer, {}, journal)
    finally:
        journal.close()
        writer.close()
    return seen


def test_logs_evaluates_and_saves_when_the_plan_says(tmp_path):
    seen = run(tmp_path, make_program(), steps=14)
    assert seen == [(6, 6.0), (12, 12.0), (14, 14.0)]
    assert checkpoints.steps(tmp_path / "checkpoints") == [4, 8, 12, 14]


@pytest.mark.parametrize("poison", [{"poison_loss_at": 7}, {"poison_state_at": 7}])
def test_what_is_not_finite_stops_the_run_and_is_never_saved(tmp_path, poison):
    with pytest.raises(Diverged, match=r"at step [78]; the last good checkpoint is step 4"):
        run(tmp_path, make_program(**poison))
    assert checkpoints.steps(tmp_path / "checkpoints") == [4]


def test_bad_parameters_at_the_very_step_of_a_save_are_not_saved(tmp_path):
    with pytest.raises(Diverged, match=r"parameters are not finite after step 8.*is step 4"):
        run(tmp_path, make_program(poison_state_at=8))
    assert checkpoints.steps(tmp_path / "checkpoints") == [4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(tmp_path, number):
    before = signal.getsignal(signal.SIGINT)  # ignored, where the suite runs in the background
    interrupt = lambda step: os.kill(os.getpid(), number)
    with pytest.raises(Interrupted, match=rf"{number.name}: saved step 7"):
        run(tmp_path, make_program(), on_evaluate=interrupt)
    assert checkpoints.steps(tmp_path / "checkpoints") == [4, 7]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_leaves_at_once(tmp_path, monkeypatch):
    def leave(code):
        raise SystemExit(code)

    def twice(step):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(preemption.os, "_exit", leave)
    with pytest.raises(SystemExit) as left:
        run(tmp_path, make_program(), on_evaluate=twice)
    assert left.value.code == 130
    assert checkpoints.steps(tmp_path / "checkpoints") == [4]


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    offset, now = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: now() + offset[0])

    def jump(step):
        time.sleep(0.5)  # a save under way would count the day as its own
        offset[0] = {6: 86400.0, 12: -86400.0}[step]

    assert run(tmp_path, make_program(), on_evaluate=jump) == [(6, 6.0), (12, 12.0)]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["images_per_second"] for line in lines if line["split"] == "train"][1:]
    assert all(0 < rate < 1e7 for rate in rates)
    assert checkpoints.newest_whole(tmp_path / "checkpoints") == 12
