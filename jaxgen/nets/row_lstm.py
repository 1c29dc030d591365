"""The Row LSTM of van den Oord, Kalchbrenner and Kavukcuoglu (2016), section 3.1.

A convolutional LSTM that goes down an image row by row. The state of a pixel is a function
of the states of three pixels above it, so its receptive field is a triangle.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nets.masked import Dtype, MaskedConv, begins_row, left, moved, neighbours, remember

ABOVE = ((-1, -1), (-1, 0), (-1, 1))


def lstm_cell(gates: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step of an LSTM, equation 3 of the paper.

    A bias of 1 in the forget gate lets gradients reach far rows early in training
    (Jozefowicz et al. 2015).

    Args:
      gates: [..., 4 F]: output, forget and input gate, and new content.
      memory: float32 [..., F].

    Returns:
      The state and the new memory, float32 [..., F] each.
    """
    out_gate, forget_gate, in_gate, new = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
    memory = jax.nn.sigmoid(forget_gate + 1.0) * memory + jax.nn.sigmoid(in_gate) * jnp.tanh(new)
    return jax.nn.sigmoid(out_gate) * jnp.tanh(memory), memory


class RowLSTM(nn.Module):
    """One layer.

    Attributes:
      features: size of a pixel's state.
      groups: of image channels, see `jaxgen.nets.masked.channel_mask`.
      dtype: dtype of matrix products; states are float32.
    """

    features: int
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, image, bias, at=None):
        """Computes the states of a whole map, or of the part `at`.

        Args:
          x: [B, H, W, F], or [B, F] of the pixel `at`; None where a row begins.
          image: not used; for the signature of `DiagonalBiLSTM`.
          bias: [B, 4 * features], added to the gates of every pixel.
          at: see `jaxgen.nets.masked`.

        Returns:
          [B, H, W, features], or [B, features] of one pixel; None where a row begins.
        """
        del image
        if begins_row(at):
            return None  # the cache already has the states of the row above
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
        _, states = jax.lax.scan(row, (blank, blank), jnp.moveaxis(gates, 1, 0))
        state, memory = (jnp.moveaxis(rows, 0, 1) for rows in states)
        remember(self, "memory", memory)
        return remember(self, "state", state)
