"""Lower bounds on log p(x) from importance weights, their gradients, and a VAE's metrics."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.likelihoods.images import bits_per_dim

# In one draw of the evidence of a class; 1, 3 and 50 found as many classes (VAE, MNIST).
EVIDENCE_SAMPLES = 2


def gaussian_kl(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """KL(N(mean, exp(log_std)^2) || N(0, 1)), element by element (Kingma and Welling 2014, app. B).

    Args:
      mean: [...].
      log_std: logarithm of the standard deviation [...].

    Returns:
      [...], in nats, not summed over latents.
    """
    return 0.5 * (jnp.exp(2.0 * log_std) + mean**2 - 1.0) - log_std


def gaussian_log_prob(z: jax.Array, mean=0.0, log_std=0.0) -> jax.Array:
    """log N(z; mean, exp(log_std)^2), summed over the last axis.

    Args:
      z: [..., L].
      mean: a number, or an array of the rank of z that broadcasts to it.
      log_std: logarithm of the standard deviation, likewise.

    Returns:
      [...], in nats.
    """
    scaled = (z - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * scaled**2 - log_std - 0.5 * np.log(2.0 * np.pi), axis=-1)


def importance_bound(log_weights: jax.Array) -> jax.Array:
    """The IWAE bound log 1/k sum_k w_k (Burda et al. 2016, equation 8).

    It is the ELBO at k = 1, and in expectation becomes tighter as k grows.

    Args:
      log_weights: [k, ...], in nats.

    Returns:
      [...], in nats.
    """
    return jax.nn.logsumexp(log_weights, axis=0) - np.log(log_weights.shape[0])


def estimated_nll(
    log_weights: Callable, rng: jax.Array, rows: int, samples: int, chunk: int
) -> jax.Array:
    """Estimates -log p(x) by importance sampling (Burda et al. 2016).

    An upper bound in expectation, which becomes tight as `samples` grows. At most `chunk`
    samples are drawn at a time, so memory does not grow with `samples`.

    Args:
      log_weights: (key, count) -> log weights [count, B] of `count` samples for each row.
      rng: chunk n is drawn with the key `fold_in(rng, n)`.
      rows: B.
      samples: number of samples for each row.
      chunk: samples in a chunk. The key of a sample depends on it, so it must not depend on
        the batch size or the device.

    Returns:
      [B], in nats.
    """
    chunk = min(chunk, samples)

    def add(total, number):
        weights = log_weights(jax.random.fold_in(rng, number), chunk)
        # The last chunk may have more samples than are left.
        used = number * chunk + jnp.arange(chunk) < samples
        weights = jnp.where(used[:, None], weights, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0)), None

    start = jnp.full(rows, -jnp.inf)
    total, _ = jax.lax.scan(add, start, jnp.arange(-(-samples // chunk)))
    return np.log(samples) - total


@jax.custom_vjp
def doubly_reparameterise(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Makes the gradient of the IWAE bound the doubly reparameterised one (DReG).

    With normalised weights w_k, that gradient for the encoder is
    sum_k w_k^2 dlog w_k/dz dz/dphi (Tucker et al. 2019, equation 8); back-propagation
    through the bound gives one factor w_k. The second factor is the cotangent of `tag`
    (zeros), which the caller adds to the log weights: the backward pass of this function
    multiplies the gradient of z by it. The value of the bound does not change. The density
    of q must be computed with `stop_gradient` on its parameters.

    Args:
      z: samples [k, B, L].

    Returns:
      The samples, and tag [k, B], zeros to add to the log weights.
    """
    return z, jnp.zeros(z.shape[:-1], z.dtype)


def _forward(z):
    return doubly_reparameterise(z), None


def _backward(_, cotangents):
    through_z, through_tag = cotangents
    # The cotangents carry the loss's own scale c: c w dlog w/dz, and c w, whose
    # sum over k is c because the weights sum to one.
    scale = jnp.sum(through_tag, axis=0, keepdims=True)
    weights = through_tag / jnp.where(scale == 0.0, 1.0, scale)
    return (through_z * weights[..., None],)


doubly_reparameterise.defvjp(_forward, _backward)


def elbo_metrics(model, sums: dict) -> dict[str, float]:
    """The metrics of a VAE: sums over images, divided by the number of images.

    Args:
      model: its `shape` and the `offset_bits` of its `likelihood` are used.
      sums: of one or more batches, numpy float64.

    Returns:
      The mean of each sum, and negative_elbo = reconstruction + kl, in nats; its bits_per_dim, and
      where there is nll, nll_bits_per_dim.
    """
    means = {name: float(total / sums["count"]) for name, total in sums.items() if name != "count"}
    means["negative_elbo"] = means["reconstruction"] + means["kl"]
    size, offset = int(np.prod(model.shape)), model.likelihood.offset_bits
    for name, nats in {"bits_per_dim": "negative_elbo", "nll_bits_per_dim": "nll"}.items():
        if nats in means:
            means[name] = float(bits_per_dim(means[nats], size, offset))
    return means
