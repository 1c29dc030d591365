"""PixelRNN: residual layers of LSTMs over an image (van den Oord et al. 2016).

A net for `jaxgen.autoregressive.pixel_rnn` is a module with two fields that the task sets,
`outputs` (numbers for each pixel) and `groups` (the channels of the image, or 1 where pixels
are not divided into channels), and

  (x [B, H, W, C], condition [B, K] or None, at=None) -> [B, H, W, outputs].

Called with at = (row, None) before a row and with (row, column) at each pixel of it, the net
gives [B, outputs] of that pixel from the collection `cache`, see `jaxgen.nets.masked`. The
map `x` [H, W, B, C] in the cache holds the values of the image so far.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxgen.nets.diagonal_lstm import DiagonalBiLSTM
from jaxgen.nets.masked import Dtype, Head, MaskedConv, PixelDense, begins_row, raster, remember
from jaxgen.nets.row_lstm import RowLSTM

LAYERS = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


class PixelRNN(nn.Module):
    """A masked 7 x 7 convolution, residual LSTM layers, and a head (table 1).

    Attributes:
      layer: "row" or "diagonal".
      layers: number of LSTM layers; 7 in the paper for MNIST.
      features: h, size of a state; maps between layers have 2 h features. 16 for MNIST.
      head: features of the hidden layer of the head; 32 for MNIST.
      kernel: side of the first convolution.
      outputs: numbers for each pixel; set by the task.
      groups: channels of the image, or 1; set by the task.
      dtype: dtype that it computes in.
    """

    layer: str = "row"
    layers: int = 7
    features: int = 16
    head: int = 32
    kernel: int = 7
    outputs: int = 1
    groups: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None, at=None):
        """Computes the outputs of every pixel, or of the pixel `at`; see the module.

        Args:
          x: [B, H, W, C]; not used where `at` is given.
          condition: [B, K], or None.
          at: see `jaxgen.nets.masked`.

        Returns:
          [B, H, W, outputs], or [B, outputs] of one pixel; None where a row begins.

        Raises:
          ValueError: an unknown `layer`.
        """
        if self.layer not in LAYERS:
            raise ValueError(f"layer must be row or diagonal, got {self.layer!r}")
        seen = remember(self, "x", x if at is None else None, at)
        dense = {"groups": self.groups, "dtype": self.dtype}
        h = None
        if not begins_row(at):
            first = MaskedConv(2 * self.features, raster(self.kernel), kind="A", **dense)
            h = first(seen, at)
        for number in range(self.layers):
            layer = _Residual(LAYERS[self.layer], self.features, name=f"layer_{number}", **dense)
            h = layer(h, seen, condition, at)
        return None if h is None else Head(self.head, self.outputs, name="head", **dense)(h)


class _Residual(nn.Module):
    """x + 1 x 1 convolution of an LSTM of x (figure 5)."""

    layer: type[nn.Module]
    features: int
    groups: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x, image, condition, at):
        bias = jnp.zeros((1, 4 * self.features), self.dtype)
        if condition is not None:
            bias = nn.Dense(4 * self.features, use_bias=False, dtype=self.dtype)(condition)
        h = self.layer(self.features, self.groups, self.dtype)(x, image, bias, at)
        if h is None:
            return None
        return x + PixelDense(2 * self.features, self.groups, dtype=self.dtype)(h)
