"""Hierarchical VAEs and auto-encoders on several devices: the same losses as on one."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from launch.config import loading
from tests.launch.engine.test_compiled_steps import losses

HERE = "tests.launch.test_rnn_program"
LADDER = {
    "task": {"name": "jaxgen.hierarchy:hierarchical_vae"},
    "model": {
        "name": "jaxgen.nets:Ladder",
        **{
            "patch": 1,
            "widths": (8,),
            "groups": (2,),
            "latents": (2,),
            "top": 4,
            "blocks": 1,
        },
    },
}
DRAW = {
    "task": {"name": "jaxgen.hierarchy:hierarchical_vae"},
    "model": {
        "name": "jaxgen.nets:DrawNet",
        **{"glimpses": 2, "latents": 2, "hidden": 32, "read_size": 2, "write_size": 3},
    },
}
AUTO = {
    "task": {"name": "jaxgen.autoencoder:autoencoder"},
    "model": {
        "encoder": {"name": "jaxgen.nets:MapEncoder", "channels": 4, "widths": (8,)},
        "decoder": {"name": "jaxgen.nets:MapDecoder", "widths": (8,)},
    },
}


def config_of(parts, **changes):
    config = ConfigDict(
        parts
        | {
            "optimizer": {"name": "optax:adam", "learning_rate": 1e-3, "ema": (0.9, 0.5)},
            "data": {"name": f"{HERE}:pictures", "batch_size": 8},
            "mesh": {"data": 1},
        }
    )
    config = loading.with_defaults(config, "here")
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("parts", [LADDER, DRAW, AUTO], ids=["ladder", "draw", "autoencoder"])
def test_several_devices_give_the_losses_of_one(parts):
    wanted, _ = losses(config_of(parts), steps=4)
    assert np.ptp(wanted) > 1e-3
    layouts = {"mesh.data": 2, "mesh.fsdp": 2}, {"mesh.data": 2, "parallel": "pmap"}
    for changes in layouts:
        found, _ = losses(config_of(parts, **changes), steps=4)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
