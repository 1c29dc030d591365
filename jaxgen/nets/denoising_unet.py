"""A U-Net with attention for flows and diffusion models (Ho et al. 2020; Song et al. 2021b)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxgen.nets.multihead import attend
from jaxgen.nets.noise_level import Level
from jaxgen.nets.patches import fold, unfold

GROUPS = 32  # of a group norm, at most; four channels a group at least


class DenoisingUNet(nn.Module):
    """A net that gives the clean image of a noisy one.

    Called as (z float [B, H, W, C], t float32 [B], condition float [B, K] or None) ->
    float32 [B, H, W, C]. Each level has half the sides of the one before.

    Attributes:
      patch: side of the patches of pixels that the first level begins with; larger is faster.
      width: channels of the first level.
      multiples: channels of each level as multiples of `width`.
      blocks: residual blocks of a level, on the way down; one more on the way up.
      attention: sides of the maps whose blocks are followed by attention.
      heads: of attention.
      dtype: dtype of the computation; parameters and the result are float32.

    Raises:
      ValueError: when called, sides that are no multiples of the strides.
    """

    patch: int = 1
    width: int = 64
    multiples: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (16, 8)
    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z, t, condition=None):
        """Computes the clean image; see the class."""
        stride = self.patch * 2 ** (len(self.multiples) - 1)
        if z.shape[1] % stride or z.shape[2] % stride:
            raise ValueError(
                f"DenoisingUNet: {len(self.multiples)} levels and patch={self.patch} need sides "
                f"that are multiples of {stride}, not {z.shape[1]} x {z.shape[2]}"
            )
        mode = nn.silu(Level(4 * self.width, self.dtype, name="level")(t, condition))
        conv = partial(nn.Conv, kernel_size=(3, 3), dtype=self.dtype)
        x = conv(self.width, name="first")(fold(z, self.patch).astype(self.dtype))
        kept = [x]
        for level, multiple in enumerate(self.multiples):
            for number in range(self.blocks):
                x = self._block(x, mode, multiple, f"down{level}_{number}")
                kept.append(x)
            if level + 1 < len(self.multiples):
                x = conv(x.shape[-1], strides=(2, 2), name=f"halve{level}")(x)
                kept.append(x)
        x = Residual(x.shape[-1], self.dtype, name="middle0")(x, mode)
        x = Attend(self.heads, self.dtype, name="middle_attention")(x)
        x = Residual(x.shape[-1], self.dtype, name="middle1")(x, mode)
        for level, multiple in reversed(list(enumerate(self.multiples))):
            for number in range(self.blocks + 1):
                x = jnp.concatenate([x, kept.pop()], -1)
                x = self._block(x, mode, multiple, f"up{level}_{number}")
            if level:
                x = conv(x.shape[-1], name=f"double{level}")(_doubled(x))
        x = nn.silu(_norm(x, self.dtype, "last_norm"))
        zeros = nn.initializers.zeros
        outputs = self.patch**2 * z.shape[-1]
        last = nn.Conv(outputs, (3, 3), kernel_init=zeros, dtype=jnp.float32, name="last")
        return unfold(last(x.astype(jnp.float32)), self.patch)

    def _block(self, x, mode, multiple, name):
        """A residual block, and attention where the map is of a side that asks for it."""
        x = Residual(multiple * self.width, self.dtype, name=name)(x, mode)
        if x.shape[1] in self.attention:
            x = Attend(self.heads, self.dtype, name=f"{name}_attention")(x)
        return x


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the noise level scales and shifts between them.

    (x [B, H, W, C], mode [B, M]) -> [B, H, W, features].
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, mode):
        """Computes the block; see the class."""
        conv = partial(nn.Conv, self.features, (3, 3), dtype=self.dtype)
        y = conv(name="first")(nn.silu(_norm(x, self.dtype, "first_norm")))
        values = nn.Dense(2 * self.features, dtype=self.dtype, name="mode")(mode)[:, None, None]
        scale, shift = jnp.split(values, 2, -1)
        y = nn.silu(_norm(y, self.dtype, "second_norm") * (1.0 + scale) + shift)
        y = conv(kernel_init=nn.initializers.zeros, name="second")(y)
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features, dtype=self.dtype, name="shortcut")(x)
        return (x + y) * np.asarray(np.sqrt(0.5), self.dtype)


class Attend(nn.Module):
    """Attention over all pixels of a map, added to it; at first the identity."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """[B, H, W, C] -> [B, H, W, C]."""
        batch, height, width, channels = x.shape
        if channels % self.heads:
            raise ValueError(f"heads={self.heads} must divide the channels, {channels}")
        y = _norm(x, self.dtype, "norm").reshape(batch, height * width, channels)
        y = nn.Dense(3 * channels, dtype=self.dtype, name="queries_keys_values")(y)
        y = y.reshape(batch, height * width, 3, self.heads, channels // self.heads)
        y = attend(*(y[:, :, number] for number in range(3)))
        zeros = nn.initializers.zeros
        out = nn.Dense(channels, kernel_init=zeros, dtype=self.dtype, name="out")
        return x + out(y.reshape(x.shape))


def _norm(x, dtype, name):
    channels = x.shape[-1]
    groups = np.gcd(min(GROUPS, max(1, channels // 4)), channels)
    return nn.GroupNorm(int(groups), dtype=dtype, name=name)(x)


def _doubled(x):
    """Repeats each pixel twice along both sides."""
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
