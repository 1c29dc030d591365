"""Posterior P(C | image) of every pixel, averaged over mirror images and dropout samples."""

from collections.abc import Callable
from typing import Any

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

    def probability_of(key, drop):
        return lambda arrays: jax.nn.softmax(logits_of(arrays, key, drop).astype(jnp.float32))

    if not passes:
        probability = mirrored(probability_of(rng, False), batch, flips)
        return {"probability": probability, "entropy": entropy(probability)}

    def add(total, number):
        one = mirrored(probability_of(jax.random.fold_in(rng, number), True), batch, flips)
        return (total[0] + one, total[1] + entropy(one)), None

    like = jax.eval_shape(lambda: mirrored(probability_of(rng, True), batch, flips))
    start = jnp.zeros(like.shape), jnp.zeros(like.shape[:-1])
    (total, spread), _ = jax.lax.scan(add, start, jnp.arange(passes))
    probability = total / passes
    whole = entropy(probability)
    information = jnp.maximum(whole - spread / passes, 0.0)
    return {"probability": probability, "entropy": whole, "information": information}


def mirrored(once: Callable, batch: dict, flips: bool) -> Any:
    """Computes maps of images, averaged over the mirror image if `flips`.

    Args:
      once: (batch) -> maps [B, H, W, ...], an array or a tree of them.
      batch: as of `predict`.
      flips: whether to average over the mirror image.

    Returns:
      What `once` returns.
    """
    if not flips:
        return once(batch)
    mirror = {key: leaf[:, :, ::-1] if leaf.ndim == 4 else leaf for key, leaf in batch.items()}
    return jax.tree.map(lambda a, b: 0.5 * (a + b[:, :, ::-1]), once(batch), once(mirror))


def entropy(probability: jax.Array) -> jax.Array:
    """Computes the entropy of probabilities [..., K] in nats: [...]."""
    return jnp.sum(jax.scipy.special.entr(probability), -1)
