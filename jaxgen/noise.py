"""Random numbers that depend on an example, not on its place in a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def per_example(draw: Callable, rng: jax.Array, index: jax.Array) -> jax.Array:
    """Draws once for each example, with the key `fold_in(rng, index[i])`.

    So example i of a data set gets the same noise in any batch size, on any number of
    devices and in any micro-batch.

    Args:
      draw: key -> array of some fixed shape [...].
      rng: the key of this step and purpose.
      index: int32 [B], which example each row is.

    Returns:
      Array [B, ...].
    """
    return jax.vmap(lambda i: draw(jax.random.fold_in(rng, i)))(index)


def normal(rng: jax.Array, index: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise float32 [B, *shape] of examples; arguments as of `per_example`."""
    return per_example(lambda key: jax.random.normal(key, shape), rng, index)


def coin_flips(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform float32 numbers in [0, 1) with 16 random bits each.

    That is enough to decide a grey level of 256 to 1 part in 65,536, at a quarter of the
    cost of `jax.random.uniform`, which keeps 32 of the 64 bits of each Threefry block and
    makes one number of them; `split` keeps all 64, which make four.

    Args:
      key: a typed key.
      shape: of the result.

    Returns:
      float32 array of that shape.
    """
    size = int(np.prod(shape))
    words = jax.random.key_data(jax.random.split(key, (size + 3) // 4))
    quarters = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)
    return quarters[:size].reshape(shape).astype(jnp.float32) / 65536.0


def slerp(first: jax.Array, last: jax.Array, steps: int = 10) -> jax.Array:
    """Spherical linear interpolation between latents.

    The norm of Gaussian noise is nearly constant; points halfway on the straight line would
    be shorter than any draw (White 2016, "Sampling generative networks", section 2.1).

    Args:
      first: [B, L].
      last: [B, L].
      steps: number of points, both ends included.

    Returns:
      [steps, B, L], from `first` to `last`.
    """
    norms = [jnp.linalg.norm(end, axis=-1, keepdims=True) for end in (first, last)]
    cosine = jnp.sum(first * last, -1, keepdims=True) / jnp.maximum(norms[0] * norms[1], 1e-12)
    # The angle of parallel latents is 0 or pi; its sine, 0, must not be the divisor below.
    angle = jnp.clip(jnp.arccos(jnp.clip(cosine, -1.0, 1.0)), 1e-4, np.pi - 1e-4)[None]
    t = jnp.linspace(0.0, 1.0, steps)[:, None, None]
    first, last = first[None], last[None]
    return (jnp.sin((1.0 - t) * angle) * first + jnp.sin(t * angle) * last) / jnp.sin(angle)
