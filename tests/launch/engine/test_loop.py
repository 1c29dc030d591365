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
from launch.config.errors import Diverged, Interrupted
from launch.engine import preemption
from launch.engine.loop import Schedule, run_loop
from launch.engine.pending import Speed
from launch.reporting import metrics_file
from launch.reporting.metrics_writer import MetricsWriter
from launch.reporting.sinks import JsonlSink
from tests.launch.engine.small import experiment_of


class State(NamedTuple):
    params: jax.Array


def make_program(poison_loss_at=None, poison_state_at=None):
    """Adds 1 to its state a step; the loss is the step's number."""

    class Counter:
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

    return experiment_of(Counter, {"learning_rate": lambda step: 0.1})


def run(folder, made, start=0, state=None, steps=12, on_evaluate=lambda step: None):
    metrics = MetricsWriter([JsonlSink(folder, start)])
    writer = CheckpointWriter(folder / "checkpoints", 9, "")
    seen = []

    def evaluate(state, step):
        on_evaluate(step)
        seen.append((step, float(state.params[0])))
        return {"loss": float(state.params[0])}, None

    try:
        run_loop(
            made,
            made.compiled.init({"index": np.zeros(2, np.int32)}) if state is None else state,
            start,
            schedule=Schedule(steps=steps, steps_per_dispatch=1, log=2, evaluate=6, save=4),
            feed=({"index": np.arange(2, dtype=np.int32)} for _ in itertools.count()),
            evaluate=evaluate,
            checkpoint_writer=writer,
            record=lambda: {"steps": len(seen)},
            metrics=metrics,
            speed=Speed(batch_size=2),
        )
    finally:
        metrics.close()
        writer.close()
    return seen


def test_logs_evaluates_and_saves_as_scheduled(tmp_path):
    seen = run(tmp_path, make_program(), steps=14)
    assert seen == [(6, 6.0), (12, 12.0), (14, 14.0)]
    folder = tmp_path / "checkpoints"
    assert checkpoints.steps(folder) == [4, 8, 12, 14]
    assert [checkpoints.record(folder, step)["steps"] for step in (4, 8, 14)] == [0, 1, 3]
    assert checkpoints.metrics(folder, 12) == {"loss": 12.0}
    assert checkpoints.metrics(folder, 8) is None
    lines = metrics_file.read(tmp_path / "metrics.jsonl").lines
    # Two steps a line; a line ends at each save too.
    assert [(line["step"], line["loss"]) for line in lines] == [
        (step, 2.0 * step - 1.0) for step in range(2, 15, 2)
    ]


@pytest.mark.parametrize("poison", [{"poison_loss_at": 7}, {"poison_state_at": 7}])
def test_what_is_not_finite_stops_the_run_and_is_never_saved(tmp_path, poison):
    with pytest.raises(Diverged, match=r"at step [78]$"):
        run(tmp_path, make_program(**poison))
    assert checkpoints.steps(tmp_path / "checkpoints") == [4]


def test_bad_parameters_at_the_very_step_of_a_save_are_not_saved(tmp_path):
    with pytest.raises(Diverged, match=r"parameters are not finite after step 8"):
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
