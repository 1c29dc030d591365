"""Scores of contours: boundary F1 and the 95 % Hausdorff distance, as sums."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.distance import FAR, distance
from jaxseg.labels import Truth

TOLERANCE = 0.0075  # of the image diagonal, as in BSDS and in SegNet's boundary F1


def contour(region: jax.Array) -> jax.Array:
    """Finds the pixels of a region that have a 4-neighbour outside it.

    All beyond the image is outside, as in MONAI and MedPy: so an object that the image cuts
    has a contour all around, and two objects of which one reaches the border compare.

    Args:
      region: bool [H, W].

    Returns:
      bool [H, W].
    """
    padded = jnp.pad(region, 1)
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~around


def contour_sums(prediction: jax.Array, truth: Truth, tolerance: float = TOLERANCE) -> dict:
    """Sums scores of contours over a batch, per class.

    For each image and class: precision is the share of predicted contour pixels
    within the tolerance of the true contour, recall the converse, F1 their harmonic
    mean (Csurka et al. 2013); the Hausdorff distance is the larger of the two
    directed 95th percentiles, in pixels. F1 is defined where truth or prediction has
    a contour (0 if only one has), the distance where both have. Ignored pixels are
    taken out of both regions.

    Args:
      prediction: int [B, H, W].
      truth: of the same pixels.
      tolerance: share of the image diagonal.

    Returns:
      {"f1", "f1_images", "hausdorff95", "hausdorff95_images"}, float32 [K] each: sums of
      scores, and of the images for which they are defined.
    """
    height, width = prediction.shape[1:]
    reach = tolerance * math.hypot(height, width)

    def one_class(k, guess, labels, counted):
        theirs = contour((labels == k) & counted)
        ours = contour((guess == k) & counted)
        to_ours, to_theirs = distance(ours), distance(theirs)
        precision = _share(ours, to_theirs <= reach)
        recall = _share(theirs, to_ours <= reach)
        either, both = ours.any() | theirs.any(), ours.any() & theirs.any()
        f1 = 2 * precision * recall / jnp.maximum(precision + recall, 1e-12)
        far = jnp.maximum(_percentile95(to_theirs, ours), _percentile95(to_ours, theirs))
        return {
            "f1": jnp.where(both, f1, 0.0),
            "f1_images": either.astype(jnp.float32),
            "hausdorff95": jnp.where(both, far, 0.0),
            "hausdorff95_images": both.astype(jnp.float32),
        }

    def one_image(item):
        guess, labels, valid = item
        count = jnp.arange(truth.one_hot.shape[-1])
        per_class = jax.lax.map(lambda k: one_class(k, guess, labels, valid > 0), count)
        return jax.tree.map(lambda x: x + 0.0 * jnp.sum(valid), per_class)

    parts = jax.lax.map(one_image, (prediction, truth.labels, truth.valid))
    return jax.tree.map(lambda x: jnp.sum(x, 0), parts)


def contour_scores(sums: dict) -> dict[str, float]:
    """Averages over images, then over classes.

    Args:
      sums: of `contour_sums`, as numpy arrays.

    Returns:
      boundary_f1, and hausdorff95 in pixels; NaN where no image defines them.
    """
    scores = {}
    for key, name in {"f1": "boundary_f1", "hausdorff95": "hausdorff95"}.items():
        images = np.asarray(sums[f"{key}_images"], np.float64)
        per_class = np.asarray(sums[key], np.float64)[images > 0] / images[images > 0]
        scores[name] = float(per_class.mean()) if per_class.size else float("nan")
    return scores


def _share(mask, hits):
    return jnp.sum(mask & hits) / jnp.maximum(jnp.sum(mask), 1)


def _percentile95(values, mask):
    """np.percentile(values[mask], 95) of an array with a fixed shape."""
    ranked = jnp.sort(jnp.where(mask, values, FAR).ravel())
    place = 0.95 * jnp.maximum(jnp.sum(mask) - 1, 0).astype(values.dtype)
    low = jnp.floor(place).astype(jnp.int32)
    high = jnp.ceil(place).astype(jnp.int32)
    return ranked[low] + (place - low.astype(place.dtype)) * (ranked[high] - ranked[low])
