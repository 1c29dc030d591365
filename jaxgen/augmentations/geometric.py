"""Augmentations (example, rng) -> example, for one example inside a compiled step."""

import jax
import jax.numpy as jnp


def flip(example: dict, rng: jax.Array) -> dict:
    """Mirrors an image left to right with probability 1/2.

    Args:
      example: with `image` [H, W, C].
      rng: key of the example.

    Returns:
      The example with its new image.
    """
    image = example["image"]
    return example | {"image": jnp.where(jax.random.bernoulli(rng), image[:, ::-1], image)}


def shift(example: dict, rng: jax.Array, pixels: int = 1) -> dict:
    """Moves an image at random and fills with black, 0.

    Args:
      example: with `image` uint8 [H, W, C].
      rng: key of the example.
      pixels: largest move in each direction.

    Returns:
      The example with its new image.
    """
    image = example["image"]
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    corner = jax.random.randint(rng, (2,), 0, 2 * pixels + 1)
    start = (corner[0], corner[1], jnp.zeros_like(corner[0]))
    return example | {"image": jax.lax.dynamic_slice(padded, start, image.shape)}
