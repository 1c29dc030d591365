"""The Diagonal BiLSTM of van den Oord, Kalchbrenner and Kavukcuoglu (2016), section 3.2.

A convolutional LSTM that goes over an image by its diagonals, from both upper corners:
the two halves together see all that comes before a pixel.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nets.masked import Dtype, PixelDense, begins_row, moved, neighbours, remember
from jaxgen.nets.row_lstm import lstm_cell

# To the right: a state comes from those at its left and above it.
BESIDE_ABOVE = ((0, -1), (-1, 0))


def skew(x: jax.Array) -> jax.Array:
    """[B, H, W, ...] -> [B, H, W + H - 1, ...]: row i is moved i places to the right.

    So a diagonal becomes a column, and the places that come in are zero.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, [(0, 0), (0, 0), (0, height)] + [(0, 0)] * (x.ndim - 3))
    # A row is shorter by one in the result than here, so each begins one place later.
    flat = padded.reshape(x.shape[0], height * (width + height), *x.shape[3:])
    flat = flat[:, : height * (width + height - 1)]
    return flat.reshape(x.shape[0], height, width + height - 1, *x.shape[3:])


def unskew(x: jax.Array) -> jax.Array:
    """The inverse of `skew`: [B, H, W + H - 1, ...] -> [B, H, W, ...]."""
    height, width = x.shape[1], x.shape[2] - x.shape[1] + 1
    flat = x.reshape(x.shape[0], -1, *x.shape[3:])
    flat = jnp.pad(flat, [(0, 0), (0, height)] + [(0, 0)] * (x.ndim - 3))
    return flat.reshape(x.shape[0], height, width + height, *x.shape[3:])[:, :, :width]


class DiagonalBiLSTM(nn.Module):
    """One layer: both halves, added.

    The half to the left is moved down by one row: a pixel's own state has seen what is
    to its right in its own row, that of the pixel above it has not. Because of that
    move it may look at its pixel of the image too, and has to: a masked convolution
    tells of pixels before it alone, so the last of a row would stay unseen by most of
    the next row.

    Attributes:
      features: size of a pixel's state in each half.
      groups: of image channels, see `jaxgen.nets.masked.channel_mask`.
      dtype: what matrices are multiplied in; states are float32.
    """

    features: int
    groups: int = 1
    dtype: Dtype = jnp.float32

    def setup(self):
        """Makes the layers that both ways of calling share."""
        size = 4 * self.features
        dense = {"groups": self.groups, "parts": 4, "dtype": self.dtype}
        self.rightward = PixelDense(size, **dense)
        self.leftward = PixelDense(size, **dense)
        # All channels of the pixel are known in the row below, so none is masked.
        self.image = nn.Dense(size, use_bias=False, dtype=self.dtype)
        self.recurrent = self.param("recurrent", _orthogonal, (2, 2 * self.features, size))

    def __call__(self, x, image, bias, at=None):
        """Goes over a map, or to one place.

        Args:
          x: [B, H, W, F], or what `at` says; None where a row begins.
          image: the observed image [B, H, W, C], or the map of it.
          bias: [B, 4 * features], added to the gates of every pixel.
          at: see `jaxgen.nets.masked`.

        Returns:
          [B, H, W, features], or [B, features] of one pixel; None where a row begins.
        """
        if at is None:
            return self._whole(x, image, bias[:, None, None])
        inputs = remember(self, "inputs", x, at)
        if begins_row(at):
            return self._row_before(inputs, image, bias, jnp.maximum(at[0] - 1, 0))
        states, memories = (remember(self, name, None, at) for name in ("right", "memory"))
        before = neighbours(states, BESIDE_ABOVE, at)
        memory = neighbours(memories, BESIDE_ABOVE[:1], at)
        state, memory = self._cell(0, self.rightward(x) + bias, before, memory)
        remember(self, "memory", memory, at)
        remember(self, "right", state, at)
        return state + neighbours(remember(self, "left", None, at), ((-1, 0),), at)

    def _whole(self, x, image, bias):
        """Both halves in one walk over the diagonals."""
        leftward = jnp.flip(self.leftward(x) + self.image(image), 2)
        gates = jnp.stack([self.rightward(x), leftward]) + bias
        columns = jnp.moveaxis(jax.vmap(skew)(gates), 3, 0)

        # A state is multiplied once for both of the pixels that it goes to.
        kernel = jnp.concatenate(jnp.split(self.recurrent.astype(self.dtype), 2, axis=1), axis=-1)
        blank = jnp.zeros((*columns.shape[1:-1], self.features))

        def diagonal(carry, gates):
            state, memory = carry
            fed = state.astype(self.dtype).reshape(2, -1, self.features) @ kernel
            beside, above = jnp.split(fed.reshape(*blank.shape[:-1], -1), 2, axis=-1)
            # Where a row has not begun its gates are zero, and so the state stays zero.
            carry = lstm_cell(gates + beside + moved(above, 1, 2), memory)
            return carry, carry

        _, found = jax.lax.scan(diagonal, (blank, blank), columns)
        (right, left), (memory, _) = (jax.vmap(unskew)(jnp.moveaxis(x, 0, 3)) for x in found)
        remember(self, "inputs", x)
        remember(self, "memory", memory)
        left = remember(self, "left", jnp.flip(left, 2))
        return remember(self, "right", right) + moved(left, 1, 1)

    def _row_before(self, inputs, image, bias, row):
        """The half to the left in a row that is now known whole.

        Before the first row this is of no use, and done again once that row is known.
        """
        x, pixels = (neighbours(grid, ((0, 0),), (row, None)) for grid in (inputs, image))
        gates = self.leftward(x) + self.image(pixels) + bias
        above = neighbours(remember(self, "left", None, (row, None)), ((-1, 0),), (row, None))

        def pixel(carry, column):
            gates, above = column
            before = jnp.concatenate([carry[0], above], axis=-1)
            carry = self._cell(1, gates, before, carry[1])
            return carry, carry[0]

        blank = jnp.zeros_like(above[0])
        _, states = jax.lax.scan(pixel, (blank, blank), (gates, above), reverse=True)
        remember(self, "left", states, (row, None))

    def _cell(self, half, gates, before, memory):
        """Gates [B, 4 F], states before [B, 2 F], memory [B, F] -> state, memory."""
        fed = before.astype(self.dtype) @ self.recurrent[half].astype(self.dtype)
        return lstm_cell(gates + fed, memory)


def _orthogonal(key, shape):
    """An orthogonal matrix for each half."""
    # One after the other: with many simulated devices on few cores, a batch of QR
    # decompositions waits for threads that wait for it (jaxlib 0.10).
    draw = nn.initializers.orthogonal()
    return jnp.stack([draw(half, shape[1:]) for half in jax.random.split(key, shape[0])])
