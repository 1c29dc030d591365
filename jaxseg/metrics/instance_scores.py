"""Scores of objects: which true object does each predicted one match, and how well?

A predicted and a true object match where their intersection over union (IoU) is more than
a threshold of at least one half. Then no object can match two others, so there is nothing
to assign, and every score is a sum over images that is computed on the device.

`ap50` is the average precision of the Data Science Bowl 2018 and of StarDist (Schmidt et
al. 2018), TP / (TP + FP + FN), here of the counts of all images together. COCO's AP is
another number: the area under a curve over the confidence of each object, which a label map
does not have.
"""

import jax
import jax.numpy as jnp
import numpy as np

# IoU thresholds .5, .55, ..., .95, in twentieths, so that they are compared exactly.
TWENTIETHS = np.arange(10, 20, dtype=np.int32)
VOID = 65535


def instance_sums(prediction: jax.Array, truth: jax.Array, void: int = VOID) -> dict:
    """Compares the objects of one image. Exact for images of less than 10^8 pixels.

    Void pixels count for no object (Kirillov et al. 2019): they are taken out of the IoU,
    and an object that is predicted with more than half of its pixels there is no mistake.

    Args:
      prediction: int [H, W], the number of an object, 0 for background; at most H W, as
        `jaxseg.inference.instances` numbers them.
      truth: int [H, W], the same, in any order; at most 65535.
      void: the number in the truth of pixels that are not known.

    Returns:
      "matched" and "predicted", float32 [10], objects at each IoU threshold; and float32
      scalars: "true" objects; sums over the pairs that match at .5 of their "iou" and of
      their "dice"; "count_error", the difference of the numbers of objects; and pixels of
      the foreground, "both_pixels", "true_pixels", "predicted_pixels". All NaN if a number
      is out of range.
    """
    prediction, truth = prediction.ravel().astype(jnp.int32), truth.ravel().astype(jnp.int32)
    fits = jnp.all((truth >= 0) & (truth <= VOID) & (prediction >= 0) & (prediction <= truth.size))
    known = (truth != void).astype(jnp.int32)
    true = _ranks(truth * known)
    true_size, guess_size = _sum_at(known, true), _sum_at(known, prediction)
    whole = _sum_at(jnp.ones_like(known), prediction)
    is_true, is_guess = (true_size > 0).at[0].set(False), (whole > 0).at[0].set(False)
    excused = is_guess & (2 * guess_size < whole)

    partner = _majority(prediction, known, true, true_size)
    common = _sum_at(known * (prediction == partner[true]).astype(jnp.int32), true)
    both = true_size + guess_size[partner]
    objects = is_true & is_guess[partner]
    hits = jax.vmap(lambda t: objects & (20 * common > t * (both - common)))(TWENTIETHS)
    mean = lambda part, total: jnp.sum(jnp.where(hits[0], part / jnp.maximum(total, 1), 0.0))
    counted = jnp.sum(is_guess & ~excused)
    shown = known * (true > 0).astype(jnp.int32), known * (prediction > 0).astype(jnp.int32)
    sums = {
        "matched": jnp.sum(hits, 1),
        "predicted": counted + jnp.sum(jnp.where(excused[partner][None], hits, False), 1),
        "true": jnp.sum(is_true),
        "iou": mean(common, both - common),
        "dice": mean(2 * common, both),
        "count_error": jnp.abs(jnp.sum(is_true) - counted),
        "both_pixels": jnp.sum(shown[0] * shown[1]),
        "true_pixels": jnp.sum(shown[0]),
        "predicted_pixels": jnp.sum(shown[1]),
    }
    checked = lambda value: jnp.where(fits, value.astype(jnp.float32), jnp.nan)
    return {name: checked(value) for name, value in sums.items()}


def scores(sums: dict[str, np.ndarray], images: float) -> dict[str, float]:
    """Turns sums over images into scores.

    Args:
      sums: of `instance_sums`, added over images, as numpy arrays.
      images: their number.

    Returns:
      ap50, ap75, and ap, the mean over the ten thresholds; pq = sq rq, the panoptic quality
      of one class, segmentation quality (mean IoU of what matches at .5) and recognition
      quality (F1) (Kirillov et al. 2019); matched_dice, the mean Dice of what matches at .5;
      count_error, the mean difference of the numbers of objects in an image; and
      foreground_dice, of all objects' pixels together. NaN where there is nothing to score.
    """
    matched, predicted = np.asarray(sums["matched"]), np.asarray(sums["predicted"])
    true = np.asarray(sums["true"], np.float64)
    precision = _ratio(matched, true + predicted - matched)
    pixels = sums["true_pixels"] + sums["predicted_pixels"]
    values = {
        "ap50": precision[0],
        "ap75": precision[5],
        "ap": precision.mean(),
        "pq": _ratio(2 * sums["iou"], true + predicted[0]),
        "sq": _ratio(sums["iou"], matched[0]),
        "rq": _ratio(2 * matched[0], true + predicted[0]),
        "matched_dice": _ratio(sums["dice"], matched[0]),
        "count_error": _ratio(sums["count_error"], images),
        "foreground_dice": _ratio(2 * sums["both_pixels"], pixels),
    }
    return {name: float(value) for name, value in values.items()}


def _ranks(numbers):
    """Numbers 0 to 65535 as 0, 1, 2, ... in their order, 0 for 0."""
    present = jnp.zeros(VOID + 1, jnp.int32).at[numbers].set(1).at[0].set(0)
    return jnp.where(numbers > 0, jnp.cumsum(present)[numbers], 0)


def _sum_at(values, places):
    """Adds each value at its place: int32 [N + 1] of [N]."""
    return jnp.zeros(values.size + 1, jnp.int32).at[places].add(values)


def _majority(prediction, known, true, true_size):
    """The predicted number that more than half of a true object's known pixels have.

    An object that matches has one, because its IoU is more than one half. It is found bit by
    bit; an object without one gets any number.
    """
    half = true_size // 2

    def bit(place, found):
        marked = known * ((prediction >> place) & 1)
        return found + ((_sum_at(marked, true) > half).astype(jnp.int32) << place)

    found = jax.lax.fori_loop(0, known.size.bit_length(), bit, jnp.zeros_like(true_size))
    return jnp.minimum(found, known.size)


def _ratio(part, whole):
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
