import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from launch.config import loading, run_config, schema
from launch.config.errors import UserError

VAE = str(Path(__file__).parents[3] / "configs" / "vae.py")


@pytest.mark.parametrize(
    "variant", ["", "conv", "conditional", "mnist", "mnist_conv", "mnist_iwae"]
)
def test_shipped_configs_are_complete_and_sound(variant):
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
    ],
)
def test_unknown_keys_and_types_are_named(content, message):
    with pytest.raises(UserError, match=message):
        loading.complete(ConfigDict(content), "mine.py")


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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.batch_size", 0, "config.data.batch_size must be at least 1"),
        ("seed", -1, "config.seed must be in"),
        ("parallel", "tpu", "must be jit or pmap, got 'tpu'"),
        ("dtype", "float16", "float32 or bfloat16"),
        ("train.accumulate", 7, "accumulate=7 does not divide"),
        ("train.steps_per_dispatch", 7, "is not a multiple of"),
        ("data.resident", False, "needs config.data.resident = True"),
        ("eval.every", 3000, "is not a multiple of eval.every"),
    ],
)
def test_values_that_cannot_work_are_named(key, value, message):
    config = loading.load(VAE)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        schema.check_values(config)


def test_a_run_remembers_everything(tmp_path):
    config = loading.load(f"{VAE}:mnist")
    (tmp_path / "config.json").write_text(run_config.to_json(config))
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["versions"]["jax"]
    assert run_config.differences(run_config.read_config(tmp_path), config) == []
    assert run_config.read_config(tmp_path).to_dict()["train"] == config.to_dict()["train"]


def test_only_what_makes_another_run_counts_as_a_difference():
    old, new = loading.load(VAE), loading.load(VAE)
    new.train.steps, new.log.every, new.mesh.fsdp = 60_000, 50, 4
    assert run_config.differences(old, new) == []
    new.seed, new.model.encoder.latents = 3, 5
    assert run_config.differences(old, new) == ["model.encoder.latents: 16 -> 5", "seed: 0 -> 3"]


def test_a_damaged_or_missing_run_is_named(tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        run_config.read_config(tmp_path / "none")
    with pytest.raises(UserError, match="not a run"):
        run_config.read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"config": {')
    with pytest.raises(UserError, match=r"config.json is damaged"):
        run_config.read_config(tmp_path)
