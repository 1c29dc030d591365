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


def test_the_losses_and_the_state_are_those_of_a_training(small, tmp_path, monkeypatch, capsys):
    values = {"train.steps": 5, "eval.every": 5, "checkpoint.every": 5, "log.every": 1}
    train(schema.with_values(small, values), tmp_path)
    logged = metrics_file.read(tmp_path / "metrics.jsonl").series("loss", "train")
    # As the default configs train, which it does without.
    resident = schema.with_values(small, {"data.resident": True, "train.steps_per_dispatch": 5})
    monkeypatch.setattr(first_steps.loading, "load", lambda spec: resident)
    first_steps.main(["--config=small", "--steps=5"])
    found = json.loads(capsys.readouterr().out)
    assert found["losses"] == [loss for _, loss in logged]
    saved = trained_runs.restore(tmp_path, [], 5, None).state
    assert found["sha256"] == first_steps.digest(jax.device_get(saved))
    assert found["device"] == "1 x cpu"


def test_the_digest_sees_every_bit_and_every_name():
    tree = {"a": np.zeros(3, np.float32), "b": np.int32(1)}
    changed = {"a": np.array([0, 0, -0.0], np.float32), "b": np.int32(1)}
    renamed = {"a": tree["a"], "c": tree["b"]}
    assert len({first_steps.digest(one) for one in (tree, changed, renamed)}) == 3
    assert first_steps.digest(tree) == first_steps.digest(dict(tree))


def test_no_steps_are_refused():
    with pytest.raises(UserError, match=r"--steps must be at least 1, got 0"):
        first_steps.main(["--config=configs/vae.py", "--steps=0"])
