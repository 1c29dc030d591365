"""A transformer over patches of an image, for flows (JiT, Li and He 2025; DiT, Peebles and Xie
2023): adaptive norms, gated units, rotary positions.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nets.multihead import attend
from jaxgen.nets.noise_level import Level
from jaxgen.nets.patches import fold, unfold

LONGEST = 10_000.0  # pixels in a turn of the slowest rotary position, over 2 pi


class ImageTransformer(nn.Module):
    """A net that gives the clean image of a noisy one.

    Called as (z float [B, H, W, C], t float32 [B], condition float [B, K] or None) ->
    float32 [B, H, W, C].

    Attributes:
      patch: side of a patch in pixels; H and W must be multiples of it.
      width: features of a patch, a multiple of 4 heads.
      layers: blocks of attention and gated units.
      heads: of attention.
      expand: features of the gated units as a multiple of `width`.
      bottleneck: features between pixels and width, for large patches; 0 for none.
      dtype: dtype of the computation; parameters and the result are float32.

    Raises:
      ValueError: when called, sides that are no multiples of the patch.
    """

    patch: int = 4
    width: int = 128
    layers: int = 4
    heads: int = 4
    expand: float = 8 / 3
    bottleneck: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z, t, condition=None):
        """Computes the clean image; see the class."""
        height, width, channels = z.shape[1:]
        rows, columns = height // self.patch, width // self.patch
        if (rows * self.patch, columns * self.patch) != (height, width):
            raise ValueError(
                f"ImageTransformer: patch={self.patch} must divide the sides of the image, "
                f"{height} x {width}"
            )
        if self.width % (4 * self.heads):
            raise ValueError(
                f"ImageTransformer: width={self.width} must be a multiple of 4 x heads={self.heads}"
            )
        x = fold(z, self.patch).reshape(len(z), rows * columns, -1).astype(self.dtype)
        if self.bottleneck:
            x = nn.Dense(self.bottleneck, use_bias=False, dtype=self.dtype, name="narrow")(x)
        x = nn.Dense(self.width, dtype=self.dtype, name="embed")(x)
        mode = nn.silu(Level(self.width, self.dtype, name="level")(t, condition))
        turns = _turns(rows, columns, self.width // self.heads)
        for number in range(self.layers):
            block = Block(self.heads, self.expand, self.dtype, name=f"block{number}")
            x = block(x, mode, turns)
        x = _modulated(x, mode, 2, self.dtype, "last")[0]
        x = nn.Dense(
            self.patch**2 * channels,
            kernel_init=nn.initializers.zeros,
            dtype=jnp.float32,
            name="pixels",
        )(x)
        return unfold(x.reshape(len(z), rows, columns, -1), self.patch)


class Block(nn.Module):
    """Attention, then a gated unit, each scaled by the noise level; at first the identity."""

    heads: int
    expand: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, mode, turns):
        """(x [B, N, width], mode [B, width], turns) -> [B, N, width]."""
        y, gate = _modulated(x, mode, 3, self.dtype, "attend")
        x += gate * Attention(self.heads, self.dtype, name="attention")(y, turns)
        y, gate = _modulated(x, mode, 3, self.dtype, "mix")
        inner = 8 * round(self.expand * x.shape[-1] / 8)
        y = nn.Dense(2 * inner, dtype=self.dtype, name="wide")(y)
        y = nn.silu(y[..., :inner]) * y[..., inner:]
        return x + gate * nn.Dense(x.shape[-1], dtype=self.dtype, name="narrow")(y)


class Attention(nn.Module):
    """Attention with normalised queries and keys, and rotary positions (Su et al. 2021)."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, turns):
        """(x [B, N, width], (cos, sin) [N, width / heads / 2] each) -> [B, N, width]."""
        batch, count, width = x.shape
        x = nn.Dense(3 * width, dtype=self.dtype, name="queries_keys_values")(x)
        x = x.reshape(batch, count, 3, self.heads, width // self.heads)
        queries, keys, values = (x[:, :, number] for number in range(3))
        queries = _rotated(RootMeanSquareNorm(self.dtype, name="queries")(queries), turns)
        keys = _rotated(RootMeanSquareNorm(self.dtype, name="keys")(keys), turns)
        x = attend(queries, keys, values)
        return nn.Dense(width, dtype=self.dtype, name="out")(x.reshape(batch, count, width))


class RootMeanSquareNorm(nn.Module):
    """Scales features to a mean square of 1 (Zhang and Sennrich 2019), in float32."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """[..., features] -> [..., features]."""
        size = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (size,)).reshape(
            (1,) * (x.ndim - 1) + (size,)
        )
        x = x.astype(jnp.float32)
        root = jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
        return (scale * x * root).astype(self.dtype)


def _modulated(x, mode, parts, dtype, name):
    """x normalised, scaled and shifted by `mode`; and with three parts a gate, 0 at first."""
    values = nn.Dense(
        parts * x.shape[-1], kernel_init=nn.initializers.zeros, dtype=dtype, name=f"{name}_mode"
    )(mode)[:, None]
    scale, shift, *gate = jnp.split(values, parts, -1)
    return RootMeanSquareNorm(dtype, name=f"{name}_norm")(x) * (1.0 + scale) + shift, *gate


def _turns(rows, columns, size):
    """Cosine and sine of each patch's angles: half of the pairs turn by row, half by column."""
    frequencies = LONGEST ** -(np.arange(size // 4) / (size // 4))
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (row, column)]
    angles = np.concatenate(angles, -1).astype(np.float32)
    return np.cos(angles), np.sin(angles)


def _rotated(x, turns):
    """Turns the pairs of x [B, N, heads, size] by the angles of their patches."""
    cos, sin = (part[None, :, None].astype(x.dtype) for part in turns)
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1)
