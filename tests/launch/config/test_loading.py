import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from launch.config import loading, schema
from launch.config.errors import UserError

VAE = str(Path(__file__).parents[3] / "configs" / "vae.py")


@pytest.mark.parametrize(
    "variant", ["", "conv", "conditional", "mnist", "mnist_conv", "mnist_iwae"]
)
def test_shipped_configs_are_complete_and_valid(variant):
    config = loading.load(f"{VAE}:{variant}")
    schema.check_values(config)
    assert config.task.name == "jaxgen.vae:vae"
    json.dumps(config.to_dict())


def test_a_schedule_follows_the_number_of_steps():
    config = loading.load(f"{VAE}:mnist")
    config.train.steps = 123
    assert config.to_dict()["optimizer"]["learning_rate"]["decay_steps"] == 123


def test_installed_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert loading.load("configs/vae.py").data.name == "digits"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"bach": 1}, "unknown key 'bach'"),
        ({"data": {"bach_size": 1}}, "'data.bach_size'; did you mean 'data.batch_size'"),
        ({"data": 3}, "data must be a mapping"),
        ({"train": {"steps": "many"}}, "train.steps must be int, got 'many'"),
        ({"data": {"resident": 1}}, "data.resident must be bool"),
        ({"data": {"augment": 1}}, "data.augment must be list, got 1"),
        ({"data": {"name": ("a",)}}, "data.name must be str"),
    ],
)
def test_unknown_keys_and_types_are_named(content, message):
    with pytest.raises(UserError, match=message):
        loading.with_defaults(ConfigDict(content), "mine.py")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.py", "no such file: nowhere.py"),
        (f"{VAE}:mnits", "no variant 'mnits'"),
        (str(Path(__file__)), "no function get_config"),
    ],
)
def test_missing_files_and_variants_are_named(spec, message):
    with pytest.raises(UserError, match=message):
        loading.load(spec)


def test_overrides_take_the_types_of_the_config_and_leave_it_as_it_is():
    config = loading.load(f"{VAE}:mnist")
    overrides = ["--config.train.steps=20000", "--config.model.encoder.widths=(7, 8)"]
    changed = loading.override(config, overrides)
    assert changed.model.encoder.widths == (7, 8)
    # A key that follows another one follows its override.
    assert changed.optimizer.learning_rate.decay_steps == 20_000
    assert config.train.steps == config.optimizer.learning_rate.decay_steps == 40_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.stepz=3", r"--config\.train\.stepz: unknown key .*'train\.steps'"),
        ("--config.train.steps=many", "many"),
        ("--config.train.steps=0", "must be at least 1"),
    ],
)
def test_overrides_that_cannot_work_are_named(override, message):
    with pytest.raises(UserError, match=message):
        loading.override(loading.load(VAE), [override])


def test_defaults_fill_what_a_config_leaves_out():
    content = {"train": {"steps": 7}, "data": {"augment": ()}}  # a tuple serves for a list
    config = loading.with_defaults(ConfigDict(content), "mine.py")
    assert (config.train.steps, config.train.accumulate, config.log.every) == (7, 1, 100)
    assert config.to_dict().keys() == schema.defaults().to_dict().keys()
    assert config.is_locked


def test_a_run_is_called_after_its_config():
    assert loading.default_name("configs/vae.py") == "vae"
    assert loading.default_name("some/where/vae.py:mnist") == "vae_mnist"
