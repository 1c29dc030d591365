"""Nets that draw an image from an image, and judge it patch by patch.

As in `jaxgen.nets.gan`, norms are of one example alone, and `dtype` is what layers
compute in.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxgen.nets.gan import Norm, leaky, pixel_shuffle, sizes

Dtype = Any


class UNetGenerator(nn.Module):
    """A U-Net that takes noise at its smallest map (Isola et al. 2017; Ronneberger 2015).

    Every level halves the image by a strided convolution and doubles it again by a
    convolution to 2 x 2 pixels (Shi et al. 2016); what the encoder saw at a size is given
    to the decoder at that size. Any size works: doublings are cropped.

    Attributes:
      widths: channels after each halving; the decoder has the same.
      norm: see `jaxgen.nets.gan.Norm`.
    """

    widths: Sequence[int] = (32, 64, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, condition, z, shape):
        """condition [B, H, W, K], z [B, L] -> [B, *shape], before tanh; L may be 0."""
        *larger, smallest = sizes(shape, len(self.widths))
        x, skips = condition.astype(self.dtype), []
        for level, width in enumerate(self.widths):
            skips.append(x)
            x = nn.Conv(width, (4, 4), strides=2, dtype=self.dtype)(x)
            x = leaky(Norm(self.norm, self.dtype)(x) if level else x)
        if z.shape[-1]:
            spread = nn.Dense(math.prod(smallest) * self.widths[-1], dtype=self.dtype)(z)
            spread = nn.relu(spread).reshape(-1, *smallest, self.widths[-1])
            x = jnp.concatenate([x, spread], axis=-1)
        features = [self.widths[0], *self.widths[:-1]]
        for level in reversed(range(len(self.widths))):
            x = pixel_shuffle(nn.Conv(4 * features[level], (3, 3), dtype=self.dtype)(x))
            x = x[:, : larger[level][0], : larger[level][1]]
            x = nn.relu(Norm(self.norm, self.dtype)(x))
            x = jnp.concatenate([x, skips[level]], axis=-1)
        return nn.Conv(shape[2], (3, 3), dtype=self.dtype)(x).astype(jnp.float32)


class PatchDiscriminator(nn.Module):
    """Logits of overlapping patches (PatchGAN, Isola et al. 2017, section 3.2.2).

    Attributes:
      widths: channels after each halving, 4 x 4 convolutions of stride 2; two more of
        stride 1 follow. With (32, 64) a logit sees 34 x 34 pixels.
      norm: see `jaxgen.nets.gan.Norm`; not at the first layer.
    """

    widths: Sequence[int] = (32, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """x [B, H, W, C] -> logits [B, h, w]; `condition` [B, H, W, K] is put beside x."""
        sizes(x.shape[1:], len(self.widths))
        if condition is not None:
            x = jnp.concatenate([x, condition], axis=-1)
        for level, width in enumerate((*self.widths, 2 * self.widths[-1])):
            strides = 2 if level < len(self.widths) else 1
            x = nn.Conv(width, (4, 4), strides=strides, dtype=self.dtype)(x)
            x = leaky(Norm(self.norm, self.dtype)(x) if level else x)
        return nn.Conv(1, (4, 4), dtype=self.dtype)(x)[..., 0].astype(jnp.float32)
