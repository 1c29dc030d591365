"""Nets for translation: a generator of images from images, and a discriminator of patches.

As in `jaxgen.nets.gan`, norms are of one example only, and `dtype` is the dtype that the
layers compute in.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxgen.nets.encoder_decoder import sizes
from jaxgen.nets.gan import Norm, leaky, pixel_shuffle

Dtype = Any


class UNetGenerator(nn.Module):
    """A U-Net with noise at its smallest map (Isola et al. 2017; Ronneberger et al. 2015).

    Every level halves the map by a strided convolution, and doubles it again by a
    convolution whose channels become 2 x 2 pixels (Shi et al. 2016). The decoder gets the
    encoder's map of the same size at every level. Doublings are cropped, so any size works.

    Attributes:
      widths: channels after each halving; the same in the decoder.
      norm: see `jaxgen.nets.gan.Norm`.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (32, 64, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, condition, z, shape):
        """Generates images.

        Args:
          condition: [B, H, W, K].
          z: noise [B, L]; L may be 0.
          shape: (H, W, C) of the images.

        Returns:
          float32 [B, H, W, C], before tanh.
        """
        *larger, smallest = sizes(shape, len(self.widths))
        x, skips = condition.astype(self.dtype), []
        for level, width in enumerate(self.widths):
            skips.append(x)
            x = nn.Conv(width, (4, 4), strides=2, dtype=self.dtype)(x)
            x = leaky(Norm(self.norm, self.dtype)(x) if level else x)
        if z.shape[-1]:
            noise = nn.Dense(math.prod(smallest) * self.widths[-1], dtype=self.dtype)(z)
            noise = nn.relu(noise).reshape(-1, *smallest, self.widths[-1])
            x = jnp.concatenate([x, noise], axis=-1)
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
      widths: channels after each halving by a 4 x 4 convolution of stride 2; two more of
        stride 1 follow. With two widths the receptive field is 34 x 34 pixels.
      norm: see `jaxgen.nets.gan.Norm`; the first layer has none.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (32, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """Computes the logits of patches.

        Args:
          x: [B, H, W, C].
          condition: [B, H, W, K], concatenated to x, or None.

        Returns:
          float32 [B, h, w].
        """
        sizes(x.shape[1:], len(self.widths))
        if condition is not None:
            x = jnp.concatenate([x, condition], axis=-1)
        for level, width in enumerate((*self.widths, 2 * self.widths[-1])):
            strides = 2 if level < len(self.widths) else 1
            x = nn.Conv(width, (4, 4), strides=strides, dtype=self.dtype)(x)
            x = leaky(Norm(self.norm, self.dtype)(x) if level else x)
        return nn.Conv(1, (4, 4), dtype=self.dtype)(x)[..., 0].astype(jnp.float32)
