"""Generators and discriminators for images of any size.

A generator maps (z [B, L], shape (H, W, C)) to [B, H, W, C], before tanh. A
discriminator maps (x [B, H, W, C], condition [B, K] or None) to logits [B], or
[B, h, w] of patches. Any Flax module with these signatures can take their place.

Every norm here is of one example alone. Batch norm would tie a row to the others of
its device, and runs on one and on eight devices would differ; it would also tell the
discriminator which images came together.

`dtype` is what the layers compute in; parameters and outputs stay float32.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any

leaky = partial(nn.leaky_relu, negative_slope=0.2)


def sizes(shape: Sequence[int], halvings: int) -> list[tuple[int, int]]:
    """(H, W) after 0, 1, ..., `halvings` halvings, each rounded up.

    Raises:
      ValueError: the image is smaller than that.
    """
    least = 2**halvings
    if min(shape[:2]) < least:
        raise ValueError(
            f"{halvings} halvings need images of at least {least} x {least} pixels; got "
            f"{shape[0]} x {shape[1]}. Give the net fewer widths, or larger images."
        )
    found = [tuple(shape[:2])]
    for _ in range(halvings):
        found.append(tuple((side + 1) // 2 for side in found[-1]))
    return found


class Norm(nn.Module):
    """Normalises one example: "group" (Wu and He 2018), "pixel" or "none".

    "pixel" divides each place's features by their root mean square (Karras et al. 2018).
    """

    kind: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        """x [B, h, w, features], normalised."""
        if self.kind == "group":
            return nn.GroupNorm(num_groups=math.gcd(8, x.shape[-1]), dtype=self.dtype)(x)
        if self.kind == "pixel":
            return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-8)
        if self.kind != "none":
            raise ValueError(f"norm must be group, pixel or none; got {self.kind!r}")
        return x


class DCGANGenerator(nn.Module):
    """Doublings by convolution, after Radford et al. 2016.

    A dense layer makes the smallest map, then each level doubles it. A doubling is a
    3 x 3 convolution to four times the channels, laid out as 2 x 2 pixels (Shi et al.
    2016): the reach of DCGAN's transposed convolution without its holes, and on CPUs
    several times as fast. Odd sizes are cropped.

    Attributes:
      widths: channels of each level below full size, from large maps to small ones; as
        many doublings as widths.
      norm: see `Norm`.
    """

    widths: Sequence[int] = (32, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z, shape):
        """z [B, L] -> [B, *shape], before tanh."""
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
    """Strided convolutions and one dense layer, after Radford et al. 2016.

    With a condition, the classes meet the image by projection (Miyato and Koyama 2018).

    Attributes:
      widths: channels after each halving.
    """

    widths: Sequence[int] = (32, 64)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """x [B, H, W, C] -> logits [B]."""
        sizes(x.shape[1:], len(self.widths))
        for width in self.widths:
            x = leaky(nn.Conv(width, (4, 4), strides=2, dtype=self.dtype)(x))
        return _projection(x.reshape(x.shape[0], -1), condition, self.dtype)


class MLPDiscriminator(nn.Module):
    """Fully connected layers over all pixels, for very small images."""

    widths: Sequence[int] = (256, 256)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """x [B, H, W, C] -> logits [B]."""
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = leaky(nn.Dense(width, dtype=self.dtype)(x))
        return _projection(x, condition, self.dtype)


class ResidualGenerator(nn.Module):
    """Residual blocks that double the map, after SNGAN (Miyato et al. 2018).

    Attributes:
      widths: channels of each level below full size, from large maps to small ones.
      norm: see `Norm`.
    """

    widths: Sequence[int] = (64, 64)
    norm: str = "group"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z, shape):
        """z [B, L] -> [B, *shape], before tanh."""
        *larger, smallest = sizes(shape, len(self.widths))
        conv = partial(nn.Conv, dtype=self.dtype)
        x = nn.Dense(math.prod(smallest) * self.widths[-1], dtype=self.dtype)(z)
        x = x.reshape(-1, *smallest, self.widths[-1])
        for level in reversed(range(len(self.widths))):
            width, size = self.widths[level], larger[level]
            y = _doubled(nn.relu(Norm(self.norm, self.dtype)(x)), size)
            y = conv(width, (3, 3))(y)
            y = conv(width, (3, 3))(nn.relu(Norm(self.norm, self.dtype)(y)))
            x = y + _doubled(conv(width, (1, 1))(x), size)
        x = nn.relu(Norm(self.norm, self.dtype)(x))
        return conv(shape[2], (3, 3))(x).astype(jnp.float32)


class ResidualDiscriminator(nn.Module):
    """Residual blocks that halve the map, after SNGAN (Miyato et al. 2018).

    Features are summed over places, then projected.

    Attributes:
      widths: channels after each halving.
    """

    widths: Sequence[int] = (64, 64)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """x [B, H, W, C] -> logits [B]."""
        sizes(x.shape[1:], len(self.widths))
        conv = partial(nn.Conv, dtype=self.dtype)
        pool = partial(
            nn.avg_pool,
            window_shape=(2, 2),
            strides=(2, 2),
            padding="SAME",
            count_include_pad=False,
        )
        for level, width in enumerate(self.widths):
            y = conv(width, (3, 3))(nn.relu(x) if level else x)
            y = conv(width, (3, 3))(nn.relu(y))
            x = pool(y) + conv(width, (1, 1))(pool(x))
        y = conv(self.widths[-1], (3, 3))(nn.relu(x))
        x = x + conv(self.widths[-1], (3, 3))(nn.relu(y))
        return _projection(nn.relu(x).sum(axis=(1, 2)), condition, self.dtype)


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """[B, h, w, 4 C] -> [B, 2 h, 2 w, C], four channels to 2 x 2 pixels."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


def _doubled(x, size):
    """Each pixel four times, cropped to the size."""
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : size[0], : size[1]]


def _projection(features, condition, dtype):
    """Logits [B]: a linear one, and the features' product with the class's embedding."""
    features = features.astype(dtype)
    logits = nn.Dense(1, dtype=dtype, name="logit")(features)[:, 0]
    if condition is not None:
        embedding = nn.Dense(features.shape[-1], use_bias=False, dtype=dtype, name="classes")
        logits += jnp.sum(embedding(condition) * features, axis=-1)
    return logits.astype(jnp.float32)
