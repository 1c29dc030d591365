"""Encoders and decoders for images of any size.

An encoder maps (x [B, H, W, C], condition [B, K] or None) to the mean and log
standard deviation of a diagonal Gaussian, each [B, latents]. A decoder maps
(z [B, latents + K], shape (H, W, C)) to [B, H, W, C]. Any Flax module with
these signatures can take their place.

`dtype` is the dtype that the layers compute in; parameters and outputs stay float32.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

Dtype = Any


def sizes(shape: Sequence[int], halvings: int) -> list[tuple[int, int]]:
    """Sizes of an image after 0, 1, ..., `halvings` halvings, each rounded up.

    Args:
      shape: (H, W, ...) of the image.
      halvings: number of halvings, one for each width of a net.

    Returns:
      [(H, W), ...], `halvings` + 1 of them.

    Raises:
      ValueError: a side of the image is shorter than 2^halvings.
    """
    least = 2**halvings
    if min(shape[:2]) < least:
        raise ValueError(
            f"{halvings} widths halve the image {halvings} times, so its sides must be at least "
            f"{least} pixels; got {shape[0]} x {shape[1]}. Give fewer widths or larger images."
        )
    result = [tuple(shape[:2])]
    for _ in range(halvings):
        result.append(tuple((side + 1) // 2 for side in result[-1]))
    return result


def _activation(name: str):
    """The activation of that name in flax.linen."""
    if not callable(function := getattr(nn, name, None)):
        raise ValueError(f"no activation {name!r} in flax.linen; try relu, gelu, silu or tanh")
    return function


def _gaussian_head(features, condition, latents, dtype):
    """Mean and log standard deviation from flat features and the condition."""
    if condition is not None:
        features = jnp.concatenate([features, condition.astype(features.dtype)], axis=-1)
    outputs = nn.Dense(2 * latents, dtype=dtype, name="posterior")(features)
    return jnp.split(outputs.astype(jnp.float32), 2, axis=-1)


class MLPEncoder(nn.Module):
    """Fully connected encoder.

    Attributes:
      latents: length of z.
      widths: of the hidden layers.
      activation: name of a function in flax.linen.
      dtype: dtype that the layers compute in.
    """

    latents: int
    widths: Sequence[int] = (500,)
    activation: str = "relu"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """Infers latents.

        Args:
          x: [B, H, W, C].
          condition: [B, K], or None.

        Returns:
          Mean and log standard deviation, float32 [B, latents] each.
        """
        features = x.reshape(x.shape[0], -1)
        if condition is not None:
            features = jnp.concatenate([features, condition], axis=-1)
        for width in self.widths:
            features = _activation(self.activation)(nn.Dense(width, dtype=self.dtype)(features))
        return _gaussian_head(features, None, self.latents, self.dtype)


class MLPDecoder(nn.Module):
    """Fully connected decoder.

    Attributes:
      widths: of the hidden layers.
      activation: name of a function in flax.linen.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (500,)
    activation: str = "relu"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z, shape):
        """Decodes latents z [B, L] to float32 [B, *shape], with shape (H, W, C)."""
        for width in self.widths:
            z = _activation(self.activation)(nn.Dense(width, dtype=self.dtype)(z))
        height, width, channels = shape
        outputs = nn.Dense(height * width * channels, dtype=self.dtype)(z)
        return outputs.reshape(-1, *shape).astype(jnp.float32)


class ConvEncoder(nn.Module):
    """Convolutions of 3 x 3 with stride 2, then a dense layer.

    Attributes:
      latents: length of z.
      widths: channels after each halving.
      activation: name of a function in flax.linen.
      dtype: dtype that the layers compute in.
    """

    latents: int
    widths: Sequence[int] = (32, 64)
    activation: str = "relu"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None):
        """Infers latents.

        Args:
          x: [B, H, W, C].
          condition: [B, K], or None.

        Returns:
          Mean and log standard deviation, float32 [B, latents] each.
        """
        sizes(x.shape[1:], len(self.widths))
        for width in self.widths:
            x = nn.Conv(width, (3, 3), strides=2, padding="SAME", dtype=self.dtype)(x)
            x = _activation(self.activation)(x)
        return _gaussian_head(x.reshape(x.shape[0], -1), condition, self.latents, self.dtype)


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`, with transposed convolutions of 4 x 4.

    Each doubling is cropped to the size that the encoder had, so odd sizes work.

    Attributes:
      widths: as of the encoder; used from the last to the first.
      activation: name of a function in flax.linen.
      dtype: dtype that the layers compute in.
    """

    widths: Sequence[int] = (32, 64)
    activation: str = "relu"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z, shape):
        """Decodes latents z [B, L] to float32 [B, *shape], with shape (H, W, C)."""
        activation = _activation(self.activation)
        *larger, smallest = sizes(shape, len(self.widths))
        x = nn.Dense(smallest[0] * smallest[1] * self.widths[-1], dtype=self.dtype)(z)
        x = activation(x).reshape(-1, *smallest, self.widths[-1])
        features = [shape[2], *self.widths[:-1]]
        for level in reversed(range(len(self.widths))):
            x = nn.ConvTranspose(features[level], (4, 4), strides=(2, 2), dtype=self.dtype)(x)
            x = x[:, : larger[level][0], : larger[level][1]]
            if level:
                x = activation(x)
        return x.astype(jnp.float32)
