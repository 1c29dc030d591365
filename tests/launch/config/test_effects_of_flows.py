"""Flags of one variant of a flow or an auto-encoder are refused for the others."""

import pytest

from launch.config import loading
from launch.config.errors import UserError


@pytest.mark.parametrize(
    ("spec", "idle", "acting"),
    [
        ("flow.py", "task.class_dropout=0.2", "task.classes=10"),
        ("flow.py", "task.draws=32", "task.levels=2"),
        ("autoencoder.py:fsq", "task.kl=0.1", "task.levels=()"),
    ],
)
def test_a_key_of_another_variant_is_refused_as_a_flag_alone(spec, idle, acting):
    config = loading.load(f"configs/{spec}")
    with pytest.raises(UserError, match=rf"config\.{idle} has no effect: config\.task\."):
        loading.override(config, [f"--config.{idle}"])
    loading.override(loading.load(f"configs/{spec}"), [f"--config.{idle}", f"--config.{acting}"])
