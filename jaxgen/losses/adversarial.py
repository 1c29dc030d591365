"""Losses of two players, and penalties on a critic's slope.

A discriminator gives logits: large for real images, small for generated ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Loss(NamedTuple):
    """What the players minimise, logit by logit.

    Attributes:
      discriminator: (logits of real images, of generated ones) -> losses; the three
        have one shape.
      generator: logits of generated images -> losses of that shape.
    """

    discriminator: Callable
    generator: Callable


def non_saturating() -> Loss:
    """Cross-entropy of real against generated; the generator maximises log D.

    Goodfellow et al. 2014, section 3. At D = p / (p + q) the discriminator's loss is
    2 log 2 - 2 JSD(p, q).
    """
    return Loss(
        lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
        lambda fake: jax.nn.softplus(-fake),
    )


def least_squares() -> Loss:
    """Real images are to score 1, generated ones 0 (Mao et al. 2017, equation 9)."""
    return Loss(
        lambda real, fake: 0.5 * ((real - 1.0) ** 2 + fake**2),
        lambda fake: 0.5 * (fake - 1.0) ** 2,
    )


def hinge() -> Loss:
    """Scores beyond 1 and -1 are good enough (Lim and Ye 2017; Miyato et al. 2018)."""
    return Loss(
        lambda real, fake: jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake),
        lambda fake: -fake,
    )


def wasserstein() -> Loss:
    """The difference of mean scores (Arjovsky et al. 2017).

    A distance only where the critic's slope is bounded: by a gradient penalty or by
    spectral normalisation.
    """
    return Loss(lambda real, fake: fake - real, lambda fake: -fake)


def r1(critic: Callable, images: jax.Array) -> jax.Array:
    """Squared slope of the critic at real images (Mescheder et al. 2018, equation 9).

    Args:
      critic: images [B, H, W, C] -> logits [B, ...], each row of its own image alone.
      images: [B, H, W, C], as the critic sees them: augmented, where it looks through that.

    Returns:
      [B], |gradient of the image's mean logit|^2.
    """
    return jnp.sum(_slopes(critic, images) ** 2, axis=(1, 2, 3))


def gradient_penalty(
    critic: Callable, real: jax.Array, fake: jax.Array, uniform: jax.Array
) -> jax.Array:
    """How far the critic's slope is from 1 between real and generated images.

    Gulrajani et al. 2017, equation 3: (|gradient| - 1)^2 at u real + (1 - u) fake.

    Args:
      critic: images [B, H, W, C] -> logits [B, ...], each row of its own image alone.
      real: [B, H, W, C].
      fake: [B, H, W, C].
      uniform: [B], in [0, 1], where on the line between the two.

    Returns:
      [B].
    """
    share = uniform[:, None, None, None]
    squares = jnp.sum(_slopes(critic, share * real + (1.0 - share) * fake) ** 2, axis=(1, 2, 3))
    # The root has no slope at 0.
    return (jnp.sqrt(jnp.maximum(squares, 1e-12)) - 1.0) ** 2


def per_image(values: jax.Array) -> jax.Array:
    """Means [B] over all that a critic says of an image: [B], or [B, h, w] for patches."""
    return values.reshape(values.shape[0], -1).mean(axis=1)


def _slopes(critic, images):
    # Rows do not meet, so the gradient of the sum holds the gradient of each.
    return jax.grad(lambda x: jnp.sum(per_image(critic(x))))(images)
