"""A top-down ladder of latent variables (Sønderby et al. 2016; VDVAE, Child 2021).

From coarse to fine, each group of latents has a prior that depends on all groups before it, and a
posterior that sees them too, beside the features of the image at its size.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxgen.nets.patches import fold, unfold

STEEPEST = 6.0  # of the logarithm of a standard deviation


class Ladder(nn.Module):
    """The net of a hierarchical VAE.

    Called as (noise float32 [B, size], shape (H, W, outputs), x float32 [B, H, W, C] or None,
    condition float [B, K] or None) -> the likelihood's parameters float32 [B, *shape], and for
    each group of latents KL(q || p) and log p(z) - log q(z), [B, groups] each, in nats. Without x
    the latents come from the prior, and both are 0.

    Attributes:
      patch: side of the patches that the finest features stand for; the sides of images must be
        multiples of it, and of it times two for each further width.
      widths: features at each size, finest first.
      groups: groups of latents at each size, likewise.
      latents: channels of the latents of a group, likewise.
      top: latents of the first group, which is a vector.
      blocks: residual blocks at each size on the way up.
      dtype: dtype of the computation; parameters, latents and results are float32.

    Raises:
      ValueError: when called, tables of different lengths, or sides that do not divide.
    """

    patch: int = 4
    widths: Sequence[int] = (64,)
    groups: Sequence[int] = (4,)
    latents: Sequence[int] = (4,)
    top: int = 32
    blocks: int = 2
    dtype: Any = jnp.float32

    def size(self, shape: Sequence[int]) -> int:
        """Numbers of noise that an image of this shape (H, W, ...) takes, or latents it has."""
        return sum(int(np.prod(one)) for one in self._shapes(shape))

    def _shapes(self, shape):
        """The shape of each group's latents, in their order."""
        tables = self.widths, self.groups, self.latents
        if not self.widths or len({len(table) for table in tables}) > 1:
            raise ValueError(
                f"Ladder: widths={self.widths}, groups={self.groups} and latents={self.latents} "
                "need an entry for each size"
            )
        least = self.patch * 2 ** (len(self.widths) - 1)
        if shape[0] % least or shape[1] % least:
            raise ValueError(
                f"Ladder: the sides of images must be multiples of {least} (patch={self.patch}, "
                f"{len(self.widths)} widths); these are {shape[0]} x {shape[1]}"
            )
        shapes = [(self.top,)]
        for level in reversed(range(len(self.widths))):
            sides = [side // (self.patch * 2**level) for side in shape[:2]]
            shapes += [(*sides, self.latents[level])] * self.groups[level]
        return shapes

    @nn.compact
    def __call__(self, noise, shape, x=None, condition=None):
        """Draws the latents and decodes them; see the class."""
        shapes = self._shapes(shape)
        seen = [None] * (1 + len(self.widths)) if x is None else self._up(x, condition)
        cuts = np.cumsum([int(np.prod(one)) for one in shapes])[:-1]
        noises = [
            part.reshape(-1, *one)
            for part, one in zip(jnp.split(noise, cuts, axis=1), shapes, strict=True)
        ]
        kls, ratios = [], []

        def group(h, features, name):
            latents = Group(shapes[len(kls)][-1], self.dtype, name=name)
            h, kl, ratio = latents(h, features, noises[len(kls)])
            kls.append(kl)
            ratios.append(ratio)
            return h

        start = self.param("start", nn.initializers.zeros, (2 * self.widths[-1],))
        h = jnp.broadcast_to(start[None], (len(noise), len(start))).astype(self.dtype)
        if condition is not None:
            h = h + nn.Dense(len(start), dtype=self.dtype, name="class")(condition)
        h = group(h, seen[-1], "top")
        for level in reversed(range(len(self.widths))):
            h = self._finer(h, [side // (self.patch * 2**level) for side in shape[:2]], level)
            for number in range(self.groups[level]):
                h = group(h, seen[level], f"group{level}_{number}")
        out = nn.Conv(self.patch**2 * shape[2], (3, 3), dtype=self.dtype, name="pixels")(nn.silu(h))
        return unfold(out, self.patch).astype(jnp.float32), jnp.stack(kls, 1), jnp.stack(ratios, 1)

    def _up(self, x, condition):
        """Features of the image at each size, finest first, and those of all of it, a vector."""
        h, seen = fold(x, self.patch).astype(self.dtype), []
        for level, width in enumerate(self.widths):
            h = nn.Conv(width, (3, 3), dtype=self.dtype, name=f"up{level}")(h)
            for number in range(self.blocks):
                h = Residual(self.dtype, name=f"up{level}_{number}")(h)
            seen.append(h)
            h = fold(h, 2) if level + 1 < len(self.widths) else h
        flat = nn.silu(h.reshape(len(h), -1))
        if condition is not None:
            flat = jnp.concatenate([flat, condition.astype(flat.dtype)], -1)
        return [*seen, nn.Dense(2 * self.widths[-1], dtype=self.dtype, name="whole")(flat)]

    def _finer(self, h, sides, level):
        """The state at the next size: a map of its own at each place, and the state before."""
        width = self.widths[level]
        places = self.param(f"places{level}", nn.initializers.normal(0.02), (*sides, width))
        if h.ndim == 2:
            h = nn.Dense(int(np.prod(sides)) * width, dtype=self.dtype, name="spread")(nn.silu(h))
            h = h.reshape(-1, *sides, width)
        else:
            h = nn.Conv(4 * width, (1, 1), dtype=self.dtype, name=f"finer{level}")(h)
            h = unfold(h, 2)
        return h + places[None].astype(self.dtype)


class Group(nn.Module):
    """One group of latents: prior, posterior, and what the state learns from the latents.

    At first both are standard normal. From random moments the state grows from group to group, and
    so does the KL: on MNIST to 2e8 nats in the fifth.
    """

    latents: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, h, features, noise):
        """(h, features or None, noise of the latents' shape) -> (h, KL [B], log p - log q [B])."""
        dense = lambda size, name, **init: nn.Dense(size, dtype=self.dtype, name=name, **init)
        zeros = {"kernel_init": nn.initializers.zeros}
        block = lambda name: Residual(self.dtype, name=name)
        before = block("before")(h)
        out = dense(2 * self.latents + h.shape[-1], "prior", **zeros)(nn.silu(before))
        p_mean, p_std = _moments(out, self.latents)  # stds are logarithms
        h = h + out[..., 2 * self.latents :]
        kl = ratio = jnp.zeros(len(h))
        if features is None:
            z = p_mean + jnp.exp(p_std) * noise
        else:
            both = dense(h.shape[-1], "both")(jnp.concatenate([before, features], -1))
            out = dense(2 * self.latents, "posterior", **zeros)(nn.silu(block("seen")(both)))
            q_mean, q_std = _moments(out, self.latents)
            z = q_mean + jnp.exp(q_std) * noise
            total = lambda value: jnp.sum(value, tuple(range(1, value.ndim)))
            # q and z in units of p.
            variance = jnp.exp(2.0 * (q_std - p_std))
            shift, place = ((value - p_mean) * jnp.exp(-p_std) for value in (q_mean, z))
            kl = total(p_std - q_std + 0.5 * (variance + shift**2 - 1.0))
            ratio = total(q_std - p_std + 0.5 * (noise**2 - place**2))
        h = h + dense(h.shape[-1], "latents")(z.astype(self.dtype))
        return block("after")(h), kl, ratio


class Residual(nn.Module):
    """h + F(h), and h itself at first; on maps F mixes neighbours by a convolution of 3 x 3."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, h):
        """[B, ..., features] -> the same shape."""
        width = h.shape[-1]
        if h.ndim == 2:
            y = nn.Dense(width, dtype=self.dtype, name="first")(nn.silu(h))
        else:
            y = nn.Conv(width, (3, 3), dtype=self.dtype, name="first")(nn.silu(h))
        zeros = nn.initializers.zeros
        return h + nn.Dense(width, kernel_init=zeros, dtype=self.dtype, name="last")(nn.silu(y))


def _moments(out, latents):
    """Mean and logarithm of the standard deviation, in float32 and within exp(-6) to exp(6)."""
    mean, log_std = jnp.split(out[..., : 2 * latents].astype(jnp.float32), 2, -1)
    return mean, STEEPEST * jnp.tanh(log_std / STEEPEST)
