"""Losses of GANs, and penalties on the gradient of a discriminator.

A discriminator gives logits: large for real images, small for generated ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Loss(NamedTuple):
    """The losses of both nets, element by element.

    Attributes:
      discriminator: (logits of real images [...], of generated images [...]) -> losses [...].
      generator: logits of generated images [...] -> losses [...].
    """

    discriminator: Callable
    generator: Callable


def non_saturating() -> Loss:
    """Cross-entropy of real against generated images; the generator maximises log D.

    Goodfellow et al. 2014, section 3. At the optimum D = p / (p + q) the discriminator's
    loss is 2 log 2 - 2 JSD(p, q).
    """
    return Loss(
        lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
        lambda fake: jax.nn.softplus(-fake),
    )


def least_squares() -> Loss:
    """Squared errors to 1 for real and 0 for generated images (Mao et al. 2017, equation 9)."""
    return Loss(
        lambda real, fake: 0.5 * ((real - 1.0) ** 2 + fake**2),
        lambda fake: 0.5 * (fake - 1.0) ** 2,
    )


def hinge() -> Loss:
    """The hinge loss: no gain beyond logits of 1 and -1 (Lim and Ye 2017; Miyato et al. 2018)."""
    return Loss(
        lambda real, fake: jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake),
        lambda fake: -fake,
    )


def wasserstein() -> Loss:
    """The difference of mean logits (Arjovsky et al. 2017).

    It estimates the Wasserstein distance only where the gradient of the discriminator is
    bounded: by a gradient penalty or by spectral normalisation.
    """
    return Loss(lambda real, fake: fake - real, lambda fake: -fake)


def r1(critic: Callable, images: jax.Array) -> jax.Array:
    """Squared gradient of the critic at real images (Mescheder et al. 2018, equation 9).

    Args:
      critic: images [B, H, W, C] -> logits [B, ...], each row a function of its own image.
      images: [B, H, W, C], augmented where the discriminator's inputs are.

    Returns:
      [B], |gradient of the image's mean logit|^2.
    """
    return jnp.sum(_gradients(critic, images) ** 2, axis=(1, 2, 3))


def gradient_penalty(
    critic: Callable, real: jax.Array, fake: jax.Array, uniform: jax.Array
) -> jax.Array:
    """Penalises gradients of a norm other than 1 between real and generated images.

    Gulrajani et al. 2017, equation 3: (|gradient| - 1)^2 at u real + (1 - u) fake.

    Args:
      critic: images [B, H, W, C] -> logits [B, ...], each row a function of its own image.
      real: [B, H, W, C].
      fake: generated images [B, H, W, C].
      uniform: u [B], in [0, 1].

    Returns:
      [B].
    """
    u = uniform[:, None, None, None]
    squares = jnp.sum(_gradients(critic, u * real + (1.0 - u) * fake) ** 2, axis=(1, 2, 3))
    # The derivative of the root is infinite at 0.
    return (jnp.sqrt(jnp.maximum(squares, 1e-12)) - 1.0) ** 2


def per_image(values: jax.Array) -> jax.Array:
    """Means [B] over the logits or losses of each image: of [B], or of [B, h, w] for patches."""
    return values.reshape(values.shape[0], -1).mean(axis=1)


def _gradients(critic, images):
    # Each row depends on its own image, so the gradient of the sum holds those of all rows.
    return jax.grad(lambda x: jnp.sum(per_image(critic(x))))(images)
