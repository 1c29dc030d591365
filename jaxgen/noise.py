"""Random draws that belong to an example, not to a place in a batch."""

from collections.abc import Callable

import jax


def per_example(draw: Callable, rng: jax.Array, index: jax.Array) -> jax.Array:
    """Draws once per example, from a key of its own.

    Example i of a data set meets the same noise in any batch size, on any
    number of devices and in any micro-batch, because its key is
    `fold_in(rng, index[i])`.

    Args:
      draw: key -> array of some fixed shape [...].
      rng: the key of this step and purpose.
      index: int32 [B], which example each row is.

    Returns:
      Array [B, ...].
    """
    return jax.vmap(lambda i: draw(jax.random.fold_in(rng, i)))(index)
