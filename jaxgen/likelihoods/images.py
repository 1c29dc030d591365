"""Likelihoods p(x | z) of whole images, in nats.

A `Likelihood` says how a uint8 image becomes the observed variable x, and gives log p(x)
and the mean image from the outputs of a decoder.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batches import from_signed, signed_range
from jaxgen.noise import coin_flips, per_example


class Likelihood(NamedTuple):
    """One model of p(x | z).

    Attributes:
      outputs: decoder channels per image channel.
      observe: (image uint8 [B, H, W, C], rng, index [B]) -> x float32 of the same shape,
        the variable that is modelled. Where it is random, it is drawn per example.
      log_prob: (x [B, H, W, C], outputs [..., B, H, W, C * outputs]) -> [..., B],
        nats, summed over pixels and channels.
      mean: outputs [..., H, W, C * outputs] -> images [..., H, W, C] in [0, 1].
      offset_bits: added to nats / (dimensions * ln 2) to give bits/dim; 8 for a
        density on [0, 1], as its unit is 256 grey levels.
    """

    outputs: int
    observe: Callable
    log_prob: Callable
    mean: Callable
    offset_bits: float = 0.0


def _like(x, outputs):
    """x [B, H, W, C] with as many leading axes as outputs [..., B, H, W, C * outputs]."""
    return x.reshape((1,) * (outputs.ndim - x.ndim) + x.shape)


def _sum_pixels(x):
    # A product with ones: XLA would fuse a reduction with the terms and compute these one by
    # one on CPUs, and a whole step of an MLP VAE would take twice as long.
    flat = x.reshape(*x.shape[:-3], -1)
    return jnp.dot(flat, jnp.ones(flat.shape[-1]), precision="highest")


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)) to 1e-7, finite for any finite x; its derivative is sigmoid(x).

    It computes one exponential less per value than `jax.nn.softplus`, which differentiates
    through logaddexp.

    Args:
      x: [...].

    Returns:
      [...].
    """
    return jnp.maximum(x, 0.0) + jnp.log(1.0 + jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    return softplus(primals[0]), jax.nn.sigmoid(primals[0]) * tangents[0]


def bernoulli() -> Likelihood:
    """Binary pixels, drawn at every step from the grey level.

    Dynamic binarisation: P(x = 1) = image / 255 (Salakhutdinov and Murray 2008). The
    decoder gives one logit per value. Results for the fixed binarisation are about two nats
    higher and do not compare with these.
    """

    def observe(image, rng, index):
        uniform = per_example(lambda key: coin_flips(key, image.shape[1:]), rng, index)
        return (uniform * 255.0 < image.astype(jnp.float32)).astype(jnp.float32)

    def log_prob(x, logits):
        # log sigmoid(l) if x else log sigmoid(-l), finite for any finite logit.
        return _sum_pixels(_like(x, logits) * logits - softplus(logits))

    return Likelihood(1, observe, log_prob, jax.nn.sigmoid)


def logistic_log_mass(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Log probability of a grey level under a discretised logistic distribution.

    The bin of level v is [v - 1/2, v + 1/2]; the two end bins reach to infinity, so the 256
    probabilities sum to one (Salimans et al. 2017, section 2.1). With s the logistic
    function and edges l < u of a bin in units of the scale,
    s(u) - s(l) = s(u) s(-l) (1 - exp(l - u)): exact in the far tails too, where the
    difference itself underflows.

    Args:
      x: levels [...] as 2 v / 255 - 1, v = 0 .. 255.
      mean: [...], on the same axis, of the rank of x.
      log_scale: [...], likewise.

    Returns:
      [...], in nats.
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
    """256 grey levels as bins of a logistic distribution on [-1, 1], see `logistic_log_mass`.

    The decoder gives a mean and a log scale per value.

    Args:
      min_log_scale: lower bound of the log scale, which keeps log p(x) bounded.

    Returns:
      The likelihood (Salimans et al. 2017, PixelCNN++, section 2.1).
    """

    def observe(image, rng, index):
        del rng, index
        return signed_range(image)

    def log_prob(x, outputs):
        mean, log_scale = jnp.split(outputs, 2, axis=-1)
        log_scale = jnp.maximum(log_scale, min_log_scale)
        return _sum_pixels(logistic_log_mass(_like(x, mean), mean, log_scale))

    def mean(outputs):
        return from_signed(jnp.split(outputs, 2, axis=-1)[0])

    return Likelihood(2, observe, log_prob, mean)


def gaussian(scale: float | None = None, min_log_scale: float = -7.0) -> Likelihood:
    """A normal density on the uniformly dequantised image in [0, 1].

    x = (image + u) / 256 with u uniform in [0, 1), so that the mean log density is at most
    the log probability of the 256 levels (Theis et al. 2016, section 3.1).

    Args:
      scale: one standard deviation for all values, for images in [0, 1]; with None the
        decoder gives a log scale beside each mean.
      min_log_scale: lower bound of a learned log scale.

    Returns:
      The likelihood.
    """

    def observe(image, rng, index):
        uniform = per_example(lambda key: jax.random.uniform(key, image.shape[1:]), rng, index)
        return (image.astype(jnp.float32) + uniform) / 256.0

    def split(outputs):
        if scale is not None:
            return outputs, jnp.full_like(outputs, np.log(scale))
        mean, log_scale = jnp.split(outputs, 2, axis=-1)
        return mean, jnp.maximum(log_scale, min_log_scale)

    def log_prob(x, outputs):
        mean, log_scale = split(outputs)
        scaled = (_like(x, mean) - mean) * jnp.exp(-log_scale)
        return _sum_pixels(-0.5 * scaled**2 - log_scale - 0.5 * np.log(2.0 * np.pi))

    def mean(outputs):
        return jnp.clip(split(outputs)[0], 0.0, 1.0)

    return Likelihood(2 if scale is None else 1, observe, log_prob, mean, offset_bits=8.0)


def bits_per_dim(nats: float, dimensions: int, offset_bits: float = 0.0) -> float:
    """Converts nats per image to bits per dimension; a uniform model of 256 levels has 8.

    Args:
      nats: negative log-likelihood of an image.
      dimensions: values of an image, H * W * C.
      offset_bits: see `Likelihood`.

    Returns:
      Bits per dimension.
    """
    return nats / (dimensions * np.log(2.0)) + offset_bits
