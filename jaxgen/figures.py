"""Figures of images that are completed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.batches import unit_range

COMPLETIONS = 6


def completions(complete: Callable, batch: dict, rows: int, rng: jax.Array) -> jax.Array:
    """What a model makes of the upper parts of images.

    Args:
      complete: (batch, rng) -> images [N, H, W, C] in [0, 1].
      batch: `image` uint8 [N, H, W, C], and what `complete` needs beside it.
      rows: number of rows that are given.
      rng: key; each completion has its own.

    Returns:
      [N, 8, H, W, C] in [0, 1]: the given part, grey below; six completions; the image.
    """
    image = unit_range(batch["image"])
    below = jnp.arange(image.shape[1])[:, None, None] >= rows
    one = lambda number: complete(batch, jax.random.fold_in(rng, number))
    found = jax.lax.map(one, jnp.arange(COMPLETIONS))  # a loop: compiled once
    return jnp.stack([jnp.where(below[None], 0.5, image), *found, image], axis=1)
