"""Metrics as sums over pixels and images, and the ratios that follow from them.

The rule for empty classes, as in mmsegmentation and nnU-Net (nan-mean): a class that
neither truth nor prediction holds has no score and is left out of the means; a class
that is predicted but never true scores 0.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.labels import Truth

BINS = 15  # of the calibration error, as Guo et al. 2017


def confusion(prediction: jax.Array, truth: Truth) -> jax.Array:
    """Counts pixels by true and predicted class.

    Exact up to 2^24 pixels of one pair of classes in a call, as float32 counts; batches
    are added in float64.

    Args:
      prediction: int [..., H, W], ids in [0, K).
      truth: of the same pixels; an id outside the contract makes the counts NaN.

    Returns:
      float32 [K, K], rows the true class, columns the predicted one.
    """
    # A CPU counts one pixel after the other faster than it multiplies; accelerators do not.
    counts = jax.lax.platform_dependent(
        prediction, truth, cpu=_counts_one_by_one, default=_counts_by_product
    )
    return counts + 0.0 * jnp.sum(truth.valid)


def _counts_one_by_one(prediction, truth):
    classes = truth.one_hot.shape[-1]
    pair = jnp.where(truth.valid > 0, truth.labels * classes + prediction, classes**2)
    return jnp.zeros(classes**2 + 1).at[pair].add(1.0)[:-1].reshape(classes, classes)


def _counts_by_product(prediction, truth):
    guess = jax.nn.one_hot(prediction, truth.one_hot.shape[-1]) * truth.valid[..., None]
    return jnp.einsum("...k,...j->kj", truth.one_hot, guess, precision="highest")


def scores(counts: np.ndarray, names: tuple[str, ...] = ()) -> dict[str, float]:
    """Computes the scores of a confusion matrix.

    Args:
      counts: [K, K], rows the true class.
      names: names of the classes; "0", "1", ... unless given.

    Returns:
      pixel_accuracy; class_accuracy (mean recall); mean_iou; mean_dice;
      frequency_weighted_iou; micro_iou; and "iou/NAME" of each class. NaN where nothing
      was labelled, and for a class that neither truth nor prediction holds.
    """
    counts = np.asarray(counts, np.float64)
    hit, true, guessed = np.diag(counts), counts.sum(1), counts.sum(0)
    union, total = true + guessed - hit, counts.sum()
    iou = _ratio(hit, union)
    names = names or tuple(str(k) for k in range(len(counts)))
    return {
        "pixel_accuracy": float(_ratio(hit.sum(), total)),
        "class_accuracy": _mean(_ratio(hit, true)),
        "mean_iou": _mean(iou),
        "mean_dice": _mean(_ratio(2 * hit, true + guessed)),
        "frequency_weighted_iou": float(_ratio(np.nansum(true * np.nan_to_num(iou)), total)),
        "micro_iou": float(_ratio(hit.sum(), union.sum())),
    } | {f"iou/{name}": float(value) for name, value in zip(names, iou, strict=True)}


def calibration(probability: jax.Array, truth: Truth, bins: int = BINS) -> dict[str, jax.Array]:
    """Sums confidence and correct predictions per bin of confidence.

    Args:
      probability: float [..., H, W, K].
      truth: of the same pixels.
      bins: of equal width over [0, 1].

    Returns:
      {"pixels", "confidence", "correct"}, float32 [bins] each.
    """
    confidence = jnp.max(probability, -1)
    right = (jnp.argmax(probability, -1) == truth.labels).astype(jnp.float32)
    place = jnp.clip((confidence * bins).astype(jnp.int32), 0, bins - 1)
    member = jax.nn.one_hot(place, bins) * truth.valid[..., None]
    axes = tuple(range(member.ndim - 1))
    return {
        "pixels": jnp.sum(member, axes),
        "confidence": jnp.sum(member * confidence[..., None], axes),
        "correct": jnp.sum(member * right[..., None], axes),
    }


def calibration_error(sums: dict[str, np.ndarray]) -> float:
    """Computes the expected calibration error (Guo et al. 2017).

    Args:
      sums: of `calibration`, as numpy arrays.

    Returns:
      The error in [0, 1]; NaN where nothing was labelled.
    """
    gap = np.abs(np.asarray(sums["correct"], float) - np.asarray(sums["confidence"], float))
    return float(_ratio(gap.sum(), np.sum(sums["pixels"])))


def loss_sums(terms: jax.Array, mask: jax.Array) -> dict:
    """Sums the loss over the rows that are examples, and counts them.

    Args:
      terms: losses, float [B].
      mask: bool [B].

    Returns:
      {"loss", "count"}, float32 scalars.
    """
    loss = jnp.sum(jnp.where(mask, terms, 0.0))
    return {"loss": loss, "count": jnp.sum(mask.astype(jnp.float32))}


def _ratio(part, whole):
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def _mean(values):
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
