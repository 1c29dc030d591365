"""Soft histograms of every pixel: lightness, colour, fine structure."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.cues.filters import smooth

# Response of a texture filter, in units of white, below which a pixel counts as flat.
FLAT = 0.03


def textons(grey: jax.Array) -> jax.Array:
    """Describes the fine structure around each pixel.

    Bright and dark bars of four orientations and two widths, by their energy; the last
    share is that of no structure.

    Args:
      grey: float [H, W] in [0, 1].

    Returns:
      Shares float [H, W, 17], which sum to 1.
    """
    responses = []
    for sigma in (1.0, 2.0):
        orders = ((2, 0), (0, 2), (1, 1))
        yy, xx, xy = (smooth(grey, sigma, order) * sigma**2 for order in orders)
        for angle in np.pi * np.arange(4) / 4:
            c, s = float(np.cos(angle)), float(np.sin(angle))
            responses.append(c * c * xx + 2.0 * c * s * xy + s * s * yy)
    bars = jnp.stack(responses, -1)
    energy = jnp.concatenate([jnp.maximum(bars, 0.0), jnp.maximum(-bars, 0.0)], -1) ** 2
    total = jnp.sum(energy, -1, keepdims=True) + FLAT**2
    return jnp.concatenate([energy / total, FLAT**2 / total], -1)


def histogram(values: jax.Array, low: float, high: float, bins: int) -> jax.Array:
    """Computes soft membership of bins, linear between their centres.

    Args:
      values: float [...]; those outside [low, high] count as the limit.
      low: centre of the first bin.
      high: centre of the last bin.
      bins: number of bins.

    Returns:
      float [..., bins], which sums to 1.
    """
    place = (jnp.clip(values, low, high) - low) / (high - low) * (bins - 1)
    centres = jnp.broadcast_to(jnp.arange(bins, dtype=place.dtype), (*place.shape, bins))
    return jnp.maximum(0.0, 1.0 - jnp.abs(place[..., None] - centres))


def lab(image: jax.Array) -> jax.Array:
    """Converts sRGB in [0, 1], or grey, to CIE Lab under D65: float [H, W, C] -> [H, W, 3]."""
    rgb = image[..., :3] if image.shape[-1] >= 3 else jnp.repeat(image[..., :1], 3, -1)
    # The argument of the power stays away from 0, where its gradient is not finite.
    power = ((jnp.maximum(rgb, 0.04) + 0.055) / 1.055) ** 2.4
    linear = jnp.where(rgb <= 0.04045, rgb / 12.92, power)
    primaries = jnp.asarray(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ],
        image.dtype,
    )
    share = linear @ (primaries / primaries.sum(1, keepdims=True)).T
    knee = 6.0 / 29.0
    root = jnp.cbrt(jnp.maximum(share, knee**3))
    x, y, z = jnp.moveaxis(
        jnp.where(share > knee**3, root, share / (3.0 * knee**2) + 4.0 / 29.0), -1, 0
    )
    return jnp.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], -1)


def block_means(array: jax.Array, block: int) -> jax.Array:
    """Averages over square blocks; the last row and column are repeated to fill the last blocks.

    Args:
      array: float [H, W, K].
      block: side of a block in pixels.

    Returns:
      float [ceil(H / block), ceil(W / block), K].
    """
    height, width, depth = array.shape
    pads = ((0, -height % block), (0, -width % block), (0, 0))
    whole = jnp.pad(array, pads, mode="edge")
    return whole.reshape(
        whole.shape[0] // block, block, whole.shape[1] // block, block, depth
    ).mean((1, 3))
