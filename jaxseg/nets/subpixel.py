"""Sub-pixel convolution: a coarse map's channels laid out as the pixels of a finer one.

Shi et al. 2016, "Real-time single image and video super-resolution using an efficient sub-pixel
convolutional neural network". Outlines become as fine as the result, at the price of a
convolution of the coarse map.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def convolution(channels: int, side: int, factors: tuple[int, int], name: str) -> Callable:
    """A layer from a coarse map to a finer one.

    At first all pixels of one coarse pixel are alike (Aitken et al. 2017), so that no pattern of
    a checkerboard has to be unlearnt.

    Args:
      channels: of the result.
      side: of the kernel, in coarse pixels.
      factors: fine pixels for a coarse one, downwards and across.
      name: of the layer, which is a Flax convolution.

    Returns:
      [B, h, w, D] -> [B, factors[0] h, factors[1] w, channels].
    """
    count = math.prod(factors)

    def alike(key, shape, dtype=jnp.float32):
        small = nn.initializers.lecun_normal()(key, (*shape[:-1], channels), dtype)
        return jnp.tile(small, count)

    inner = nn.Conv(channels * count, (side, side), kernel_init=alike, name=name)
    return lambda x: spread(inner(x), factors)


def spread(x: jax.Array, factors: tuple[int, int]) -> jax.Array:
    """Lays channels out as pixels.

    Args:
      x: [B, h, w, a b K] with factors (a, b).
      factors: fine pixels for a coarse one, downwards and across.

    Returns:
      [B, a h, b w, K]: pixel (i, j) of the a x b takes the channels from (i b + j) K on.
    """
    batch, height, width, channels = x.shape
    down, across = factors
    x = x.reshape(batch, height, width, down, across, channels // (down * across))
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * down, width * across, -1)
