"""Posterior P(C | image) of every pixel, averaged over mirror images and dropout samples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def predict(
    logits_of: Callable, batch: dict, rng: jax.Array, flips: bool = False, passes: int = 0
) -> dict[str, jax.Array]:
    """Computes the posterior of every pixel, and how sure the net is of it.

    Args:
      logits_of: (batch, rng, drop) -> logits float [B, H, W, K]; `drop` turns dropout on.
      batch: the arrays that the net sees; those of 4 axes, [B, H, W, ...], are images.
      rng: the key of dropout.
      flips: whether to average over the image and its mirror image.
      passes: number of dropout samples to average (Gal and Ghahramani 2016); 0 predicts
        once, without dropout.

    Returns:
      `probability` [B, H, W, K]; `entropy` [B, H, W] in nats; and with dropout samples
      `information` [B, H, W], the mutual information of label and parameters in nats,
      which is large where the samples disagree (Houlsby et al. 2011).
    """
    if not passes:
        probability = mirrored(logits_of, batch, rng, False, flips)
        return {"probability": probability, "entropy": entropy(probability)}

    def add(total, number):
        one = mirrored(logits_of, batch, jax.random.fold_in(rng, number), True, flips)
        return (total[0] + one, total[1] + entropy(one)), None

    like = jax.eval_shape(lambda: mirrored(logits_of, batch, rng, True, flips))
    start = jnp.zeros(like.shape), jnp.zeros(like.shape[:-1])
    (total, spread), _ = jax.lax.scan(add, start, jnp.arange(passes))
    probability = total / passes
    whole = entropy(probability)
    information = jnp.maximum(whole - spread / passes, 0.0)
    return {"probability": probability, "entropy": whole, "information": information}


def mirrored(
    logits_of: Callable, batch: dict, rng: jax.Array, drop: bool, flips: bool
) -> jax.Array:
    """Computes the softmax of the logits, averaged over the mirror image if `flips`.

    Args:
      logits_of: as of `predict`.
      batch: as of `predict`.
      rng: the key of dropout, the same for both images.
      drop: whether dropout is on.
      flips: whether to average over the mirror image.

    Returns:
      float32 [B, H, W, K].
    """
    once = lambda arrays: jax.nn.softmax(logits_of(arrays, rng, drop).astype(jnp.float32))
    if not flips:
        return once(batch)
    mirror = {key: leaf[:, :, ::-1] if leaf.ndim == 4 else leaf for key, leaf in batch.items()}
    return 0.5 * (once(batch) + once(mirror)[:, :, ::-1])


def entropy(probability: jax.Array) -> jax.Array:
    """Computes the entropy of probabilities [..., K] in nats: [...]."""
    return jnp.sum(jax.scipy.special.entr(probability), -1)
