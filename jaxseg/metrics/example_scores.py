"""Scores of single examples as sums, by which an evaluation finds its worst and best images.

A sum cannot hold a list that grows with the split. It can hold a table in which each example
adds to a row of its own, the row of its number. Such tables are added over batches, devices
and hosts as all sums are, and a row that only fills up a batch adds nothing.
"""

import jax
import jax.numpy as jnp

ROWS = 4096  # of a table; later examples of a larger split have no score of their own


def mean_iou(counts: jax.Array) -> jax.Array:
    """Computes the mean IoU of each example over the classes that its truth or prediction holds.

    Args:
      counts: float [B, K, K], the confusion of each example, rows the true class.

    Returns:
      float32 [B]; NaN where no pixel is labelled.
    """
    hit = jnp.diagonal(counts, axis1=1, axis2=2)
    return mean_ratio(hit, jnp.sum(counts, 1) + jnp.sum(counts, 2) - hit)


def mean_ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Computes the mean of part / whole of each example over the classes with a whole above 0.

    Args:
      part: float [B, K].
      whole: float [B, K].

    Returns:
      float32 [B]; NaN where no class has a whole above 0.
    """
    ratio = jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), jnp.nan)
    return jnp.nanmean(ratio, -1)


def table(scores: jax.Array, index: jax.Array) -> jax.Array:
    """Writes the score of each example into the row of its number.

    Args:
      scores: float32 [B]; NaN for an example without a score.
      index: int32 [B], the number of each example in its split.

    Returns:
      float32 [ROWS, 2]: the score and 1 in the row of each example that has a score, else 0.
    """
    known = ~jnp.isnan(scores)
    rows = jnp.stack([jnp.where(known, scores, 0.0), known.astype(jnp.float32)], -1)
    return jnp.zeros((ROWS, 2), jnp.float32).at[index].add(rows, mode="drop")
