"""Layers that several decoders share."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.unet import HE

# Groups of a group norm. They are fewer where the channels are no multiple, or where a group would
# have fewer than four: one value, as of a channel averaged over the image, is 0 when normalised.
GROUPS, LEAST = 8, 4


class Norm(nn.Module):
    """Batch norm or group norm.

    Attributes:
      kind: "batch" or "group".
      frozen_statistics: whether a batch norm uses its running means in training too.
      dtype: dtype of the computation.
    """

    kind: str
    frozen_statistics: bool
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        """Normalises x [B, H, W, C]."""
        if self.kind == "group":
            channels = x.shape[-1]
            groups = math.gcd(min(GROUPS, max(1, channels // LEAST)), channels)
            return nn.GroupNorm(groups, dtype=self.dtype)(x)
        running = self.frozen_statistics or not train
        return nn.BatchNorm(running, momentum=0.95, dtype=self.dtype)(x)


class ConvNorm(nn.Module):
    """Convolution without bias, norm, ReLU.

    Attributes:
      features: output channels.
      kernel: side of the convolution.
      dilation: distance between the pixels that it sees.
      separable: whether it is a convolution of each channel, then a 1 x 1 convolution.
      norm: "batch" or "group".
      frozen_statistics: whether a batch norm uses its running means in training too.
      dtype: dtype of the computation.
    """

    features: int
    kernel: int
    dilation: int = 1
    separable: bool = False
    norm: str = "batch"
    frozen_statistics: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        """Maps [B, H, W, C] to [B, H, W, features]."""
        options = {"use_bias": False, "kernel_init": HE, "dtype": self.dtype}
        wide = {"kernel_dilation": self.dilation}
        side, channels = (self.kernel, self.kernel), x.shape[-1]
        if self.separable:
            x = nn.Conv(channels, side, feature_group_count=channels, **wide, **options)(x)
            x = nn.Conv(self.features, (1, 1), **options)(x)
        else:
            x = nn.Conv(self.features, side, **wide, **options)(x)
        return nn.relu(Norm(self.norm, self.frozen_statistics, self.dtype)(x, train))


def top_down(maps: list[jax.Array]) -> list[jax.Array]:
    """Adds to each map the sum of the coarser ones, enlarged (Lin et al. 2017, section 3).

    The paper repeats pixels, here they are interpolated.

    Args:
      maps: [B, h, w, C], finest first, all of C channels.

    Returns:
      Maps of the same shapes.
    """
    sums = [maps[-1]]
    for finer in maps[-2::-1]:
        sums.append(finer + enlarge(sums[-1], *finer.shape[1:3]))
    return sums[::-1]


def pool_to(x: jax.Array, side: int) -> jax.Array:
    """Averages over side x side regions that cover the map.

    Region i of n pixels reaches from floor(i n / side) to ceil((i + 1) n / side), so that
    regions overlap where `side` does not divide n.

    Args:
      x: [B, h, w, C].
      side: regions along each axis.

    Returns:
      [B, side, side, C].
    """
    rows, columns = (jnp.asarray(_shares(size, side), x.dtype) for size in x.shape[1:3])
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns)


def _shares(size, side):
    """The share [side, size] of each pixel in each region."""
    shares = np.zeros((side, size))
    for region in range(side):
        first, last = region * size // side, -(-(region + 1) * size // side)
        shares[region, first:last] = 1.0 / (last - first)
    return shares
