"""The Diagonal BiLSTM of van den Oord, Kalchbrenner and Kavukcuoglu (2016), section 3.2.

A convolutional LSTM that goes over an image diagonal by diagonal, from both upper corners.
Its two directions together see all pixels before a pixel.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nets.masked import Dtype, PixelDense, begins_row, moved, neighbours, remember
from jaxgen.nets.row_lstm import lstm_cell

# In the direction to the right, a state follows from the states to its left and above it.
BESIDE_ABOVE = ((0, -1), (-1, 0))


def skew(x: jax.Array) -> jax.Array:
    """Moves row i of a map by i places to the right, so that diagonals become columns.

    Args:
      x: [B, H, W, ...].

    Returns:
      [B, H, W + H - 1, ...], zero where a row has no value.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, [(0, 0), (0, 0), (0, height)] + [(0, 0)] * (x.ndim - 3))
    # The result's rows are shorter by one than these, so each row begins one place later.
    flat = padded.reshape(x.shape[0], height * (width + height), *x.shape[3:])
    flat = flat[:, : height * (width + height - 1)]
    return flat.reshape(x.shape[0], height, width + height - 1, *x.shape[3:])


def unskew(x: jax.Array) -> jax.Array:
    """The inverse of `skew`.

    Args:
      x: [B, H, W + H - 1, ...].

    Returns:
      [B, H, W, ...].
    """
    height, width = x.shape[1], x.shape[2] - x.shape[1] + 1
    flat = x.reshape(x.shape[0], -1, *x.shape[3:])
    flat = jnp.pad(flat, [(0, 0), (0, height)] + [(0, 0)] * (x.ndim - 3))
    return flat.reshape(x.shape[0], height, width + height, *x.shape[3:])[:, :, :width]


class DiagonalBiLSTM(nn.Module):
    """One layer: the sum of the directions to the right and to the left.

    The result of the direction to the left is moved down by one row, because a state of it
    depends on pixels to the right in its own row. After that move a state may depend on its
    own pixel of the image, and must: a masked convolution depends on earlier pixels only, so
    most of the next row would not see the last pixel of a row.

    Attributes:
      features: size of a pixel's state in each direction.
      groups: of image channels, see `jaxgen.nets.masked.channel_mask`.
      dtype: dtype of matrix products; states are float32.
    """

    features: int
    groups: int
    dtype: Dtype = jnp.float32

    def setup(self):
        """Makes the layers that calls for a whole map and for one place share."""
        size = 4 * self.features
        dense = {"groups": self.groups, "parts": 4, "dtype": self.dtype}
        self.rightward = PixelDense(size, **dense)
        self.leftward = PixelDense(size, **dense)
        # The row below comes after all channels of the pixel, so none is masked.
        self.image = nn.Dense(size, use_bias=False, dtype=self.dtype)
        self.recurrent = self.param("recurrent", _orthogonal, (2, 2 * self.features, size))

    def __call__(self, x, image, bias, at=None):
        """Computes the states of a whole map, or of the part `at`.

        Args:
          x: [B, H, W, F], or [B, F] of the pixel `at`; None where a row begins.
          image: the observed image [B, H, W, C]; with `at`, the map [H, W, B, C] of it.
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
        """Both directions in one scan over the diagonals."""
        leftward = jnp.flip(self.leftward(x) + self.image(image), 2)
        gates = jnp.stack([self.rightward(x), leftward]) + bias[None]
        columns = jnp.moveaxis(jax.vmap(skew)(gates), 3, 0)

        # One product of a state serves both of the pixels that it goes to.
        kernel = jnp.concatenate(jnp.split(self.recurrent.astype(self.dtype), 2, axis=1), axis=-1)
        blank = jnp.zeros((*columns.shape[1:-1], self.features))

        def diagonal(carry, gates):
            state, memory = carry
            fed = state.astype(self.dtype).reshape(2, -1, self.features) @ kernel
            beside, above = jnp.split(fed.reshape(*blank.shape[:-1], -1), 2, axis=-1)
            # Where a row has not begun, its gates are zero, so the state stays zero.
            carry = lstm_cell(gates + beside + moved(above, 1, 2), memory)
            return carry, carry

        _, states = jax.lax.scan(diagonal, (blank, blank), columns)
        (right, left), (memory, _) = (jax.vmap(unskew)(jnp.moveaxis(x, 0, 3)) for x in states)
        remember(self, "inputs", x)
        remember(self, "memory", memory)
        left = remember(self, "left", jnp.flip(left, 2))
        return remember(self, "right", right) + moved(left, 1, 1)

    def _row_before(self, inputs, image, bias, row):
        """The direction to the left in the row before, which is complete now.

        Before the first row the result is not used; it is computed again after that row.
        """
        x, pixels = (neighbours(grid, ((0, 0),), (row, None)) for grid in (inputs, image))
        gates = self.leftward(x) + self.image(pixels) + bias[None]
        above = neighbours(remember(self, "left", None, (row, None)), ((-1, 0),), (row, None))

        def pixel(carry, column):
            gates, above = column
            before = jnp.concatenate([carry[0], above], axis=-1)
            carry = self._cell(1, gates, before, carry[1])
            return carry, carry[0]

        blank = jnp.zeros_like(above[0])
        _, states = jax.lax.scan(pixel, (blank, blank), (gates, above), reverse=True)
        remember(self, "left", states, (row, None))

    def _cell(self, direction, gates, before, memory):
        """Gates [B, 4 F], states before [B, 2 F], memory [B, F] -> state, memory."""
        fed = before.astype(self.dtype) @ self.recurrent[direction].astype(self.dtype)
        return lstm_cell(gates + fed, memory)


def _orthogonal(key, shape):
    """An orthogonal matrix for each direction."""
    # One after the other: with many simulated devices on few cores, a batch of QR
    # decompositions waits for threads that wait for it (jaxlib 0.10).
    init = nn.initializers.orthogonal()
    return jnp.stack([init(part, shape[1:]) for part in jax.random.split(key, shape[0])])
