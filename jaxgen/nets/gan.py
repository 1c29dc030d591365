"""Generators and discriminators for images of any size.

A generator maps (z [B, L], shape (H, W, C)) to [B, H, W, C], before tanh. A
discriminator maps (x [B, H, W, C], condition [B, K] or None) to logits [B], or
[B, h, w] of patches. Any Flax module with these signatures can take their place.

Every norm here is of one example only. With batch norm a row would depend on the other rows
of its device, so runs on one and on eight devices would differ, and the discriminator could
tell which images were in one batch.

`dtype` is the dtype that the layers compute in; parameters and outputs stay float32.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nets.encoder_decoder import sizes

Dtype = Any

leaky = partial(nn.leaky_relu, negative_slope=0.2)


class Norm(nn.Module):
    """Normalises one example.

    Attributes:
      kind: "group" (Wu and He 2018); "pixel", which divides the features of each pixel by
        their root mean square (Karras et al. 2018); or "none".
      dtype: dtype that it computes in.
    """

    kind: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Normalises x [B, h, w, features]; raises ValueError for an unknown kind."""
        if self.kind == "group":
            return nn.GroupNorm(num_groups=math.gcd(8, x.shape[-1]), dtype=self.dtype)(x)
        if self.kind == "pixel":
            return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-8)
        if self.kind != "none":
            raise ValueError(f"norm must be group, pixel or none; got {self.kind!r}")
        return x


class DCGANGenerator(nn.Module):
    """A dense layer to the smallest map, then a doubling at each level (Radford et al. 2016).

    A doubling is a 3 x 3 convolution to four times the channels, rearranged to 2 x 2 pixels
    (Shi et al. 2016). It has the receptive field of DCGAN's transposed convolution without
    its checkerboard pattern, and is several times as fast on CPUs. Odd sizes are cropped.

    Attributes:
      widths: channels of each level below full size, from large maps to small ones; one
        doubling for each.
      norm: see `Norm`.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (32, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z, shape):
        """Generates float32 images [B, *shape], before tanh, from z [B, L]; shape is (H, W, C)."""
        *larger, smallest = sizes(shape, len(self.widths))
        x = nn.Dense(math.prod(smallest) * self.widths[-1], dtype=self.dtype)(z)
        x = x.reshape(-1, *smallest, self.widths[-1])
        features = [shape[2], *self.widths[:-1]]
        for level in reversed(range(len(self.widths))):
            x = nn.relu(Norm(self.norm, self.dtype)(x))
            x = nn.Conv(4 * features[level], (3, 3), dtype=self.dtype)(x)
            x = pixel_shuffle(x)[:, : larger[level][0], : larger[level][1]]
        return x.astype(jnp.float32)


class DCGANDiscriminator(nn.Module):
    """Strided convolutions of 4 x 4 and one dense layer (Radford et al. 2016).

    The condition enters by projection (Miyato and Koyama 2018).

    Attributes:
      widths: channels after each halving.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (32, 64)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """Logits float32 [B] of images x [B, H, W, C] and their condition [B, K] or None."""
        sizes(x.shape[1:], len(self.widths))
        for width in self.widths:
            x = leaky(nn.Conv(width, (4, 4), strides=2, dtype=self.dtype)(x))
        return _projection(x.reshape(x.shape[0], -1), condition, self.dtype)


class MLPDiscriminator(nn.Module):
    """Fully connected layers, for very small images.

    The condition enters by projection (Miyato and Koyama 2018).

    Attributes:
      widths: of the hidden layers.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (256, 256)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """Logits float32 [B] of images x [B, H, W, C] and their condition [B, K] or None."""
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = leaky(nn.Dense(width, dtype=self.dtype)(x))
        return _projection(x, condition, self.dtype)


class ResidualGenerator(nn.Module):
    """Residual blocks that double the map, as in SNGAN (Miyato et al. 2018).

    Attributes:
      widths: channels of each level below full size, from large maps to small ones.
      norm: see `Norm`.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (64, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z, shape):
        """Generates float32 images [B, *shape], before tanh, from z [B, L]; shape is (H, W, C)."""
        *larger, smallest = sizes(shape, len(self.widths))
        x = nn.Dense(math.prod(smallest) * self.widths[-1], dtype=self.dtype)(z)
        x = x.reshape(-1, *smallest, self.widths[-1])
        for level in reversed(range(len(self.widths))):
            block = _Doubling(
                self.widths[level], larger[level], self.norm, self.dtype, name=f"level{level}"
            )
            x = block(x)
        x = nn.relu(Norm(self.norm, self.dtype)(x))
        return nn.Conv(shape[2], (3, 3), dtype=self.dtype)(x).astype(jnp.float32)


class _Doubling(nn.Module):
    """A residual block that doubles a map, cropped to `size`."""

    width: int
    size: tuple[int, int]
    norm: str
    dtype: Dtype

    @nn.compact
    def __call__(self, x):
        conv = partial(nn.Conv, self.width, dtype=self.dtype)
        y = conv((3, 3))(_doubled(nn.relu(Norm(self.norm, self.dtype)(x)), self.size))
        y = conv((3, 3))(nn.relu(Norm(self.norm, self.dtype)(y)))
        return y + _doubled(conv((1, 1))(x), self.size)


class ResidualDiscriminator(nn.Module):
    """Residual blocks that halve the map, as in SNGAN (Miyato et al. 2018).

    Features are summed over all pixels. The condition enters by projection (Miyato and
    Koyama 2018).

    Attributes:
      widths: channels after each halving.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (64, 64)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """Logits float32 [B] of images x [B, H, W, C] and their condition [B, K] or None."""
        sizes(x.shape[1:], len(self.widths))
        for level, width in enumerate(self.widths):
            x = _Halving(width, level > 0, self.dtype, name=f"level{level}")(x)
        conv = partial(nn.Conv, dtype=self.dtype)
        y = conv(self.widths[-1], (3, 3))(nn.relu(x))
        x = x + conv(self.widths[-1], (3, 3))(nn.relu(y))
        return _projection(nn.relu(x).sum(axis=(1, 2)), condition, self.dtype)


class _Halving(nn.Module):
    """A residual block that halves a map; `activate`: whether it begins with a ReLU."""

    width: int
    activate: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x):
        conv = partial(nn.Conv, self.width, dtype=self.dtype)
        pool = partial(
            nn.avg_pool,
            window_shape=(2, 2),
            strides=(2, 2),
            padding="SAME",
            count_include_pad=False,
        )
        y = conv((3, 3))(nn.relu(x) if self.activate else x)
        y = conv((3, 3))(nn.relu(y))
        return pool(y) + conv((1, 1))(pool(x))


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """Rearranges groups of four channels to 2 x 2 pixels (Shi et al. 2016).

    Args:
      x: [B, h, w, 4 C].

    Returns:
      [B, 2 h, 2 w, C].
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


def _doubled(x, size):
    """Each pixel as 2 x 2 pixels, cropped to the size (H, W)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : size[0], : size[1]]


def _projection(features, condition, dtype):
    """Logits [B]: linear in the features, plus their product with the class's embedding."""
    features = features.astype(dtype)
    logits = nn.Dense(1, dtype=dtype, name="logit")(features)[:, 0]
    if condition is not None:
        embedding = nn.Dense(features.shape[-1], use_bias=False, dtype=dtype, name="classes")
        logits += jnp.sum(embedding(condition) * features, axis=-1)
    return logits.astype(jnp.float32)
