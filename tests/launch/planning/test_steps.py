"""Steps, evaluations and batches: what time and memory allow; messages where nothing fits."""

import re

import pytest

from launch.config.errors import UserError
from launch.planning import steps, timing
from tests.launch.planning.small import TOOK, plan


def test_steps_fill_the_time(root, caplog):
    caplog.set_level("INFO", "segen")
    config = plan(root)
    spent = steps.STARTING + 7.5 + timing.SECONDS + 8 * (steps.REPORTING + 0.04)
    assert 599 <= 0.1 * config.train.steps + spent <= 600
    assert 7 < config.train.steps / config.eval.every <= 8
    assert config.eval.every == config.checkpoint.every
    assert config.log.every % 10 == 0
    assert config.eval.every % config.log.every == 0
    assert 2 <= config.eval.every / config.log.every <= 7
    assert (config.train.steps_per_dispatch, config.data.resident) == (10, True)
    assert plan(root, "--config.plan.minutes=20").train.steps > 2 * config.train.steps
    short = plan(root, "--config.plan.minutes=2")  # in which evaluations take a tenth of the time
    assert 3 < short.train.steps / short.eval.every <= 4
    assert "plan: steps          " in caplog.text
    assert "(10 minutes, 100 ms a step, 8 s compiling)" in caplog.text
    assert "plan: memory         100 MiB  (the process, " in caplog.text


@pytest.mark.parametrize("flag", ["parallel=pmap", "train.remat=all"])
def test_a_program_that_is_compiled_again_to_train_leaves_less_time(root, flag):
    assert plan(root, f"--config.{flag}").train.steps <= plan(root).train.steps - 40


def test_frozen_steps_are_constants_of_a_program(root):
    once, probe = (plan(root, variant=variant) for variant in ("lite0", "lite0_probe"))
    assert probe.train.steps <= once.train.steps - 40


def test_given_steps_are_reported_in_eighths(root):
    config = plan(root, "--config.train.steps=400")
    assert (config.train.steps, config.eval.every, config.log.every) == (400, 50, 10)


@pytest.mark.parametrize(("count", "stride", "every"), [(100, 10, 20), (75, 1, 10), (8, 1, 1)])
def test_any_number_of_steps_is_reported(root, count, stride, every):
    config = plan(root, f"--config.train.steps={count}")
    assert (config.train.steps_per_dispatch, config.eval.every) == (stride, every)
    assert 0 < config.log.every <= config.eval.every


@pytest.fixture
def by_image(monkeypatch):
    """A step that takes 10 ms and 40 MiB for each image, and 20 MiB beside."""

    def measure(config, data, limit):
        count = config.data.batch_size
        return TOOK._replace(step=0.01 * count, memory=(20 + 40 * count) * 2**20)

    monkeypatch.setattr(timing, "measure", measure)


def test_a_batch_is_halved_until_memory_holds_a_step(root, by_image, caplog):
    caplog.set_level("INFO", "segen")
    whole, small = plan(root), plan(root, "--config.plan.memory_mib=150")
    assert (whole.data.batch_size, small.data.batch_size, small.eval.batch_size) == (8, 2, 2)
    assert "plan: batch          4  (with 8 at a time training takes 340 MiB" in caplog.text
    # Two more programs were compiled; the rest of the time is filled.
    seconds = whole.train.steps * 0.08 - small.train.steps * 0.02
    tries = 2 * (TOOK.drawing + TOOK.compiling)
    assert seconds == pytest.approx(tries, abs=1.0)


def test_a_batch_that_surely_does_not_fit_is_not_tried(root, by_image, caplog, monkeypatch):
    monkeypatch.setattr(steps.footprint, "held", lambda: 0)
    caplog.set_level("INFO", "segen")
    assert plan(root, "--config.plan.memory_mib=150").data.batch_size == 2
    assert "plan: batch          2  (with 8 at a time training takes 340 MiB" in caplog.text
    assert "with 4 at a time" not in caplog.text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.plan.minutes=0.4"], "too short. A step takes 0.08 s .* minutes would do"),
        (
            ["--config.plan.memory_mib=50"],
            "takes 60 MiB, 50 are allowed; 60 would do",
        ),
        (
            ["--config.plan.memory_mib=150", "--config.data.batch_size=6"],
            "config.data.batch_size=6: with 6 at a time training takes 260 MiB, 150 are allowed",
        ),
    ],
)
def test_what_does_not_fit_is_refused(root, by_image, flags, words):
    with pytest.raises(UserError, match=words):
        plan(root, *flags)


@pytest.mark.parametrize(("step", "compiling"), [(0.1, 30.0), (1.0, 5.0), (0.02, 40.0)])
@pytest.mark.parametrize("evaluated", [1, 8])
def test_the_time_that_would_do_does(root, monkeypatch, step, compiling, evaluated):
    took = TOOK._replace(step=step, compiling=compiling)
    monkeypatch.setattr(timing, "measure", lambda *_: took)
    flags = f"--config.eval.batch_size={evaluated}", "--config.plan.minutes="
    with pytest.raises(UserError, match="would do") as short:
        plan(root, flags[0], flags[1] + "0.2")
    minutes = re.search(r"([\d.]+) minutes would do", str(short.value))[1]
    assert plan(root, flags[0], flags[1] + minutes).train.steps > 0
    with pytest.raises(UserError, match="would do"):
        plan(root, flags[0], f"{flags[1]}{float(minutes) - 0.2}")
