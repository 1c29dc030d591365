"""What the net computes: the clean image itself, or a part of it that is easier to learn.

A `Parametrisation` turns the net's output into x_hat, the mean of the image given z.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxgen.flows.paths import like

NEAREST = 1e-4  # of 1 - t, in quotients


class Parametrisation(NamedTuple):
    """From the net to the clean image.

    Attributes:
      scale: (z [B, H, W, C], t [B]) -> the net's input, of the shape of z.
      image: (output of the net [B, H, W, C], z, t) -> x_hat [B, H, W, C] in the range of images.
      levels: number of values that pixels must have; 0 for any.
    """

    scale: Callable
    image: Callable
    levels: int = 0


def clean() -> Parametrisation:
    """The net gives the clean image (JiT, Li and He 2025): best where patches are large."""
    return Parametrisation(lambda z, t: z, lambda output, z, t: output)


def preconditioned(sigma_data: float = 0.5) -> Parametrisation:
    """Input and target of unit variance at any noise (EDM, Karras et al. 2022, table 1).

    In units of the image, x_hat = c_skip z / t + c_out F(c_in z / t); here multiplied out, so
    that it is finite for t = 0.

    Args:
      sigma_data: standard deviation of the values of images, in [-1, 1].

    Returns:
      The parametrisation.

    Raises:
      ValueError: `sigma_data` is not positive.
    """
    if sigma_data <= 0.0:
        raise ValueError(f"preconditioned: sigma_data={sigma_data} must be above 0")

    def spread(z, t):
        t = like(t, z)
        return jnp.sqrt((1.0 - t) ** 2 + (t * sigma_data) ** 2), t

    def scale(z, t):
        return z / spread(z, t)[0]

    def image(output, z, t):
        root, t = spread(z, t)
        return t * (sigma_data / root) ** 2 * z + (1.0 - t) * sigma_data / root * output

    return Parametrisation(scale, image)


def binary() -> Parametrisation:
    """Images of -1 and 1: the net gives half the log-odds of each value, without its own z.

    By Bayes' rule the log-odds of a value given all z are those given the others', which the
    net learns, plus those of its own z, which are 2 t z / (1 - t)^2. So x_hat is exact for
    values that are independent of each other.
    """

    def scale(z, t):
        t = like(t, z)
        return z / jnp.sqrt((1.0 - t) ** 2 + t**2)

    def image(output, z, t):
        t = like(t, z)
        return jnp.tanh(output + t * z / jnp.maximum(1.0 - t, NEAREST) ** 2)

    return Parametrisation(scale, image, levels=2)
