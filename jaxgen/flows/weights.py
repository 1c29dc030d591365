"""Weights of the squared error of the clean image, one for each published loss."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.flows.paths import Times


class Weight(NamedTuple):
    """The weight of |x_hat - x|^2.

    Attributes:
      of: (t [B], times) -> [B].
      nats: whether errors are summed over the values of an image, to nats; else their mean is
        taken.
    """

    of: Callable
    nats: bool


def velocity(nearest: float = 0.05) -> Weight:
    """The error of the velocity x - e (rectified flow; Liu et al. 2023, Lipman et al. 2023).

    v_hat = (x_hat - z) / (1 - t), so the error of x_hat weighs 1 / (1 - t)^2.

    Args:
      nearest: 1 - t is taken to be this at least (JiT, Li and He 2025).

    Returns:
      The weight.
    """
    return Weight(lambda t, times: 1.0 / jnp.maximum(1.0 - t, nearest) ** 2, nats=False)


def edm(sigma_data: float = 0.5) -> Weight:
    """An error of 1 at every noise for a net that knows nothing (Karras et al. 2022, table 1).

    Args:
      sigma_data: standard deviation of the values of images, in [-1, 1].

    Returns:
      The weight, (sigma^2 + sigma_data^2) / (sigma sigma_data)^2.
    """

    def of(t, times):
        del times
        precision = (t / (1.0 - t)) ** 2  # 1 / sigma^2
        return precision + 1.0 / sigma_data**2

    return Weight(of, nats=False)


def bound() -> Weight:
    """The part of the bound on -log p(image) that a net can learn (Kingma et al. 2021, eq. 13).

    1/2 of the integral over gamma = -log SNR of |x - x_hat|^2 / sigma^2, whatever the density
    of the times: errors are divided by the density of gamma that these have.
    """

    def of(t, times):
        # |d gamma / d t| = 2 / (t (1 - t))
        of_gamma = times.density(t) * t * (1.0 - t) / 2.0
        return 0.5 * (t / (1.0 - t)) ** 2 / jnp.maximum(of_gamma, jnp.finfo(jnp.float32).tiny)

    return Weight(of, nats=True)


def weighted(
    weight: Weight, times: Times, x: jax.Array, guess: jax.Array, t: jax.Array
) -> jax.Array:
    """The loss of each image.

    Args:
      weight: of the squared error.
      times: the density that t is drawn from.
      x: images [B, H, W, C].
      guess: x_hat [B, H, W, C].
      t: [B].

    Returns:
      [B], in nats or as a mean over values, see `Weight`.
    """
    reduce = jnp.sum if weight.nats else jnp.mean
    return weight.of(t, times) * reduce((guess - x) ** 2, axis=(1, 2, 3))
