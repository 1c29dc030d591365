"""Losses of a segmentation: factories of functions (logits, truth) -> [B].

`logits` is float [B, H, W, K], `truth` a `jaxseg.labels.Truth` of [B, H, W]. Every loss
is one number per example, so that a batch, micro-batches or several devices give the
same mean. Ignored pixels do not count; an id that is no class makes the loss NaN. A logit
of -inf rules a class out of a pixel, which costs nothing where the class is not true.

An example without a labelled pixel has loss 0. The losses of regions (Dice, Tversky,
Lovász, boundary) average over the classes that an example's truth holds. A class that
it does not hold is left out of the mean; predicting it still costs, because it takes
probability from the classes that are present.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxseg.distance import signed_distance
from jaxseg.labels import Truth

Loss = Callable[[jax.Array, Truth], jax.Array]


def cross_entropy(smoothing: float = 0.0, class_weights: tuple[float, ...] = ()) -> Loss:
    """Cross-entropy in nats, the weighted mean over an example's labelled pixels.

    With smoothing and weights together, a pixel's whole smoothed target has the weight of
    the true class. This differs from torch's `CrossEntropyLoss`, which weighs the share of
    each class by that class's own weight.

    Args:
      smoothing: share of each target spread evenly over all classes (Szegedy et
        al. 2016). As each class gets a share, a logit of -inf makes the loss infinite.
      class_weights: a weight per class; the mean divides by the sum of the weights of
        the pixels.

    Returns:
      (logits, truth) -> [B].

    Raises:
      ValueError: `smoothing` outside [0, 1]; when called, not one weight >= 0 per class.
    """
    _check_share(smoothing=smoothing)

    def loss(logits, truth):
        weights = pixel_weights(truth, class_weights)
        return weighted_mean(pixel_cross_entropy(logits, truth, smoothing), weights)

    return loss


def focal(gamma: float = 2.0, class_weights: tuple[float, ...] = ()) -> Loss:
    """Focal loss (1 - p)^gamma * -log p, mean over pixels (Lin et al. 2017).

    Args:
      gamma: the exponent; 0 gives the cross-entropy.
      class_weights: a weight per class (alpha in the paper); as in `cross_entropy`.

    Returns:
      (logits, truth) -> [B].

    Raises:
      ValueError: a negative `gamma`; when called, not one weight >= 0 per class.
    """
    if gamma < 0:
        raise ValueError(f"gamma must not be negative, got {gamma}")

    def loss(logits, truth):
        weights = pixel_weights(truth, class_weights)
        # Infinite where the true class is ruled out: that has no finite gradient either.
        entropy = jnp.where(weights == 0, 0.0, pixel_cross_entropy(logits, truth))
        # 1 - p, kept off 0 where its power has no finite gradient.
        rest = jnp.clip(-jnp.expm1(-entropy), 1e-7, 1.0)
        return weighted_mean(rest**gamma * entropy, weights)

    return loss


def top_k(share: float = 0.25) -> Loss:
    """Cross-entropy of the hardest share of each example's labelled pixels.

    Online hard example mining (Shrivastava et al. 2016), as nnU-Net's top-k loss;
    at least one pixel is kept.

    Args:
      share: of the labelled pixels, in (0, 1].

    Returns:
      (logits, truth) -> [B].

    Raises:
      ValueError: `share` outside (0, 1].
    """
    _check_share(share=share)
    if share == 0:
        raise ValueError("share must be more than 0, or no pixel would train")

    def one(entropy, valid):
        count = jnp.ceil(share * jnp.nansum(valid))
        ranked = -jnp.sort(jnp.where(valid > 0, -entropy, jnp.inf).ravel())
        kept = jnp.arange(ranked.size, dtype=count.dtype) < count
        return jnp.sum(jnp.where(kept, ranked, 0.0)) / jnp.maximum(count, 1.0) * _poison(valid)

    return lambda logits, truth: jax.vmap(one)(pixel_cross_entropy(logits, truth), truth.valid)


def tversky(alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0, gamma: float = 1.0) -> Loss:
    """1 - TP / (TP + alpha FP + beta FN) of soft regions, mean over present classes.

    Salehi et al. 2017; alpha = beta = 0.5 is `dice` with twice the `smooth`. With another
    gamma than 1 it is the focal Tversky loss (Abraham and Khan 2019), whose exponent is
    1 / gamma there: their 4 / 3 is 0.75 here.

    Args:
      alpha: weight of false positives.
      beta: weight of false negatives.
      smooth: pixels added to numerator and denominator.
      gamma: power of each class's term, the inverse of the paper's gamma.

    Returns:
      (logits, truth) -> [B].
    """

    def loss(logits, truth):
        hit, extra, missed, size = soft_counts(logits, truth)
        total = hit + alpha * extra + beta * missed + smooth
        # 0 without `smooth`: for a class that is absent, or where nothing is hit.
        index = (hit + smooth) / jnp.where(total > 0, total, 1.0)
        return mean_present(jnp.maximum(1.0 - index, 1e-7) ** gamma, size) * _poison(truth.valid)

    return loss


def dice(smooth: float = 1.0) -> Loss:
    """Soft Dice loss, 1 - 2 |P T| / (|P| + |T|), mean over present classes.

    Milletari et al. 2016 with plain sums in the denominator.

    Args:
      smooth: pixels added to numerator and denominator; 0 is the bare ratio.

    Returns:
      (logits, truth) -> [B].
    """

    def loss(logits, truth):
        hit, extra, missed, size = soft_counts(logits, truth)
        # 2 hit + extra + missed is |P| + |T|, never 0 for a class that is present.
        ratio = (2 * hit + smooth) / jnp.where(size > 0, 2 * hit + extra + missed + smooth, 1.0)
        return mean_present(1.0 - ratio, size) * _poison(truth.valid)

    return loss


def generalised_dice() -> Loss:
    """One Dice ratio over all classes, each weighted by 1 / |T|^2 (Sudre et al. 2017).

    Classes that the truth does not hold have no weight.

    Returns:
      (logits, truth) -> [B].
    """

    def loss(logits, truth):
        hit, extra, missed, size = soft_counts(logits, truth)
        weight = jnp.where(size > 0, 1.0 / jnp.maximum(size, 1.0) ** 2, 0.0)
        total = jnp.sum(weight * (2 * hit + extra + missed), -1)
        ratio = 2 * jnp.sum(weight * hit, -1) / jnp.where(total > 0, total, 1.0)
        return jnp.where(total > 0, 1.0 - ratio, 0.0) * _poison(truth.valid)

    return loss


def lovasz_softmax() -> Loss:
    """The Lovász extension of the Jaccard loss (Berman et al. 2018), per example.

    Equals 1 - IoU, mean over present classes, where all probabilities are 0 or 1.

    Returns:
      (logits, truth) -> [B].
    """

    def one_class(probability, target, valid):
        error = jnp.abs(target - probability)
        # Ignored pixels come last in the order and add to no count.
        order = jnp.argsort(jnp.where(valid > 0, -error, jnp.inf))
        target, valid, error = target[order], valid[order], error[order]
        union = jnp.sum(target) + jnp.cumsum((1.0 - target) * valid)
        overlap = jnp.sum(target) - jnp.cumsum(target)
        jaccard = 1.0 - overlap / jnp.maximum(union, 1.0)
        step = jnp.diff(jaccard, prepend=0.0)
        return jnp.sum(jnp.where(valid > 0, error * jax.lax.stop_gradient(step), 0.0))

    def one(probability, target, valid):
        flat = lambda x: x.reshape(-1, x.shape[-1]).T
        terms = jax.vmap(one_class, (0, 0, None))(flat(probability), flat(target), valid.ravel())
        return mean_present(terms, target.sum((0, 1))) * _poison(valid)

    return lambda logits, truth: jax.vmap(one)(
        jax.nn.softmax(logits.astype(jnp.float32)), truth.one_hot, truth.valid
    )


def boundary() -> Loss:
    """Mean over pixels of p times the signed distance to its class's region, in pixels.

    Kervadec et al. 2019, mean over the classes present; negative where the prediction
    lies inside. Its gradient hardly moves a prediction that lies far from the region: add
    it to a regional loss, with a weight of a few hundredths.

    Returns:
      (logits, truth) -> [B].
    """

    def one(probability, target, valid):
        maps = jax.vmap(lambda mask: signed_distance(mask > 0), -1, -1)(target)
        counted = valid > 0
        terms = jnp.sum(jnp.where(counted[..., None], probability * maps, 0.0), (0, 1))
        terms = terms / jnp.maximum(jnp.sum(counted).astype(terms.dtype), 1.0)
        return mean_present(terms, target.sum((0, 1))) * _poison(valid)

    return lambda logits, truth: jax.vmap(one)(
        jax.nn.softmax(logits.astype(jnp.float32)), truth.one_hot, truth.valid
    )


def weighted(terms: tuple[Loss, ...], weights: tuple[float, ...] = ()) -> Loss:
    """A weighted sum of losses.

    Args:
      terms: losses.
      weights: one per loss; all 1 unless given.

    Returns:
      (logits, truth) -> [B].

    Raises:
      ValueError: no loss, or another number of weights than of losses.
    """
    weights = weights or (1.0,) * len(terms)
    if not terms or len(terms) != len(weights):
        raise ValueError(f"{len(terms)} terms with {len(weights)} weights")
    return lambda logits, truth: sum(
        weight * term(logits, truth) for term, weight in zip(terms, weights, strict=True)
    )


def pixel_cross_entropy(logits: jax.Array, truth: Truth, smoothing: float = 0.0) -> jax.Array:
    """-log p of the true class at each pixel, in nats; 0 where a pixel is ignored.

    Args:
      logits: float [B, H, W, K].
      truth: of the same pixels.
      smoothing: share of each target spread evenly over all classes.

    Returns:
      float32 [B, H, W]; finite where ignored.
    """
    target = optax.smooth_labels(truth.one_hot, smoothing) if smoothing else truth.one_hot
    log_prob = jax.nn.log_softmax(logits.astype(jnp.float32))
    # 0 log 0 is 0, but 0 times -inf is NaN.
    entropy = -jnp.sum(target * jnp.where(target > 0, log_prob, 0.0), -1)
    return jnp.where(truth.valid == 0, 0.0, entropy)


def pixel_weights(truth: Truth, class_weights: tuple[float, ...]) -> jax.Array:
    """Returns `truth.valid`, times the weight of each pixel's class where weights are given.

    Args:
      truth: labels of [B, H, W].
      class_weights: a weight per class, or ().

    Returns:
      float32 [B, H, W].

    Raises:
      ValueError: not one weight >= 0 per class.
    """
    if not class_weights:
        return truth.valid
    classes = truth.one_hot.shape[-1]
    if len(class_weights) != classes or min(class_weights) < 0:
        raise ValueError(f"class_weights must be {classes} numbers >= 0, got {class_weights}")
    return truth.valid * jnp.asarray(class_weights)[truth.labels]


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Averages over the pixels of each example; 0 where nothing has weight.

    Args:
      values: float [B, H, W].
      weights: float [B, H, W].

    Returns:
      [B].
    """
    total = jnp.sum(weights, (1, 2))
    value = jnp.sum(jnp.where(weights == 0, 0.0, values * weights), (1, 2))
    return value / jnp.where(total == 0, 1.0, total)


