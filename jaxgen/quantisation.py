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


def grid_index(z: jax.Array, levels: Sequence[int]) -> jax.Array:
    """The place of each channel's value among the channel's levels.

    Args:
      z: [..., L] from `quantised`.
      levels: of each channel.

    Returns:
      int32 [..., L], from 0 to the channel's levels less 1.
    """
    half = _row(np.array(levels) // 2, z)
    return jnp.round(z * half.astype(jnp.float32)).astype(jnp.int32) + half


def grid_value(index: jax.Array, levels: Sequence[int]) -> jax.Array:
    """The values of the grid [..., L] at these places [..., L]: `grid_index` undone."""
    half = _row(np.array(levels) // 2, index)
    return (index - half).astype(jnp.float32) / half.astype(jnp.float32)


def code_of(z: jax.Array, levels: Sequence[int]) -> jax.Array:
    """The number of each code.

    Args:
      z: [..., L] from `quantised`.
      levels: of each channel.

    Returns:
      int32 [...], from 0 to the product of the levels less 1.
    """
    basis = np.concatenate([[1], np.cumprod(np.array(levels)[:-1])])
    return jnp.sum(grid_index(z, levels) * _row(basis, z), -1)


def _row(values, like):
    """Whole numbers of the channels, with as many axes as `like`."""
    return jnp.asarray(values, jnp.int32).reshape((1,) * (np.ndim(like) - 1) + (-1,))
