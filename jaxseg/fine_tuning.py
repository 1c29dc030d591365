"""Optimisers for nets of which a part is trained already."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class FineTuningState(NamedTuple):
    """State of `adamw`.

    Attributes:
      count: int32, updates done.
      inner: state of AdamW.
    """

    count: jax.Array
    inner: Any


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float = 1e-2,
    encoder: float = 1.0,
    layer_decay: float = 1.0,
    frozen: tuple[str, ...] = (),
    frozen_steps: int = 0,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) whose rate differs between the parts of a net.

    Weights of one axis, as those of norms and biases, do not decay.

    Args:
      learning_rate: of the parameters outside the encoder; a number or a schedule.
      weight_decay: of weights of two axes and more.
      encoder: the encoder's learning rate as a share of the others'.
      layer_decay: the rate of each block of the encoder as a share of the next deeper one's
        (BEiT, Bao et al. 2022, take 0.65 to 0.9 for transformers).
      frozen: regular expressions of parameters that stay as they are, matched from the start,
        as "encoder/" or "encoder/stem".
      frozen_steps: how many steps they stay; 0 for all.
      b1: decay of the mean of gradients.
      b2: decay of the mean of their squares.

    Returns:
      The optimiser.

    Raises:
      ValueError: an argument is out of range; in `init`, a pattern fits no parameter.
    """
    if not 0.0 <= encoder <= 1.0 or not 0.0 < layer_decay <= 1.0 or frozen_steps < 0:
        raise ValueError(
            f"encoder={encoder} must be in [0, 1], layer_decay={layer_decay} in (0, 1] and "
            f"frozen_steps={frozen_steps} 0 or more"
        )
    if frozen_steps and not frozen:
        raise ValueError(f"frozen_steps={frozen_steps} has no effect: `frozen` names nothing")
    decays = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    inner = optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=decays)

    def init(params):
        paths = _paths(params)
        for pattern in frozen:
            if not any(re.match(pattern, path) for path in paths):
                some = ", ".join(sorted({"/".join(path.split("/")[:2]) for path in paths})[:8])
                raise ValueError(f"frozen={pattern!r} fits no parameter; there are {some}, ...")
        return FineTuningState(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates, state, params=None):
        updates, new = inner.update(updates, state.inner, params)
        paths = _paths(params)
        shares = rates(paths, encoder, layer_decay)
        held = [any(re.match(pattern, path) for pattern in frozen) for path in paths]
        moves = jnp.where((state.count < frozen_steps) | (frozen_steps == 0), 0.0, 1.0)
        leaves, tree = jax.tree.flatten(updates)
        leaves = [
            leaf * (share * moves if hold else share)
            for leaf, share, hold in zip(leaves, shares, held, strict=True)
        ]
        return jax.tree.unflatten(tree, leaves), FineTuningState(
            optax.safe_increment(state.count), new
        )

    return optax.GradientTransformation(init, update)


def rates(paths: list[str], encoder: float, layer_decay: float) -> list[float]:
    """The learning rate of each parameter as a share of the rate outside the encoder.

    Args:
      paths: of the parameters, as "encoder/stage0_block1/conv1/kernel". The modules of the
        encoder are ordered by the numbers in their names; those without one, as the stem, come
        first, and a final norm counts as the last block.
      encoder: share of its deepest block.
      layer_decay: share of each block of the next deeper one.

    Returns:
      A share for each path.
    """
    blocks = sorted({_block(path) for path in paths if path.startswith("encoder/")})
    deepest = len(blocks) - 1
    return [
        encoder * layer_decay ** (deepest - blocks.index(_block(path)))
        if path.startswith("encoder/")
        else 1.0
        for path in paths
    ]


def _block(path):
    """The numbers in the name of a module of the encoder; a norm joins its neighbours."""
    name = path.split("/")[1]
    numbers = tuple(map(int, re.findall(r"\d+", name)))
    return (1, (10**6,)) if name == "norm" else (int(bool(numbers)), numbers)


def _paths(tree):
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return ["/".join(str(getattr(key, "key", key)) for key in path) for path, _ in leaves]
