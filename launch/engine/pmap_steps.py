"""Data parallel training by `pmap`: a copy of the state on each device.

The optimiser averages the gradients over the devices (`launch.engine.optimizer.mean_over`),
so a task knows nothing of `pmap`; the sums are added here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def compile_step(one: Callable, mesh: Mesh, layout: Any) -> tuple[Callable, ...]:
    """Compiles a training step by `pmap`.

    Args:
      one: (state, batch, step) -> (state, StepOutputs), on the rows of one device.
      mesh: the devices.
      layout: shardings of the state outside of training.

    Returns:
      `train`, `lower_train`, `put_feed`, `load` and `unreplicate` of `CompiledSteps`.
    """
    used = list(mesh.devices.flat)
    run = jax.pmap(
        partial(_step, one), "devices", in_axes=(0, 0, None), donate_argnums=0, devices=used
    )
    stacked = NamedSharding(Mesh(np.array(used), ("devices",)), P("devices"))
    # The copies are alike; one of them is read without a program over all devices.
    first = partial(jax.tree.map, lambda leaf: leaf.addressable_data(0)[0])

    def train(state, feed, step):
        state, outputs = run(state, feed, step)
        return state, first(outputs)

    def put_feed(batch):
        split = lambda leaf: leaf.reshape(len(used), -1, *leaf.shape[1:])
        return jax.device_put(jax.tree.map(split, batch), stacked)

    def load(state):
        copy = lambda leaf: jnp.broadcast_to(leaf, (len(used), *leaf.shape))
        return jax.jit(partial(jax.tree.map, copy), out_shardings=stacked)(state)

    return train, run.lower, put_feed, load, lambda state: jax.device_put(first(state), layout)


def with_common_statistics(train_step: Callable) -> Callable:
    """A training step whose batch norms see the rows of all devices, as under `jit`.

    Args:
      train_step: (state, batch, rng) -> (state, sums), for the rows of one device.

    Returns:
      The same, to be called where the axis "devices" is mapped.
    """

    def step(*arguments):
        with nn.intercept_methods(_over_devices):
            return train_step(*arguments)

    return step


def _over_devices(call, args, kwargs, context):
    """Calls a method of a module; a batch norm learns of the axis first."""
    module = context.module
    if isinstance(module, nn.BatchNorm) and module.axis_name is None:
        # Flax makes this module anew in each trace; its fields are frozen for users alone.
        object.__setattr__(module, "axis_name", "devices")
    return call(*args, **kwargs)


def _step(one, state, batch, step):
    state, outputs = one(state, batch, step)
    sums = jax.lax.psum(outputs.sums, "devices")
    return _mean_statistics(state), outputs._replace(sums=sums)


def _mean_statistics(state):
    """Averages over the devices what a step gathers beside parameters."""
    names = set(getattr(state, "_fields", ())) & {"batch_stats", "class_frequencies"}
    means = {name: jax.lax.pmean(getattr(state, name), "devices") for name in names}
    return state._replace(**means) if means else state
