"""The BSDS boundary benchmark: ODS, OIS and AP of soft boundary maps.

The protocol of Martin, Fowlkes and Malik (2004) as the BSDS500 benchmark of Arbelaez et
al. (2011) computes it: a map is thresholded at 99 levels and thinned, and its pixels are
assigned one to one to those of every annotator, within 0.0075 of the image's diagonal.
A predicted pixel is right if any annotator's pixel matches it (precision). An annotated
pixel is detected if a predicted pixel matches it (recall, summed over annotators).

Assignment is irregular, so all of this runs on the host, in numpy and scipy.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxseg.metrics import edge_matching

# Points between neighbouring thresholds among which the best F is searched.
BETWEEN = np.linspace(0.0, 1.0, 100)


class Counts(NamedTuple):
    """Counts of one image for a precision-recall curve; int64 [T], one per threshold.

    Attributes:
      found: annotated pixels that were matched, summed over annotators.
      annotated: annotated pixels, summed over annotators.
      right: predicted pixels that some annotator's pixel matches.
      predicted: predicted pixels.
    """

    found: np.ndarray
    annotated: np.ndarray
    right: np.ndarray
    predicted: np.ndarray


class Point(NamedTuple):
    """A point of a precision-recall curve.

    Attributes:
      threshold: of the boundary map, in (0, 1).
      recall: R, in [0, 1].
      precision: P, in [0, 1].
      f: 2 P R / (P + R).
    """

    threshold: float
    recall: float
    precision: float
    f: float


def levels(thresholds: int = 99) -> np.ndarray:
    """Returns the benchmark's thresholds, evenly spaced inside (0, 1): 0.01, 0.02 ... 0.99.

    Args:
      thresholds: T, their number.

    Returns:
      float64 [T].

    Raises:
      ValueError: no threshold.
    """
    if thresholds < 1:
        raise ValueError(f"thresholds must be at least 1, got {thresholds}")
    return np.arange(1, thresholds + 1) / (thresholds + 1)


def score(
    strength: np.ndarray,
    annotations: Sequence[np.ndarray],
    thresholds: int = 99,
    max_distance: float = edge_matching.MAX_DISTANCE,
) -> Counts:
    """Compares one soft boundary map with every annotator of its image.

    Args:
      strength: float [H, W], in [0, 1].
      annotations: one or more bool [H, W], thin boundaries.
      thresholds: T, number of levels; 99 in the benchmark.
      max_distance: how far apart pixels may match, as a fraction of the diagonal.

    Returns:
      `Counts` of T thresholds.

    Raises:
      ValueError: no annotation, shapes that differ, or a strength that is not finite.
    """
    strength, truths = _checked(strength, annotations)
    total = sum(int(truth.sum()) for truth in truths)
    rows, edges, row = [], None, None
    for level in levels(thresholds):
        above = strength >= level
        if edges is None or not np.array_equal(above, edges):
            edges, row = above, _count(edge_matching.thin(above), truths, max_distance)
        rows.append(row)
    found, right, predicted = np.array(rows, np.int64).T
    return Counts(found, np.full(len(rows), total), right, predicted)


def summarise(images: Iterable[Counts]) -> dict[str, float]:
    """Computes ODS, OIS and AP of a set of images.

    Args:
      images: counts, all of the same number of thresholds.

    Returns:
      ODS, the best F at one threshold for all images, with its ODS_threshold,
      ODS_recall and ODS_precision; OIS, F of the counts at each image's own best
      threshold; and AP, the area under precision over recall, read at steps of 0.01.

    Raises:
      ValueError: no image, or images scored at different numbers of thresholds.
    """
    images = list(images)
    if len({len(counts.found) for counts in images}) != 1:
        raise ValueError("needs images, all scored at the same number of thresholds")
    total = Counts(*(np.sum(parts, axis=0) for parts in zip(*images, strict=True)))
    best = best_point(total)
    chosen = [_at_best(counts) for counts in images]
    own = Counts(*(np.sum(parts, axis=0, keepdims=True) for parts in zip(*chosen, strict=True)))
    return {
        "ODS": best.f,
        "OIS": float(_f(*curve(own))[0]),
        "AP": average_precision(total),
        "ODS_threshold": best.threshold,
        "ODS_recall": best.recall,
        "ODS_precision": best.precision,
    }


def curve(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Computes recall and precision, float64 [T] each; 0 of no annotated or predicted pixel."""
    recall = counts.found / np.maximum(counts.annotated, 1)
    return recall, counts.right / np.maximum(counts.predicted, 1)


def best_point(counts: Counts) -> Point:
    """Finds the best F of a curve, interpolated between neighbouring thresholds.

    Args:
      counts: of T thresholds.

    Returns:
      The `Point`.
    """
    recall, precision = curve(counts)
    thresholds = levels(len(recall))

    def between(values):
        steps = values[1:, None] * BETWEEN + values[:-1, None] * (1.0 - BETWEEN)
        return np.concatenate([values[:1], steps.ravel()])

    t, r, p = between(thresholds), between(recall), between(precision)
    f = _f(r, p)
    place = int(np.argmax(f))
    return Point(float(t[place]), float(r[place]), float(p[place]), float(f[place]))


def average_precision(counts: Counts) -> float:
    """Integrates precision over recall, linearly interpolated at recalls 0, 0.01 ... 1.

    Recalls outside the curve's own count as precision 0, as in the benchmark.

    Args:
      counts: of T thresholds.

    Returns:
      The area, in [0, 1].
    """
    recall, precision = curve(counts)
    recall, places = np.unique(recall, return_index=True)
    if len(recall) < 2:
        return 0.0
    grid = np.arange(101) / 100.0
    return float(np.interp(grid, recall, precision[places], left=0.0, right=0.0).sum() * 0.01)


def _checked(strength, annotations):
    strength = np.asarray(strength)
    truths = [np.asarray(truth, bool) for truth in annotations]
    shapes = {truth.shape for truth in truths}
    if strength.ndim != 2 or shapes != {strength.shape}:
        raise ValueError(
            f"strength must be [H, W] and every annotation of that shape, "
            f"got {strength.shape} and {sorted(shapes) or 'no annotation'}"
        )
    if not np.isfinite(strength).all():
        raise ValueError("strength holds values that are not finite")
    return strength, truths


def _count(predicted, truths, max_distance):
    """(found, right, predicted) of one thinned map."""
    found, right = 0, np.zeros_like(predicted)
    for truth in truths:
        hit, met = edge_matching.match(predicted, truth, max_distance)
        right |= hit
        found += int(met.sum())
    return found, int(right.sum()), int(predicted.sum())


def _at_best(counts):
    """The counts at the threshold of the best F, the last of several."""
    f = _f(*curve(counts))
    place = len(f) - 1 - int(np.argmax(f[::-1]))
    return Counts(*(values[place] for values in counts))


def _f(recall, precision):
    total = recall + precision
    return 2.0 * recall * precision / np.where(total > 0, total, 1.0)
