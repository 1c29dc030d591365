"""Exact Euclidean distance transforms on the device."""

import jax
import jax.numpy as jnp

# The squared distance if there is no True pixel: larger than any other, and finite.
FAR = 1e12


def squared_distance(mask: jax.Array) -> jax.Array:
    """Computes the squared distance of every pixel to the nearest True pixel.

    The separable lower envelope of Felzenszwalb and Huttenlocher (2012), by brute
    force along each axis: H W (H + W) additions, which vector units do in parallel.

    Args:
      mask: bool [H, W].

    Returns:
      float32 [H, W], in squared pixels; `FAR` everywhere if the mask is empty.
    """
    height, width = mask.shape
    start = jnp.where(mask, 0.0, FAR)
    rows = _envelope(start, width)
    return jnp.minimum(_envelope(rows.T, height).T, FAR)


def distance(mask: jax.Array) -> jax.Array:
    """Computes the distance of every pixel to the nearest True pixel.

    Args:
      mask: bool [H, W].

    Returns:
      float32 [H, W], in pixels; sqrt(FAR) everywhere if the mask is empty.
    """
    return jnp.sqrt(squared_distance(mask))


def signed_distance(mask: jax.Array) -> jax.Array:
    """Computes the distance to the region's border: positive outside, negative inside.

    Outside it is the distance to the region, inside minus (distance to the rest - 1),
    so that border pixels are 0 (Kervadec et al. 2019).

    Args:
      mask: bool [H, W], the region.

    Returns:
      float32 [H, W], in pixels; 0 everywhere if the region is empty or covers the image,
      because then there is no border.
    """
    outside, inside = distance(mask), distance(~mask)
    signed = jnp.where(mask, 1.0 - inside, outside)
    return jnp.where(mask.any() & ~mask.all(), signed, 0.0)


def _envelope(costs, size):
    """min over x of costs[y, x] + (x - x')^2, for every x': [H, W] -> [H, W]."""
    place = jnp.arange(size, dtype=jnp.float32)
    gaps = (place[:, None] - place[None, :]) ** 2
    return jnp.min(costs[:, None, :] + gaps[None], axis=-1)
