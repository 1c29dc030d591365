"""Finite scalar quantisation: latents on a grid, without a codebook (Mentzer et al. 2023)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

BEYOND = 1e-3  # share by which tanh reaches past the outermost levels


def quantised(z: jax.Array, levels: Sequence[int], bounded: bool = False) -> jax.Array:
    """Rounds each channel to one of its levels; gradients pass as if nothing were rounded.

    Args:
      z: [..., L], any values.
      levels: of each channel.
      bounded: whether z has values of the grid already, about -1 to 1, and is rounded alone.

    Returns:
      [..., L], values of the grid: k / (level // 2) for whole numbers k around 0.
    """
    count, wide = np.array(levels), np.ndim(z)
    row = lambda values: jnp.asarray(values, jnp.float32).reshape((1,) * (wide - 1) + (-1,))
    half = row((count - 1) * (1.0 + BEYOND) / 2.0)
    offset = row(np.where(count % 2 == 0, 0.5, 0.0))
    width = row(count // 2)
    if bounded:
        within = jnp.clip(z * width, -width, row((count - 1) // 2))
    else:
        # An even number of levels lies around -1/2; z = 0 still gives 0, but with two levels, where
        # tanh would be flat there.
        shift = jnp.where(row(count == 2) > 0, 0.0, jnp.arctanh(offset / half))
        within = jnp.tanh(z + shift) * half - offset
    whole = within + jax.lax.stop_gradient(jnp.round(within) - within)
    return whole / width


def code_of(z: jax.Array, levels: Sequence[int]) -> jax.Array:
    """The number of each code.

    Args:
      z: [..., L] from `quantised`.
      levels: of each channel.

    Returns:
      int32 [...], from 0 to the product of the levels less 1.
    """
    count = np.array(levels)
    basis = np.concatenate([[1], np.cumprod(count[:-1])]).astype(np.int32)
    row = lambda values: jnp.asarray(values).reshape((1,) * (np.ndim(z) - 1) + (-1,))
    steps = jnp.round(z * row((count // 2).astype(np.float32))).astype(jnp.int32)
    digits = steps + row((count // 2).astype(np.int32))
    return jnp.sum(digits * row(basis), -1)
