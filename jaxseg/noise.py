"""Random numbers per example: functions of (key, index) alone."""

from collections.abc import Callable

import jax


def example_keys(rng: jax.Array, index: jax.Array) -> jax.Array:
    """Derives one key per example, independent of batch and device.

    Args:
      rng: a typed key.
      index: int32 [B], numbers of the examples.

    Returns:
      Typed keys [B].
    """
    return jax.vmap(lambda i: jax.random.fold_in(rng, i))(index)


def per_example(draw: Callable, rng: jax.Array, index: jax.Array) -> jax.Array:
    """Draws for each example with its own key.

    Args:
      draw: (key) -> array.
      rng: a typed key.
      index: int32 [B], numbers of the examples.

    Returns:
      The results, stacked: [B, ...].
    """
    return jax.vmap(draw)(example_keys(rng, index))