def soft_counts(logits: jax.Array, truth: Truth) -> tuple[jax.Array, ...]:
    """Sums probabilities over the labelled pixels of each example.

    Args:
      logits: float [B, H, W, K].
      truth: of the same pixels.

    Returns:
      Soft true positives, false positives, false negatives, and the true size in pixels,
      [B, K] each.
    """
    probability = jax.nn.softmax(logits.astype(jnp.float32)) * truth.valid[..., None]
    hit = jnp.sum(probability * truth.one_hot, (1, 2))
    size = jnp.sum(truth.one_hot, (1, 2))
    return hit, jnp.sum(probability, (1, 2)) - hit, size - hit, size


def mean_present(terms: jax.Array, size: jax.Array) -> jax.Array:
    """Averages over the classes whose true size is not 0; 0 if there is none.

    Args:
      terms: float [..., K].
      size: pixels of each class, float [..., K].

    Returns:
      [...].
    """
    present = size > 0
    total = jnp.sum(jnp.where(present, terms, 0.0), -1)
    return total / jnp.maximum(jnp.sum(present, -1), 1).astype(total.dtype)


def _poison(valid):
    """1, or NaN for an example with an id outside the contract."""
    axes = tuple(range(valid.ndim - 2, valid.ndim))
    return 1.0 + 0.0 * jnp.sum(valid, axes)


def _check_share(**named):
    for name, value in named.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
