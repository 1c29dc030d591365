"""Losses of independent classes: factories of functions (logits, truth) -> [B].

Each class is a yes or no of its own at each pixel, so classes may overlap. `logits` is
float [B, H, W, K], `truth` a `Labels`. As in `jaxseg.losses`, every loss is one number per
example, a label that is neither 0, 1 nor void makes it NaN, and `jaxseg.losses.weighted`
adds several.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseg.losses import mean_present


class Labels(NamedTuple):
    """Labels in the form that losses and metrics use.

    Attributes:
      target: float32 [B, H, W, K]: 1 where a pixel is of the class, 0 elsewhere.
      valid: float32 [B, H, W, K]: 1 where the label counts, 0 where it is void, NaN where
        it is neither 0, 1 nor void. A loss takes it for the label's weight.
    """

    target: jax.Array
    valid: jax.Array


Loss = Callable[[jax.Array, Labels], jax.Array]


def labels(values: jax.Array, ignore: int, mask: jax.Array) -> Labels:
    """Applies the contract of the labels: 0, 1, or void.

    Args:
      values: integers [B, H, W, K].
      ignore: the value of void labels.
      mask: bool [B], False for rows that only fill up the batch.

    Returns:
      The labels.
    """
    values = values.astype(jnp.int32)
    known = (values == 0) | (values == 1)
    valid = jnp.where(known, 1.0, jnp.where(values == ignore, 0.0, jnp.nan))
    valid = jnp.where(mask[:, None, None, None], valid, 0.0)
    return Labels((known & (values == 1) & (valid > 0)).astype(jnp.float32), valid)


def binary_cross_entropy(
    class_weights: tuple[float, ...] = (), positive_weights: tuple[float, ...] = ()
) -> Loss:
    """Sigmoid cross-entropy in nats, the weighted mean over an example's labels.

    Args:
      class_weights: a weight per class; the mean divides by the sum of the weights.
      positive_weights: a factor per class for the loss where the label is 1, as
        `pos_weight` of torch's `BCEWithLogitsLoss`; the mean does not divide by it.

    Returns:
      (logits, truth) -> [B].

    Raises:
      ValueError: when called, not one weight >= 0 per class.
    """

    def loss(logits, truth):
        weights = _per_class(truth.valid, class_weights, "class_weights")
        factor = _per_class(jnp.ones_like(truth.valid), positive_weights, "positive_weights")
        terms = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), truth.target)
        terms = terms * jnp.where(truth.target > 0, factor, 1.0)
        total = jnp.sum(weights, (1, 2, 3))
        value = jnp.sum(jnp.where(weights == 0, 0.0, terms * weights), (1, 2, 3))
        return value / jnp.where(total == 0, 1.0, total)

    return loss


def binary_dice(smooth: float = 1.0) -> Loss:
    """Soft Dice loss, 1 - 2 |P T| / (|P| + |T|), mean over the classes that are present.

    Milletari et al. 2016 with plain sums in the denominator. A class without a true pixel in
    an example is left out, because its ratio says little; add `binary_cross_entropy`, which
    punishes a class that is predicted there.

    Args:
      smooth: pixels added to numerator and denominator; 0 is the bare ratio.

    Returns:
      (logits, truth) -> [B].
    """

    def loss(logits, truth):
        weighed = lambda values: jnp.where(truth.valid == 0, 0.0, values * truth.valid)
        probability = jax.nn.sigmoid(logits.astype(jnp.float32))
        add = lambda values: jnp.sum(weighed(values), (1, 2))
        hit, size = add(probability * truth.target), add(truth.target)
        total = add(probability) + size
        ratio = (2.0 * hit + smooth) / jnp.where(size > 0, total + smooth, 1.0)
        # NaN for an example with a label outside the contract.
        return mean_present(1.0 - ratio, size) + 0.0 * jnp.sum(truth.valid, (1, 2, 3))

    return loss


def _per_class(values, weights, name):
    """[B, H, W, K] times a weight per class; unchanged without weights."""
    if not weights:
        return values
    if len(weights) != values.shape[-1] or min(weights) < 0:
        raise ValueError(f"{name} must be {values.shape[-1]} numbers >= 0, got {weights}")
    return values * jnp.asarray(weights, jnp.float32)[None, None, None]
