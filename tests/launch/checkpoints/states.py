"""A small state, and checkpoints of it, for the tests of this folder."""

from typing import NamedTuple

import jax
import numpy as np

from launch.checkpoints.writer import CheckpointWriter

RECORD = {"config": {"seed": 1}}


class State(NamedTuple):
    """The state of a task: parameters, and what an optimiser keeps."""

    params: dict
    opt_state: tuple


def state_of(value):
    """A state whose kernel is `value` everywhere."""
    kernel = np.full((30, 4), value, np.float32)
    params = {"net": {"kernel": kernel, "bias": np.zeros(4, np.float32)}}
    return jax.device_put(State(params, (np.int32(value), 2 * kernel)), jax.devices()[0])


def template():
    """The shapes and dtypes of the state, on one device."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)
    return jax.tree.map(place, state_of(0))


def save(folder, losses, keep=2, best="", **options):
    """Saves {step: loss}, where None stands for a step without an evaluation."""
    writer = CheckpointWriter(folder, keep, best, **options)
    for step, loss in losses.items():
        metrics = {"loss": loss, "accuracy": -loss} if loss is not None else None
        writer.save(step, state_of(step), RECORD, metrics)
    writer.close()
