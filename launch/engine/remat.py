"""Activations that the backward pass computes again, so that they are not kept in memory.

`config.train.remat` says of which modules the backward pass keeps the inputs alone:

  "blocks": of each block, a module directly below a net that holds layers itself; below the parts
    of a net that has a tuple `parts` of their names; a net without blocks is one block;
  "all": of each layer too, so that less lies in memory while a block is computed again.

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
      UserError: the step calls no module of Flax.
    """
    nets, layers = _find(train_step, arguments)
    if not nets:
        raise UserError(
            f"config.train.remat={choice} has no effect: train_step() of {name} calls no Flax "
            "module, or calls it inside a jax.jit of its own; give nothing"
        )
    chosen = set().union(*(blocks or {net} for net, blocks in nets.items()))
    chosen |= layers if choice == "all" else set()

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
    """What a training step calls: {net: its blocks}, and all modules below nets."""
    nets, layers, running = {}, set(), {}

    def note(call, args, kwargs, context):
        module = context.module
        if module.scope is None or _is_lifted(module):
            return call(*args, **kwargs)
        if not module.path:
            running.update(net=_key(module), parts=getattr(module, "parts", ()))
            nets.setdefault(_key(module), set())
        else:
            layers.add(_key(module))
            depth = len(module.path) - (module.path[0] in running.get("parts", ()))
            if running and depth == 2 and isinstance(module.parent, nn.Module):
                nets[running["net"]].add(_key(module.parent))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        # By another function, as JAX keeps what it has traced.
        jax.eval_shape(lambda *arguments: train_step(*arguments), *arguments)
    return nets, layers


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


def _is_lifted(module):
    """Whether Flax derived a module from another one, as `nn.scan` does, and calls that one too."""
    return type(module).__module__ == nn.transforms.__name__


def _key(module):
    return type(module), module.path
