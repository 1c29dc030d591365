"""The Row LSTM of van den Oord, Kalchbrenner and Kavukcuoglu (2016), section 3.1.

A convolutional LSTM that goes down an image row by row: the state of a pixel comes
from those of three pixels above it, so it sees a triangle.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nets.masked import Dtype, MaskedConv, begins_row, left, moved, neighbours, remember

ABOVE = ((-1, -1), (-1, 0), (-1, 1))


def lstm_cell(gates: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Equation 3 of the paper: gates [..., 4 F] and memory [..., F] -> state, new memory.

    A bias of 1 on what is kept lets early gradients reach far rows (Jozefowicz et al.
    2015).
    """
    give, keep, take, new = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
    memory = jax.nn.sigmoid(keep + 1.0) * memory + jax.nn.sigmoid(take) * jnp.tanh(new)
    return jax.nn.sigmoid(give) * jnp.tanh(memory), memory


class RowLSTM(nn.Module):
    """One layer: features of a map, from the top down.

    Attributes:
      features: size of a pixel's state.
      groups: of image channels, see `jaxgen.nets.masked.channel_mask`.
      dtype: what matrices are multiplied in; states are float32.
    """

    features: int
    groups: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, image, bias, at=None):
        """Goes over a map, or to one place.

        Args:
          x: [B, H, W, F], or what `at` says; None where a row begins.
          image: not looked at; here for the signature of `DiagonalBiLSTM`.
          bias: [B, 4 * features], added to the gates of every pixel.
          at: see `jaxgen.nets.masked`.

        Returns:
          [B, H, W, features], or [B, features] of one pixel; None where a row begins.
        """
        del image
        if begins_row(at):
            return None  # all that a pixel needs of other rows is there
        seen = remember(self, "inputs", x, at)
        gates = MaskedConv(4 * self.features, left(3), self.groups, parts=4, dtype=self.dtype)
        gates = gates(seen, at) + (bias[:, None, None] if at is None else bias)
        kernel = self.param(
            "recurrent", nn.initializers.orthogonal(), (len(ABOVE) * self.features, gates.shape[-1])
        ).astype(self.dtype)
        if at is not None:
            states, memories = (remember(self, name, None, at) for name in ("state", "memory"))
            gates = gates + neighbours(states, ABOVE, at).astype(self.dtype) @ kernel
            state, memory = lstm_cell(gates, neighbours(memories, ((-1, 0),), at))
            remember(self, "memory", memory, at)
            remember(self, "state", state, at)
            return state

        def row(carry, gates):
            state, memory = carry
            near = jnp.concatenate([moved(state, -right, 1) for _, right in ABOVE], axis=-1)
            carry = lstm_cell(gates + near.astype(self.dtype) @ kernel, memory)
            return carry, carry

        blank = jnp.zeros((*x[:, 0].shape[:2], self.features))
        _, found = jax.lax.scan(row, (blank, blank), jnp.moveaxis(gates, 1, 0))
        state, memory = (jnp.moveaxis(rows, 0, 1) for rows in found)
        remember(self, "memory", memory)
        return remember(self, "state", state)
