"""Nets between images and small maps of latents."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxgen.nets.ladder import Residual
from jaxgen.nets.patches import fold, unfold


class MapEncoder(nn.Module):
    """Residual blocks at each size; between two sizes 2 x 2 pixels become one.

    Called as x [B, H, W, C] -> float32 [B, H / 2^n, W / 2^n, channels] with n = len(widths) - 1.

    Attributes:
      channels: of the result: twice the latents' for normal ones, once for FSQ.
      widths: features at each size, finest first.
      blocks: residual blocks at each size.
      dtype: dtype of the computation; parameters and the result are float32.

    Raises:
      ValueError: when called, sides that cannot be halved that often.
    """

    channels: int
    widths: Sequence[int] = (32, 64, 64)
    blocks: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Computes the map; see the class."""
        least = 2 ** (len(self.widths) - 1)
        if x.shape[1] % least or x.shape[2] % least:
            raise ValueError(
                f"MapEncoder: {len(self.widths)} widths need sides that are multiples of {least}; "
                f"these are {x.shape[1]} x {x.shape[2]}"
            )
        for level, width in enumerate(self.widths):
            x = nn.Conv(width, (3, 3), dtype=self.dtype, name=f"in{level}")(
                fold(x, 1 + (level > 0))
            )
            for number in range(self.blocks):
                x = Residual(self.dtype, name=f"block{level}_{number}")(x)
        return nn.Dense(self.channels, dtype=self.dtype, name="out")(nn.silu(x)).astype(jnp.float32)


class MapDecoder(nn.Module):
    """The mirror of `MapEncoder`.

    Called as z [B, h, w, L] -> float32 [B, h 2^n, w 2^n, channels].

    Attributes:
      channels: of an image.
      widths: as of the encoder, finest first.
      blocks: residual blocks at each size.
      dtype: dtype of the computation; parameters and the result are float32.
    """

    channels: int = 1
    widths: Sequence[int] = (32, 64, 64)
    blocks: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z):
        """Computes the image; see the class."""
        x = nn.Conv(self.widths[-1], (3, 3), dtype=self.dtype, name="in")(z.astype(self.dtype))
        for level in reversed(range(len(self.widths))):
            for number in range(self.blocks):
                x = Residual(self.dtype, name=f"block{level}_{number}")(x)
            if level:
                width = 4 * self.widths[level - 1]
                x = unfold(nn.Conv(width, (1, 1), dtype=self.dtype, name=f"finer{level}")(x), 2)
        out = nn.Conv(self.channels, (3, 3), dtype=self.dtype, name="out")(nn.silu(x))
        return out.astype(jnp.float32)
