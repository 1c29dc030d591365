"""A trained run refuses the flags of training."""

import pytest

from launch.config import loading
from launch.config.errors import UserError


def test_a_trained_run_takes_no_keys_of_training():
    vae = loading.load("configs/vae.py")
    for flag in ("train.steps=50", "optimizer.ema=0.5", "data.batch_size=7", "log.every=50"):
        loading.override(vae, [f"--config.{flag}"])
        with pytest.raises(UserError, match=rf"config\.{flag.split('=')[0]} has no effect"):
            loading.override(vae, [f"--config.{flag}"], trained=True)
    loading.override(vae, ["--config.checkpoint.best=nll", "--config.seed=3"], trained=True)
