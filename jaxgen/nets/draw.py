"""The recurrent net of DRAW (Gregor et al. 2015), which draws an image on a canvas.

Encoder and decoder are LSTMs. At each of T glimpses the encoder reads the image, the difference
between image and canvas, and the state of the decoder, and gives latents z_t; the decoder adds to
the canvas:

  q(z_t | x, z_1 .. z_t-1) = N(mean_t, exp(log_std_t)^2)    p(x | canvas_T)    p(z_t) = N(0, 1)
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.losses.bounds import gaussian_kl
from jaxgen.nets import attention

Dtype = Any


class Glimpse(nn.Module):
    """One step: read the image, infer latents, and add to the canvas (section 2.1).

    Attributes:
      shape: (H, W, C) of the canvas.
      image_of: canvas [B, H, W, C] -> image in [0, 1].
      latents: see `DrawNet`, and for the next attributes.
      hidden: width of both LSTMs.
      read_size: N of the filters that read.
      write_size: N of the filters that write.
      dtype: dtype that the layers compute in.
      history: whether each step returns its canvas.
    """

    shape: tuple[int, int, int]
    image_of: Callable
    latents: int
    hidden: int
    read_size: int
    write_size: int
    dtype: Dtype
    history: bool

    @nn.compact
    def __call__(self, carry, noise, x, condition):
        """Computes one glimpse.

        Args:
          carry: (cell, hidden) of the encoder LSTM and of the decoder LSTM, and the canvas.
          noise: standard normal [B, latents].
          x: [B, H, W, C], or None to generate.
          condition: [B, K], or None.

        Returns:
          The carry; KL(q || p) and log p(z) - log q(z) of the latents, [B] each, zeros where x
          is None; and, with `history`, the canvas.
        """
        encoder, decoder, canvas = carry
        extra = [] if condition is None else [condition]
        z = noise
        kl = ratio = jnp.zeros(len(noise))
        if x is not None:
            before = decoder[1]
            patch = self._read(x, x - self.image_of(canvas), before)
            encoder = self._lstm("encoder", encoder, [patch, before, *extra])
            mean, log_std = jnp.split(self._dense("posterior", 2 * self.latents, encoder[1]), 2, -1)
            z = mean + jnp.exp(log_std) * noise
            kl = gaussian_kl(mean, log_std).sum(-1)
            ratio = jnp.sum(0.5 * (noise**2 - z**2) + log_std, -1)
        decoder = self._lstm("decoder", decoder, [z, *extra])
        canvas = canvas + self._write(decoder[1])
        history = (canvas,) if self.history else ()
        return (encoder, decoder, canvas), (kl, ratio, *history)

    def _dense(self, name, features, x):
        return nn.Dense(features, dtype=self.dtype, name=name)(x).astype(jnp.float32)

    def _lstm(self, name, carry, inputs):
        cell, hidden = carry
        gates = self._dense(name, 4 * self.hidden, jnp.concatenate([*inputs, hidden], -1))
        in_gate, forget_gate, new, out_gate = jnp.split(gates, 4, -1)
        # A bias of 1 in the forget gate, so that gradients reach the first glimpses early in
        # training (Jozefowicz et al. 2015).
        cell = jax.nn.sigmoid(forget_gate + 1.0) * cell + jax.nn.sigmoid(in_gate) * jnp.tanh(new)
        return cell, jax.nn.sigmoid(out_gate) * jnp.tanh(cell)

    def _read(self, x, error, hidden):
        both = jnp.concatenate([x, error], -1)
        if self.read_size:
            parameters = self._dense("read_window", attention.PARAMETERS, hidden)
            window = attention.window(parameters, x.shape[1:], self.read_size)
            both = attention.read(both, window, self.read_size)
        return both.reshape(both.shape[0], -1)

    def _write(self, hidden):
        height, width, channels = self.shape
        if not self.write_size:
            written = self._dense("write", height * width * channels, hidden)
            return written.reshape(-1, *self.shape)
        size = self.write_size
        patch = self._dense("write", size * size * channels, hidden)
        parameters = self._dense("write_window", attention.PARAMETERS, hidden)
        window = attention.window(parameters, self.shape, size)
        return attention.write(patch.reshape(-1, size, size, channels), window, self.shape)


class DrawNet(nn.Module):
    """Encoder and decoder LSTMs for a number of glimpses; the contract is that of
    `jaxgen.nets.ladder.Ladder`, and the latents of a glimpse are a group.

    Attributes:
      glimpses: T, number of steps, in each of which the net reads the image and adds to the
        canvas.
      latents: length of z at each glimpse.
      hidden: width of both LSTMs.
      read_size: N of the N x N filters that read; 0 reads the whole image.
      write_size: N of the N x N filters that write; 0 writes the whole canvas.
      dtype: dtype that the layers compute in.
      image_of: canvas -> image in [0, 1]; set by the task.
    """

    glimpses: int = 10
    latents: int = 8
    hidden: int = 128
    read_size: int = 0
    write_size: int = 0
    dtype: Dtype = jnp.float32
    image_of: Callable = jax.nn.sigmoid

    def size(self, shape):
        """Numbers of noise that an image takes, or latents that it has, whatever its shape.

        Raises:
          ValueError: an attribute below its least value.
        """
        del shape
        if min(self.glimpses, self.latents, self.hidden) < 1 or min(self._sizes()) < 0:
            raise ValueError(
                f"glimpses={self.glimpses}, latents={self.latents} and hidden={self.hidden} must "
                f"be at least 1, read_size and write_size {self._sizes()} not negative"
            )
        return self.glimpses * self.latents

    @nn.compact
    def __call__(self, noise, shape, x=None, condition=None, history=False):
        """Draws an image in `glimpses` steps.

        Args:
          noise: standard normal [B, glimpses * latents].
          shape: (H, W, C) of the canvas.
          x: the image [B, H, W, C] that latents are inferred from, or None to generate.
          condition: [B, K], concatenated to every input of both LSTMs, or None.
          history: whether to return every canvas.

        Returns:
          The last canvas [B, *shape], or all [glimpses, B, *shape]; and for each glimpse
          KL(q || p) and log p(z) - log q(z), [B, glimpses] each, in nats, 0 without x.
        """
        rows = len(noise)
        noise = noise.reshape(rows, self.glimpses, self.latents).swapaxes(0, 1)
        learned = lambda name, size: jnp.broadcast_to(
            self.param(name, nn.initializers.zeros, size), (rows, *size)
        )
        blank = jnp.zeros((rows, self.hidden))
        encoder = (blank, blank if x is None else learned("encoder_start", (self.hidden,)))
        decoder = (blank, learned("decoder_start", (self.hidden,)))
        # One set of parameters for all glimpses.
        scanned = nn.scan(
            Glimpse,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=(0, nn.broadcast, nn.broadcast),
        )
        how = (self.latents, self.hidden, *self._sizes(), self.dtype, history)
        step = scanned(tuple(shape), self.image_of, *how, name="glimpse")
        start = (encoder, decoder, learned("canvas_start", tuple(shape)))
        carry, (kl, ratio, *canvases) = step(start, noise, x, condition)
        return (canvases[0] if history else carry[2]), kl.T, ratio.T

    def canvases(self, noise, shape, condition=None):
        """The canvas after each glimpse [glimpses, B, *shape], of latents from the prior.

        Args:
          noise: standard normal [B, glimpses * latents].
          shape: (H, W, C) of the canvas.
          condition: [B, K], or None.
        """
        return self(noise, shape, None, condition, history=True)[0]

    def _sizes(self):
        return self.read_size, self.write_size
