import json

import jax
import numpy as np
import pytest

from launch.benchmarks import first_steps
from launch.config import schema
from launch.config.errors import UserError
from launch.engine import trained_runs
from launch.engine.training import train
from launch.reporting import metrics_file


def test_the_losses_and_the_state_are_those_of_a_training(small, tmp_path):
    values = {"train.steps": 5, "eval.every": 5, "checkpoint.every": 5, "log.every": 1}
    train(schema.with_values(small, values), tmp_path)
    logged = metrics_file.read(tmp_path / "metrics.jsonl").series("loss", "train")
    resident = {"data.resident": True, "train.steps_per_dispatch": 5}  # which it does without
    found = first_steps.measure(schema.with_values(small, resident), 5)
    assert found["losses"] == pytest.approx([loss for _, loss in logged], abs=0)
    saved = trained_runs.restore(tmp_path, [], 5, None).state
    assert found["sha256"] == first_steps.digest(jax.device_get(saved))
    assert found["device"] == "1 x cpu"


def test_the_digest_sees_every_bit_and_every_name():
    tree = {"a": np.zeros(3, np.float32), "b": np.int32(1)}
    changed = {"a": np.array([0, 0, -0.0], np.float32), "b": np.int32(1)}
    renamed = {"a": tree["a"], "c": tree["b"]}
    assert len({first_steps.digest(one) for one in (tree, changed, renamed)}) == 3
    assert first_steps.digest(tree) == first_steps.digest(dict(tree))


def test_the_command_prints_one_line_of_json(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        first_steps, "measure", lambda config, steps: asked.append(steps) or {"losses": [1.5]}
    )
    first_steps.main(["--config=configs/vae.py"])
    first_steps.main(["--config=configs/vae.py", "--steps=3"])
    assert asked == [20, 3]
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"losses": [1.5]}
    with pytest.raises(UserError, match=r"--steps must be at least 1, got 0"):
        first_steps.main(["--config=configs/vae.py", "--steps=0"])
