"""Activations that the backward pass computes again, so that they are not kept in memory.

`config.train.remat` says of which modules the backward pass keeps the inputs alone:

  "blocks": of each block; a block is a module directly below a net that holds layers itself;
  "all": of each block and of each net, so that what a net keeps does not lie in memory beside
    what the loss or another net keeps.

The training step is traced with an interceptor of Flax that runs these modules by `nn.remat`,
so no net, a user's own neither, needs a line for it. Only the memory and the time of a step
change: losses and gradients stay the same.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from launch.config.errors import UserError


def with_remat(train_step: Callable, choice: str, name: str, *arguments: Any) -> Callable:
    """The training step of a task, in which the backward pass computes activations again.

    Args:
      train_step: (state, batch, rng) -> (state, sums).
      choice: "blocks" or "all", see the module.
      name: what the config calls the task, for messages.
      *arguments: of `train_step`, as ShapeDtypeStructs.

    Raises:
      UserError: the nets of the task have nothing that could be computed again.
    """
    nets, blocks = _find(train_step, arguments)
    if not nets:
        raise UserError(
            f"config.train.remat={choice} has no effect: training {name} calls no Flax module; "
            "give nothing"
        )
    if choice == "blocks" and not blocks:
        titles = ", ".join(sorted(kind.__name__ for kind, _ in nets))
        raise UserError(
            f"config.train.remat=blocks has no effect: {titles} of {name} has no blocks, which are "
            "modules with layers of their own; give all, or nothing"
        )
    chosen = blocks | nets if choice == "all" else blocks

    def step(*arguments):
        with nn.intercept_methods(partial(_recompute, chosen, [])):
            return train_step(*arguments)

    return step


def compiler_options(mesh: Mesh) -> dict[str, str]:
    """The options of XLA with which a training step keeps what `with_remat` says, and no more.

    Args:
      mesh: the devices that the step is compiled for.
    """
    if mesh.devices.flat[0].platform != "cpu":
        return {}
    # Optimization barriers separate what is computed again from what it repeats. For CPUs, XLA
    # removes the barriers in this pass and later merges both, which would keep everything.
    return {"xla_disable_hlo_passes": "cse_barrier_expander"}


def _find(train_step, arguments):
    """The nets that a training step calls, and their blocks, as keys of `_key`."""
    nets, blocks = set(), set()

    def note(call, args, kwargs, context):
        module = context.module
        if module.scope is not None and not module.path:
            nets.add(_key(module))
        elif module.scope is not None and len(module.path) == 2:
            # In the body of `nn.scan`, this parent is a step: so a block is a step of it.
            blocks.add(_key(module.parent))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(train_step, *arguments)
    return nets, blocks


def _recompute(chosen, running, call, args, kwargs, context):
    """Calls a method of a module, by `nn.remat` where the module is one of those chosen."""
    module = context.module
    if context.method_name != "__call__" or module.scope is None:
        return call(*args, **kwargs)
    key = _key(module)
    if key not in chosen or key in running:
        return call(*args, **kwargs)

    def inner(module):
        running.append(key)  # this call arrives here too
        try:
            return module(*args, **kwargs)
        finally:
            running.pop()

    return nn.remat(inner)(module)


def _key(module):
    return type(module), module.path
