"""EdgeNet: a small convolutional net with an edge map at every resolution."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.nets.unet import HE, pad_to_multiple, resize


class EdgeNet(nn.Module):
    """A convolutional net with an edge map at every resolution.

    Called as (x float [B, H, W, C]) -> logits float32 [B, H, W, 1 + stages], the map fused
    of all stages first. Any size works: images are padded to a multiple of the coarsest
    stride, and logits cropped. An encoder with a light decoder and an output at each
    resolution, as HED (Xie and Tu 2015); about 90,000 parameters, few enough to be trained
    from scratch.

    Attributes:
      widths: channels of each stage; each has half the resolution of the one before.
      side: channels of the decoder.
      dilation: of the last stage's second and third convolution, for a larger receptive
        field.
      difference: whether half of the outputs of each stage's first convolution see only
        differences to the centre pixel (pixel difference convolution, Su et al. 2021).
      groups: number of groups of the group norm.
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: when called, if `widths` is empty or a size is below 1.
    """

    widths: tuple[int, ...] = (16, 24, 32, 40)
    side: int = 16
    dilation: int = 2
    difference: bool = True
    groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Computes the logits of a batch; see the class."""
        if not self.widths or min(*self.widths, self.side, self.dilation, self.groups) < 1:
            raise ValueError("EdgeNet: widths, side, dilation and groups must be at least 1")
        height, width = x.shape[1:3]
        x = pad_to_multiple(x, 2 ** (len(self.widths) - 1)).astype(self.dtype)
        stages = []
        for level, features in enumerate(self.widths):
            if level:
                x = nn.max_pool(x, (2, 2), (2, 2))
            dilation = self.dilation if level == len(self.widths) - 1 else 1
            options = self.difference, self.groups, self.dtype
            x = Stage(features, dilation, *options, name=f"stage{level}")(x)
            stages.append(x)
        sides, x = [], None
        for level in reversed(range(len(stages))):
            skip = nn.Conv(self.side, (1, 1), kernel_init=HE, dtype=self.dtype)(stages[level])
            x = skip if x is None else skip + resize(x, 2)
            x = nn.relu(_norm(_conv(self.side, 1, self.dtype)(x), self.groups, self.dtype))
            head = nn.Conv(1, (1, 1), dtype=jnp.float32)
            sides.append(resize(head(x.astype(jnp.float32)), 2**level))
        sides = jnp.concatenate(sides[::-1], -1)
        even = nn.initializers.constant(1.0 / len(stages))
        fused = nn.Conv(1, (1, 1), kernel_init=even, dtype=jnp.float32)(sides)
        return jnp.concatenate([fused, sides], -1)[:, :height, :width]


class Stage(nn.Module):
    """Three convolutions with norms, the last two with a residual connection.

    Attributes:
      features: output channels.
      dilation: of the second and third convolution.
      difference: whether the first is a `DifferenceConv`.
      groups: number of groups of the group norm.
      dtype: dtype of the computation.
    """

    features: int
    dilation: int
    difference: bool
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        """Maps [B, H, W, C] to [B, H, W, features]."""
        conv = lambda dilation: _conv(self.features, dilation, self.dtype)
        norm = lambda x: _norm(x, self.groups, self.dtype)
        first = DifferenceConv(self.features, self.dtype) if self.difference else conv(1)
        x = inputs = nn.relu(norm(first(x)))
        x = nn.relu(norm(conv(self.dilation)(x)))
        return nn.relu(inputs + norm(conv(self.dilation)(x)))


class DifferenceConv(nn.Module):
    """A 3 x 3 convolution; half of the outputs see only differences to the centre pixel.

    The kernels of that half sum to zero over the window, so they respond to change and
    not to brightness. The cost is that of a plain convolution.

    Attributes:
      features: number of output channels; the first half are the differences.
      dtype: dtype of the computation; parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Convolves [B, H, W, C] -> [B, H, W, features]."""
        kernel = self.param("kernel", HE, (3, 3, x.shape[-1], self.features))
        change = kernel[..., : self.features // 2]
        change = change.at[1, 1].add(-change.sum((0, 1)))
        kernel = jnp.concatenate([change, kernel[..., self.features // 2 :]], -1)
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def _conv(features, dilation, dtype):
    return nn.Conv(
        features, (3, 3), use_bias=False, kernel_init=HE, kernel_dilation=dilation, dtype=dtype
    )


def _norm(x, groups, dtype):
    return nn.GroupNorm(math.gcd(groups, x.shape[-1]), dtype=dtype)(x)
