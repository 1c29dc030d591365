"""The path from noise to image, and densities of the time on it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

# Uniform numbers stay this far from 0 and 1, whose times would be infinitely far out.
MARGIN = 1e-6
ROUNDING = 1e-2  # of the log SNR of a time near 0 or 1


class Times(NamedTuple):
    """A density of the time t in (0, 1).

    Attributes:
      of: (u [...], uniform in [0, 1)) -> t [...], the inverse of the distribution function.
      density: (t [...]) -> p(t) [...].
    """

    of: Callable
    density: Callable


def uniform() -> Times:
    """Times that are drawn evenly (rectified flow, Liu et al. 2023)."""
    return Times(lambda u: jnp.clip(u, MARGIN, 1.0 - MARGIN), jnp.ones_like)


def logit_normal(mean: float = -0.8, std: float = 0.8) -> Times:
    """Times whose logit, which is -ln sigma, has a normal distribution.

    (-0.8, 0.8) is JiT's (Li and He 2025), (1.2, 1.2) is EDM's: ln sigma ~ N(-1.2, 1.2^2)
    (Karras et al. 2022, table 1).

    Args:
      mean: of logit(t); larger is nearer to the image.
      std: its standard deviation.

    Returns:
      The density.

    Raises:
      ValueError: `std` is not positive.
    """
    if std <= 0.0:
        raise ValueError(f"logit_normal: std={std} must be above 0")

    def of(u):
        return jax.nn.sigmoid(mean + std * ndtri(jnp.clip(u, MARGIN, 1.0 - MARGIN)))

    def density(t):
        scaled = (jnp.log(t) - jnp.log1p(-t) - mean) / std
        return jnp.exp(-0.5 * scaled**2) / (std * np.sqrt(2.0 * np.pi) * t * (1.0 - t))

    return Times(of, density)


def log_snr(low: float = -10.0, high: float = 10.0) -> Times:
    """Times whose log signal-to-noise ratio, 2 logit(t), is drawn evenly (Kingma et al. 2021).

    Args:
      low: of the ratio, at the noisy end.
      high: of the ratio, at the clean end.

    Returns:
      The density; it is 0 outside the range.

    Raises:
      ValueError: `low` is not below `high`.
    """
    if low >= high:
        raise ValueError(f"log_snr: low={low} must be below high={high}")

    def density(t):
        ratio = 2.0 * (jnp.log(t) - jnp.log1p(-t))
        inside = (ratio > low - ROUNDING) & (ratio < high + ROUNDING)
        return jnp.where(inside, 2.0 / ((high - low) * t * (1.0 - t)), 0.0)

    return Times(lambda u: jax.nn.sigmoid(0.5 * (low + (high - low) * u)), density)


def noisy(x: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """The point of the path: z = t x + (1 - t) e.

    Args:
      x: images [B, H, W, C] in [-1, 1].
      noise: e, standard normal, [B, H, W, C].
      t: [B].

    Returns:
      z [B, H, W, C].
    """
    t = like(t, x)
    return t * x + (1.0 - t) * noise


def velocity(denoise: Callable) -> Callable:
    """The velocity of the flow, (z, t) -> dz/dt = (x_hat - z) / (1 - t).

    Args:
      denoise: (z [B, H, W, C], t, a scalar below 1) -> x_hat.
    """
    return lambda z, t: (denoise(z, t) - z) / (1.0 - t)


def heun_step(slope: Callable, state: Any, t: jax.Array, s: jax.Array) -> Any:
    """Goes from time t to s by the mean of the slopes at both ends.

    Args:
      slope: (state, t) -> the state's derivative by time.
      state: an array, or a tree of arrays.
      t: a scalar.
      s: a scalar.

    Returns:
      The state at time s.
    """
    first = slope(state, t)
    second = slope(jax.tree.map(lambda a, d: a + (s - t) * d, state, first), s)
    return jax.tree.map(lambda a, d, e: a + 0.5 * (s - t) * (d + e), state, first, second)


def like(t: jax.Array, x: jax.Array) -> jax.Array:
    """t [B], or a scalar, with the number of axes of x [B, ...]."""
    return jnp.reshape(t, (-1, *[1] * (x.ndim - 1)))


def van_der_corput(index: jax.Array) -> jax.Array:
    """Numbers that cover [0, 1) evenly: the bits of the index in reverse order.

    The first n of them are spread more evenly than n random numbers; each depends on its index
    alone (van der Corput 1935).

    Args:
      index: int32 [B], not negative.

    Returns:
      float32 [B] in [0, 1).
    """
    bits = np.arange(24, dtype=np.uint32)[None]
    ones = (index.astype(jnp.uint32)[:, None] >> bits) & np.uint32(1)
    return jnp.sum(ones.astype(jnp.float32) * np.float32(2.0) ** -(bits + np.float32(1.0)), -1)
