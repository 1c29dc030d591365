"""Values that wait for a plan."""

from pathlib import Path

import pytest

from launch.config import loading, planned, run_config
from launch.config.errors import UserError

SEGMENT = str(Path(__file__).parents[3] / "configs" / "segment.py")
VAE = str(Path(__file__).parents[3] / "configs" / "vae.py")
ENGINE = {
    "data.batch_size": 4,
    "train.steps": 80,
    "train.steps_per_dispatch": 10,
    "data.resident": True,
    "eval.every": 40,
    "eval.batch_size": 4,
    "checkpoint.every": 40,
    "log.every": 10,
}
ARGUMENTS = {
    "task.loss.terms": [{"name": "jaxseg.losses:dice"}],
    "model.widths": [4, 8],
    "model.stem": 1,
    "model.mean": [0.4, 0.5, 0.6],
    "model.std": [0.2, 0.2, 0.2],
    "data.kwargs.size": [32, 32],
    "data.kwargs.scale": 0.5,
    "data.augment": [{"name": "jaxseg.augment:warp"}],
}


def test_zeros_of_the_engine_and_none_in_arguments_wait():
    assert set(planned.unset(loading.load(SEGMENT))) == ENGINE.keys() | ARGUMENTS.keys()
    assert planned.unset(loading.load(VAE)) == []


def test_a_value_that_is_given_waits_no_longer_and_stays():
    config = loading.override(
        loading.load(SEGMENT), ["--config.train.steps=70", "--config.model.stem=2"]
    )
    assert not {"train.steps", "model.stem"} & set(planned.unset(config))
    filled = planned.filled(config, ENGINE | ARGUMENTS | {"train.steps_per_dispatch": 1})
    assert (filled.train.steps, filled.model.stem, filled.data.batch_size) == (70, 2, 4)
    assert filled.optimizer.learning_rate.decay_steps == 70
    assert planned.unset(config)  # which stays as it is


def test_a_plan_that_leaves_a_key_open_is_refused():
    values = {key: value for key, value in (ENGINE | ARGUMENTS).items() if key != "model.widths"}
    with pytest.raises(UserError, match=r"config.model.widths has no value.*give --config.model"):
        planned.filled(loading.load(SEGMENT), values)


def test_what_cannot_work_together_is_refused_after_planning():
    with pytest.raises(UserError, match="not a multiple"):
        planned.filled(loading.load(SEGMENT), ENGINE | ARGUMENTS | {"log.every": 7})


def test_a_run_goes_on_with_the_plan_that_it_began_with(tmp_path):
    config = loading.load(SEGMENT)
    first = planned.filled(config, ENGINE | ARGUMENTS)
    (tmp_path / "config.json").write_text(run_config.to_json(first))
    again = run_config.check_continues(tmp_path, config)
    assert planned.unset(again) == []
    assert run_config.differences(first, again) == []
    assert again.train.steps == 80
    other = loading.override(config, ["--config.plan.minutes=3"])
    with pytest.raises(UserError, match=r"plan.minutes: 0.0 -> 3.0"):
        run_config.check_continues(tmp_path, other)
