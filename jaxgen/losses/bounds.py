"""Lower bounds on log p(x) from importance weights, and their gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def gaussian_kl(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """KL(N(mean, exp(log_std)^2) || N(0, 1)), element by element, in nats.

    Kingma and Welling 2014, appendix B, before the sum over latents.
    """
    return 0.5 * (jnp.exp(2.0 * log_std) + mean**2 - 1.0) - log_std


def gaussian_log_prob(z: jax.Array, mean=0.0, log_std=0.0) -> jax.Array:
    """log N(z; mean, exp(log_std)^2) in nats, summed over the last axis."""
    scaled = (z - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * scaled**2 - log_std - 0.5 * np.log(2.0 * np.pi), axis=-1)


def importance_bound(log_weights: jax.Array) -> jax.Array:
    """log 1/k sum_k w_k over the first axis: [k, ...] -> [...], in nats.

    The IWAE bound (Burda et al. 2016, equation 8): the ELBO at k = 1, tighter in
    expectation as k grows.
    """
    return jax.nn.logsumexp(log_weights, axis=0) - np.log(log_weights.shape[0])


def estimated_nll(
    log_weights: Callable, rng: jax.Array, rows: int, samples: int, chunk: int
) -> jax.Array:
    """-log p(x), estimated with `samples` importance weights: [B], nats.

    An upper bound in expectation, tight as `samples` grows (Burda et al. 2016). At most
    `chunk` are drawn at a time, so memory does not grow with `samples`.

    Args:
      log_weights: (key, count) -> log weights [count, B] of that many samples each.
      rng: chunk n is drawn by `fold_in(rng, n)`.
      rows: B.
      samples: k.
      chunk: part of how the noise is numbered, so it must not depend on the batch size
        or the device.
    """
    chunk = min(chunk, samples)

    def add(total, number):
        found = log_weights(jax.random.fold_in(rng, number), chunk)
        wanted = number * chunk + jnp.arange(chunk) < samples
        found = jnp.where(wanted[:, None], found, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(found, axis=0)), None

    start = jnp.full(rows, -jnp.inf)
    total, _ = jax.lax.scan(add, start, jnp.arange(-(-samples // chunk)))
    return np.log(samples) - total


@jax.custom_vjp
def doubly_reparameterise(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Marks samples whose path gradient is to be weighted once more (DReG).

    The doubly reparameterised encoder gradient of the IWAE bound is
    sum_k w_k^2 dlog w_k/dz dz/dphi with normalised weights w_k (Tucker et al.
    2019, equation 8), while back-propagation through the bound gives one factor
    w_k. The second comes with the gradient itself: add `tag` (zeros) to the log
    weights, and its cotangent is w_k; this function's backward pass multiplies
    it in. The value of the bound is unchanged. The density of q must be
    evaluated with `stop_gradient` on its parameters.

    Args:
      z: samples [k, B, L].

    Returns:
      (z, tag): the samples, and zeros [k, B] to add to the log weights.
    """
    return z, jnp.zeros(z.shape[:-1], z.dtype)


def _forward(z):
    return doubly_reparameterise(z), None


def _backward(_, cotangents):
    through_z, through_tag = cotangents
    # The cotangents carry the loss's own scale c: c w dlog w/dz, and c w, whose
    # sum over k is c because the weights sum to one.
    scale = jnp.sum(through_tag, axis=0)
    weights = through_tag / jnp.where(scale == 0.0, 1.0, scale)
    return (through_z * weights[..., None],)


doubly_reparameterise.defvjp(_forward, _backward)
