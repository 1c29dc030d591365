import time

import jax.numpy as jnp
import numpy as np
import pytest

from launch.config.errors import Diverged
from launch.engine import pending
from launch.engine.compiled_steps import StepOutputs


def outputs(losses, skipped=None):
    losses = jnp.asarray(losses, jnp.float32)
    flags = None if skipped is None else jnp.asarray(skipped, jnp.float32)
    return StepOutputs({"loss": losses, "count": jnp.ones_like(losses)}, {"rate": losses}, flags)


def test_a_window_is_the_sum_of_its_steps():
    steps, windows = pending.PendingSteps(), []
    for step in range(1, 7):
        steps.add(step, outputs([step]))
        if step % 3 == 0:
            windows += steps.close_window()
    windows += steps.drain()
    assert [(w.step, w.sums["loss"], w.sums["count"]) for w in windows] == [(3, 6, 3), (6, 15, 3)]
    assert windows[1].learning_rates == {"rate": 6.0}
    assert windows[0].sums["loss"].dtype == np.float64
    assert list(steps.drain()) == []


def test_dispatches_of_many_steps_count_each():
    steps = pending.PendingSteps()
    steps.add(3, outputs([1, 2, 3]))
    steps.add(6, outputs([4, 5, 6]))
    (window,) = steps.drain()
    assert (window.step, window.sums["loss"], window.learning_rates["rate"]) == (6, 21, 6)


def test_the_first_step_that_is_not_finite_is_named():
    steps = pending.PendingSteps()
    steps.add(4, outputs([1, 2, 3, 4]))
    steps.add(8, outputs([5, 6, np.inf, np.nan]))
    with pytest.raises(Diverged, match="not finite at step 7") as caught:
        list(steps.drain())
    assert caught.value.step == 7


def test_skipped_steps_are_named_and_windows_of_them_alone_have_no_sums():
    steps = pending.PendingSteps()
    steps.add(3, outputs([1, 0, 3], skipped=[0, 1, 0]))
    steps.add(6, outputs([0, 5, 6], skipped=[1, 0, 0]))
    (window,) = steps.drain()
    assert (window.skipped, window.sums["loss"]) == ([2, 4], 15)
    steps.add(8, outputs([0, 0], skipped=[1, 1]))
    (window,) = steps.drain()
    assert (window.skipped, window.sums) == ([7, 8], None)


def test_the_metrics_of_a_window():
    finish = lambda sums: {"loss": np.float64(sums["loss"] / sums["count"])}
    window = pending.Window(3, {"loss": 6.0, "count": 4.0}, {"rate": 0.5}, [])
    assert window.metrics(finish) == {"loss": 1.5, "rate": 0.5}
    assert isinstance(window.metrics(finish)["loss"], float)
    skipped = window._replace(sums=None).metrics(finish)
    assert np.isnan(skipped["loss"])
    assert skipped["rate"] == 0.5


def test_windows_come_when_they_are_ready_or_at_fixed_steps():
    for at_fixed_steps in ((), (True,)):
        steps = pending.PendingSteps(8, *at_fixed_steps)
        steps.add(1, outputs([1]))
        assert list(steps.completed()) == []  # the window is open
        assert list(steps.close_window()) == []
        ready = [window.step for window in steps.completed()]
        assert ready == ([] if at_fixed_steps else [1])
        steps.add(2, outputs([2]))
        closed = [window.step for window in steps.close_window()]
        assert closed == ([1] if at_fixed_steps else [])
        assert [window.step for window in steps.drain()] == [2]


class Output:
    """A device array that is ready when it is waited for."""

    def __init__(self):
        self.ready = False

    def is_ready(self):
        return self.ready

    def block_until_ready(self):
        self.ready = True
        return self


@pytest.mark.parametrize("ahead", [8, 1, 0])
def test_few_dispatches_wait_behind_the_one_that_computes(ahead):
    steps, given = pending.PendingSteps(ahead), [Output() for _ in range(10)]
    assert not steps.idle()
    for step, output in enumerate(given, start=1):
        steps.add(step, StepOutputs({"loss": output}, {}))
    assert [output.ready for output in given] == [True] * (10 - ahead) + [False] * ahead
    assert steps.idle() == (ahead == 0)
    given[-1].ready = True
    assert steps.idle()


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pending.time, "perf_counter", lambda: now[0])
    return now


class Idle:
    def __init__(self, idle):
        self.idle = lambda: idle


def test_speed_leaves_pauses_out_and_counts_waiting_of_an_idle_device(clock):
    speed = pending.Speed(batch_size=8)
    assert not speed.started
    with speed.pause():  # before the first step nothing is counted
        clock[0] += 50
    speed.start(step=2)
    assert speed.started
    clock[0] += 1.0
    with speed.waiting_for_data(Idle(True)):
        clock[0] += 0.5
    with speed.waiting_for_data(Idle(False)):
        clock[0] += 0.5
    with speed.pause():
        clock[0] += 7.0
    assert speed.window(step=6) == {"images_per_second": 16.0, "data_wait": 0.25}
    clock[0] += 8.0
    assert speed.window(step=7) == {"images_per_second": 1.0, "data_wait": 0.0}
    assert (speed.seconds, speed.waited, speed.steps) == (10.0, 0.5, 5)
    # A window without steps or time keeps the last speed.
    assert speed.window(step=7) == {"images_per_second": 1.0, "data_wait": 0.0}


def test_windows_that_are_read_at_once_have_the_speed_of_all(clock):
    """One step a second, in windows of 2 steps and of 1, read after 2.98 and 0.02 s by turns."""
    speed, speeds = pending.Speed(batch_size=1), []
    speed.start(step=0)
    for turn in range(12):
        clock[0] += 0.02 if turn % 2 else 2.98
        speeds.append(speed.window(step=[2, 3][turn % 2] + turn // 2 * 3)["images_per_second"])
    # Of each window alone it would be 0.67 and 50.
    assert speeds[:2] == pytest.approx([0.671, 1.0], abs=1e-3)
    assert all(0.8 <= one <= 1.01 for one in speeds[2:])


def test_the_first_step_is_timed_for_the_user(clock, capsys):
    pending.Speed(batch_size=8).start(step=1, began=97.5)
    assert capsys.readouterr().err == "first step after 2.5 s\n"


def test_the_first_window_may_have_no_speed_yet(clock):
    speed = pending.Speed(batch_size=8)
    speed.start(step=1)
    assert np.isnan(speed.window(step=1)["images_per_second"])
    assert time.perf_counter() == 100.0
