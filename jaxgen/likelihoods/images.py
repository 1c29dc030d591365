"""Observation models p(x | z) for images, in nats.

Each is a `Likelihood`: how a uint8 image becomes the observed variable, what
the decoder's outputs mean, and log p of one under the other.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.noise import coin_flips, per_example


class Likelihood(NamedTuple):
    """One observation model.

    Attributes:
      outputs: decoder channels per image channel.
      observe: (image uint8 [B, H, W, C], rng, index [B]) -> x float32, the same
        shape, the variable that is modelled. Random for some models, and then
        drawn per example.
      log_prob: (x [B, H, W, C], outputs [..., B, H, W, C * outputs]) -> [..., B],
        nats, summed over pixels and channels.
      mean: outputs [..., H, W, C * outputs] -> images [..., H, W, C] in [0, 1].
      offset_bits: added to nats / (dimensions * ln 2) to give bits/dim; 8 for a
        density on [0, 1], whose unit is 256 grey levels.
    """

    outputs: int
    observe: Callable
    log_prob: Callable
    mean: Callable
    offset_bits: float = 0.0


def _sum_pixels(x):
    # As a product with ones: fused into a reduction, the terms are computed one by one
    # on CPUs, and a whole step of an MLP VAE takes twice as long.
    flat = x.reshape(*x.shape[:-3], -1)
    return jnp.dot(flat, jnp.ones(flat.shape[-1]), precision="highest")


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)) to 1e-7, finite for any finite x; its derivative is sigmoid(x).

    A pixel costs one exponential less than with `jax.nn.softplus`, which
    differentiates through logaddexp.
    """
    return jnp.maximum(x, 0.0) + jnp.log(1.0 + jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    return softplus(primals[0]), jax.nn.sigmoid(primals[0]) * tangents[0]


def bernoulli() -> Likelihood:
    """Binary pixels, drawn anew at every step from the grey level.

    Dynamic binarisation: P(x = 1) = image / 255 (Salakhutdinov and Murray
    2008). The decoder gives one logit a pixel. Not comparable with figures for
    the fixed binarisation, which are about two nats higher.
    """

    def observe(image, rng, index):
        uniform = per_example(lambda key: coin_flips(key, image.shape[1:]), rng, index)
        return (uniform * 255.0 < image).astype(jnp.float32)

    def log_prob(x, logits):
        # log sigmoid(l) if x else log sigmoid(-l), finite for any finite logit.
        return _sum_pixels(x * logits - softplus(logits))

    return Likelihood(1, observe, log_prob, jax.nn.sigmoid)


def logistic_log_mass(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Nats of the bin of level x = 2 v / 255 - 1, v = 0 .. 255, under a logistic.

    The bin is [v - 1/2, v + 1/2]; the two end bins reach to infinity, so the 256 masses
    sum to one. With s the logistic function and edges l < u of a bin in units of the
    scale, s(u) - s(l) = s(u) s(-l) (1 - exp(l - u)): exact in the far tails too, where
    the difference itself underflows.
    """
    inverse = jnp.exp(-log_scale)
    centre, half = inverse * (x - mean), inverse / 255.0
    below_upper = jnp.where(x > 0.999, 0.0, -softplus(-centre - half))
    above_lower = jnp.where(x < -0.999, 0.0, -softplus(centre - half))
    # log(1 - exp(-2 half)), by its series where a bin is a small part of the scale.
    narrow = np.log(2.0 / 255.0) - log_scale - half
    width = jnp.log(-jnp.expm1(-2.0 * jnp.maximum(half, 1e-4)))
    width = jnp.where(half < 1e-3, narrow, width)
    return below_upper + above_lower + jnp.where(jnp.abs(x) > 0.999, 0.0, width)


def discretized_logistic(min_log_scale: float = -7.0) -> Likelihood:
    """256 grey levels as bins of a logistic distribution on [-1, 1].

    See `logistic_log_mass` (Salimans et al. 2017, PixelCNN++, section 2.1). The decoder
    gives a mean and a log scale.

    Args:
      min_log_scale: floor of the log scale; keeps a certain decoder finite.
    """

    def observe(image, rng, index):
        del rng, index
        return image.astype(jnp.float32) / 127.5 - 1.0

    def log_prob(x, outputs):
        mean, log_scale = jnp.split(outputs, 2, axis=-1)
        return _sum_pixels(logistic_log_mass(x, mean, jnp.maximum(log_scale, min_log_scale)))

    def mean(outputs):
        return jnp.clip((jnp.split(outputs, 2, axis=-1)[0] + 1.0) / 2.0, 0.0, 1.0)

    return Likelihood(2, observe, log_prob, mean)


def gaussian(scale: float | None = None, min_log_scale: float = -7.0) -> Likelihood:
    """A normal density on the uniformly dequantised image in [0, 1].

    x = (image + u) / 256 with u uniform in [0, 1), so that the density bounds
    the probability of the 256 levels (Theis et al. 2016, section 3.1).

    Args:
      scale: one standard deviation for all pixels, in units of the [0, 1] axis;
        None lets the decoder give a log scale beside each mean.
      min_log_scale: floor of a learned log scale.
    """

    def observe(image, rng, index):
        uniform = per_example(lambda key: jax.random.uniform(key, image.shape[1:]), rng, index)
        return (image + uniform) / 256.0

    def split(outputs):
        if scale is not None:
            return outputs, jnp.full_like(outputs, np.log(scale))
        mean, log_scale = jnp.split(outputs, 2, axis=-1)
        return mean, jnp.maximum(log_scale, min_log_scale)

    def log_prob(x, outputs):
        mean, log_scale = split(outputs)
        scaled = (x - mean) * jnp.exp(-log_scale)
        return _sum_pixels(-0.5 * scaled**2 - log_scale - 0.5 * np.log(2.0 * np.pi))

    def mean(outputs):
        return jnp.clip(split(outputs)[0], 0.0, 1.0)

    return Likelihood(2 if scale is None else 1, observe, log_prob, mean, offset_bits=8.0)


def bits_per_dim(nats: float, dimensions: int, offset_bits: float = 0.0) -> float:
    """Nats per image as bits per dimension (pixel times channel).

    A uniform model of 256 levels scores 8.
    """
    return nats / (dimensions * np.log(2.0)) + offset_bits
