"""Gated PixelCNN (van den Oord et al. 2016, "Conditional image generation with PixelCNN
decoders"): a stack for the rows above a pixel, and a stack for its own row to the left.

Together their receptive field has no blind spot: it holds all earlier pixels within reach.
The contract of the net is that of `jaxgen.nets.pixelrnn`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nets.masked import (
    Dtype,
    Head,
    MaskedConv,
    PixelDense,
    above,
    begins_row,
    left,
    neighbours,
    remember,
)


class PixelCNN(nn.Module):
    """Layers of gated convolutions, and a head.

    Attributes:
      layers: number of layers.
      features: of each stack.
      head: features of the hidden layer of the head.
      first: side of the convolutions of the first layer.
      kernel: side of the convolutions of the other layers.
      outputs: numbers for each pixel; set by the task.
      groups: channels of the image, or 1; set by the task.
      dtype: dtype that it computes in.
    """

    layers: int = 7
    features: int = 32
    head: int = 64
    first: int = 7
    kernel: int = 3
    outputs: int = 1
    groups: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None, at=None):
        """Computes the outputs of every pixel, or of the pixel `at`; see `jaxgen.nets.pixelrnn`.

        Args:
          x: [B, H, W, C]; not used where `at` is given.
          condition: [B, K], or None.
          at: see `jaxgen.nets.masked`.

        Returns:
          [B, H, W, outputs], or [B, outputs] of one pixel; None where a row begins.
        """
        v = h = remember(self, "x", x if at is None else None, at)
        for number in range(self.layers):
            size = self.kernel if number else self.first
            layer = _Gated(self.features, size, number == 0, self.groups, self.dtype)
            v, h = layer(v, h, condition, at)
        if begins_row(at):
            return None
        return Head(self.head, self.outputs, self.groups, self.dtype, name="head")(h)


class _Gated(nn.Module):
    """One layer of both stacks (figure 2): v of the rows above, h of the row up to a pixel.

    Where a row begins, v of the whole row is computed and cached; at a pixel, h.
    """

    features: int
    size: int
    first: bool
    groups: int
    dtype: Dtype

    @nn.compact
    def __call__(self, v, h, condition, at):
        double = 2 * self.features
        conv = {"groups": self.groups, "parts": 2, "dtype": self.dtype}
        rows = at is None or begins_row(at)
        link = None
        if rows:
            # The first layer takes the rows above only. The others may take their own row
            # too, as its v depends on the rows above only.
            seen = v if self.first else remember(self, "v", v, at)
            offsets = above(self.size, own=not self.first)
            fed = MaskedConv(double, offsets, dtype=self.dtype, name="vertical")(seen, at)
            link = nn.Dense(double, dtype=self.dtype, name="link")(fed)
            v = _gate(fed + self._bias("vertical_condition", condition, at))
        link = remember(self, "link", link, at)
        if begins_row(at):
            return v, None
        seen = h if self.first else remember(self, "h", h, at)
        kind = "A" if self.first else "B"
        fed = MaskedConv(double, left(self.size), kind=kind, name="horizontal", **conv)(seen, at)
        fed = fed + (link if at is None else neighbours(link, ((0, 0),), at))
        out = _gate(fed + self._bias("horizontal_condition", condition, at))
        out = PixelDense(self.features, self.groups, dtype=self.dtype, name="out")(out)
        return v, (out if self.first else h + out)

    def _bias(self, name, condition, at):
        """The bias of the condition, for the gates of every pixel."""
        if condition is None:
            return 0.0
        bias = nn.Dense(2 * self.features, use_bias=False, dtype=self.dtype, name=name)(condition)
        if at is None:
            return bias[:, None, None]
        return bias[None] if begins_row(at) else bias


def _gate(x):
    """tanh of one half of the features times sigmoid of the other (equation 2)."""
    value, gate = jnp.split(x, 2, axis=-1)
    return jnp.tanh(value) * jax.nn.sigmoid(gate)
