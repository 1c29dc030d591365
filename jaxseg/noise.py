"""Noise that belongs to an example: a function of (key, index) alone."""

from collections.abc import Callable

import jax


def example_keys(rng: jax.Array, index: jax.Array) -> jax.Array:
    """One key per example [B], whatever batch or device the example is in."""
    return jax.vmap(lambda i: jax.random.fold_in(rng, i))(index)


def per_example(draw: Callable, rng: jax.Array, index: jax.Array) -> jax.Array:
    """Stacks draw(key) of each example, with a key from (rng, index[i]): [B, ...]."""
    return jax.vmap(draw)(example_keys(rng, index))
