"""What a step costs: measured once, kept, and not run where memory does not hold it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.config import loading, schema
from launch.engine.compiled_steps import StepOutputs
from launch.planning import timing
from tests.launch.planning.small import SEGMENT

MIB = 2**20


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A config, and data whose training step adds 1; it lists the steps that ran."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    ran = []

    def train(state, batch, step):
        ran.append(step)
        return jitted(state, batch, step)

    sums = lambda batch: StepOutputs({"loss": jnp.sum(batch["x"])[None]}, {})
    jitted = jax.jit(lambda state, batch, step: (state + 1, sums(batch)))
    compiled = SimpleNamespace(
        load=lambda state: state,
        put_feed=lambda batch: batch,
        lower_train=jitted.lower,
        train=train,
    )
    feed = iter(lambda: {"x": np.ones(4, np.float32)}, None)
    monkeypatch.setattr(
        timing.experiments, "build", lambda *_, **__: SimpleNamespace(compiled=compiled)
    )
    monkeypatch.setattr(timing.experiments, "initial_state", lambda experiment: jnp.zeros(MIB))
    monkeypatch.setattr(timing.batches, "feed", lambda *_: feed)
    monkeypatch.setattr(timing.batches, "facts", lambda data: {"example": {}})
    config = loading.load(SEGMENT)
    return schema.with_values(config, {"train.steps_per_dispatch": 10}), ran


def test_a_step_is_timed_once_for_the_same_program(made):
    config, ran = made
    first = timing.measure(config, None)
    assert 0 < first.step < 1
    assert ran == [0, 0, 10]  # to warm up, then twice
    assert first.memory > 50 * MIB  # of this process
    assert timing.measure(schema.with_values(config, {"seed": 3}), None) == first
    assert len(ran) == 3
    timing.measure(schema.with_values(config, {"data.batch_size": 2}), None)
    assert len(ran) == 6


def test_a_step_that_memory_does_not_hold_is_not_run_and_not_kept(made):
    config, ran = made
    refused = timing.measure(config, None, limit=10 * MIB)
    assert (refused.step, ran) == (0.0, [])
    assert refused.memory > 10 * MIB
    assert timing.measure(config, None).step > 0
