"""Correction of a classifier for other class frequencies than those of its training.

A posterior P(C | x) contains the training prior. Where the target has other class
frequencies but each class looks the same (prior or label shift), Bayes' rule exchanges
the prior, and EM estimates the new one from unlabelled outputs alone (Saerens, Latinne
and Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori
probabilities"). Both need calibrated posteriors.
"""

import jax
import jax.numpy as jnp


def shift_prior(posterior: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
    """Computes P(C | x) under the prior `new`, from P(C | x) under `old`.

    Saerens et al. 2002, equation 2.4: proportional to posterior * new / old. Only
    ratios matter, so none of the three needs to sum to one. A class with `old` 0
    stays impossible; where every class is impossible, the result is `new`.

    Args:
      posterior: float [..., K], not negative.
      old: the prior of training, [K] or broadcastable.
      new: the prior of the target, [K] or broadcastable, for example a map [H, W, K].

    Returns:
      float [..., K], which sums to 1 over K.
    """
    axes = max(map(jnp.ndim, (posterior, old, new)))
    posterior, old, new = (_with_axes(array, axes) for array in (posterior, old, new))
    ratio = jnp.where(old > 0, new / jnp.where(old > 0, old, 1.0), 0.0)
    weighed = posterior * ratio
    total = weighed.sum(-1, keepdims=True)
    fallback = jnp.broadcast_to(new / jnp.sum(new, -1, keepdims=True), weighed.shape)
    return jnp.where(total > 0, weighed / jnp.where(total > 0, total, 1.0), fallback)


def estimate_prior(
    posterior: jax.Array,
    old: jax.Array,
    weights: jax.Array | None = None,
    steps: int = 1000,
    tolerance: float = 1e-6,
) -> jax.Array:
    """Estimates the target's class frequencies by EM over a classifier's posteriors.

    Saerens et al. 2002, equation 2.9: the maximum-likelihood frequencies. The next estimate
    is the mean of the shifted posteriors. For `jax.jit`; the data may be sharded over
    devices.

    Args:
      posterior: float [..., K] on the target, as the classifier gives it.
      old: the prior of training, [K].
      weights: weight of each pixel, [...], for example a mask; 1 by default.
      steps: largest number of steps.
      tolerance: a step that changes no frequency by more than this is the last.

    Returns:
      float [K], which sums to 1; `old` where all weights are 0.
    """
    old = jnp.asarray(old) / jnp.sum(old)
    weights = jnp.ones(posterior.shape[:-1]) if weights is None else jnp.asarray(weights, float)
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1.0)

    def step(state):
        new, _, count = state
        shifted = shift_prior(posterior, old, new)
        # The posterior of a pixel with weight 0 may be NaN, which must not spread.
        parts = jnp.where(share[..., None] > 0, share[..., None] * shifted, 0.0)
        update = parts.reshape(-1, parts.shape[-1]).sum(0)
        update = jnp.where(total > 0, update, old)
        return update, jnp.abs(update - new).max(), count + 1

    def unfinished(state):
        _, change, count = state
        return (change > tolerance) & (count < steps)

    return jax.lax.while_loop(unfinished, step, (old, jnp.inf, 0))[0]


def _with_axes(array, axes):
    """Gives an array leading axes of length 1 until it has `axes` of them."""
    return jnp.reshape(array, (1,) * (axes - jnp.ndim(array)) + jnp.shape(array))
