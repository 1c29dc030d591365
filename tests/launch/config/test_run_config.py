import json
import logging
from pathlib import Path

import pytest

from launch.config import loading, run_config, schema
from launch.config.errors import UserError

VAE = str(Path(__file__).parents[3] / "configs" / "vae.py")


def test_a_run_remembers_everything(tmp_path):
    config = loading.load(f"{VAE}:mnist")
    (tmp_path / "config.json").write_text(run_config.to_json(config))
    text = (tmp_path / "config.json").read_text()
    assert text.startswith('{\n  "format": 3,\n  "config": {\n')
    content = json.loads(text)
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
    for content in ('{"config": {', "[" * 100_000, "[]", '{"config": 3}', "\udcff"):
        (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=r"config.json is damaged"):
            run_config.read_config(tmp_path)


def test_a_key_with_a_dot_is_damage(tmp_path):
    record = {
        "format": run_config.FORMAT,
        "config": {"task": {"a.b": 1}},
        "versions": {},
        "data": {},
    }
    sealed = record | {"sha256": run_config.seal(record)}
    (tmp_path / "config.json").write_text(json.dumps(sealed))
    with pytest.raises(UserError, match=r"config.json is damaged \(.*dots"):
        run_config.read_config(tmp_path)


def test_facts_of_the_data_are_kept(tmp_path):
    config = loading.load(VAE)
    run_config.write(tmp_path, run_config.to_json(config, {"classes": ["a"]}))
    record, path = run_config.read(tmp_path)
    assert record["data"] == {"classes": ["a"]}
    assert path == tmp_path / "config.json"
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_processes_may_keep_their_data_in_places_of_their_own():
    keys = run_config.shared_keys(loading.load(VAE).to_dict())
    assert keys["data.batch_size"] == 128
    assert not keys.keys() & {"data.data_dir", "data.path", "data.threads", "data.workers"}


def test_the_number_of_classes_is_that_of_the_run(tmp_path):
    config = loading.load(f"{VAE}:conditional")
    asks = schema.with_values(config, {"task.classes": -1})
    assert run_config.check_continues(tmp_path, asks) is asks
    run_config.write(tmp_path, run_config.to_json(config))
    assert run_config.check_continues(tmp_path, asks).task.classes == 10
    with pytest.raises(UserError, match=r"task.classes: 10 -> 3"):
        run_config.check_continues(tmp_path, schema.with_values(config, {"task.classes": 3}))


def test_what_follows_the_steps_may_change_with_them(tmp_path, caplog):
    config = loading.load(f"{VAE}:mnist")
    run_config.write(tmp_path, run_config.to_json(loading.override(config, [])))
    longer = loading.override(config, ["--config.train.steps=80_000"])
    logging.getLogger("segen").propagate = True
    assert run_config.check_continues(tmp_path, longer) is longer
    assert "config.train.steps: 40000 -> 80000 changes what follows it" in caplog.text
    keep = "--config.optimizer.learning_rate.decay_steps=40000"
    assert f"To keep the old schedule, add {keep}" in caplog.text
    caplog.clear()
    kept = loading.override(config, ["--config.train.steps=80_000", keep])
    assert kept.train.steps == 80_000
    run_config.check_continues(tmp_path, kept)
    run_config.check_continues(tmp_path, loading.override(config, []))
    assert "changes what follows" not in caplog.text


def test_a_schedule_of_its_own_is_no_follower(tmp_path):
    config = loading.load(f"{VAE}:mnist")
    run_config.write(tmp_path, run_config.to_json(config))
    key = "optimizer.learning_rate.decay_steps"
    other = loading.override(config, ["--config.train.steps=80_000", f"--config.{key}=5"])
    old = rf"{key}: 40000 -> 5\n.*go on with it: --config\.{key}=40000$"
    with pytest.raises(UserError, match=old):
        run_config.check_continues(tmp_path, other)
    other = loading.override(config, ["--config.train.steps=80_000", "--config.seed=3"])
    with pytest.raises(UserError, match=r"seed: 0 -> 3"):
        run_config.check_continues(tmp_path, other)
