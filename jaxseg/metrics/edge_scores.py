"""The BSDS boundary benchmark: ODS, OIS and AP of soft boundary maps.

The protocol of Martin, Fowlkes and Malik (2004) as the BSDS500 benchmark of Arbelaez et
al. (2011) computes it: a map is thresholded at 99 levels and thinned, and its pixels are
assigned one to one to those of every annotator, within 0.0075 of the image's diagonal.
A predicted pixel is right if any annotator's pixel matches it (precision); an annotated
pixel is found if it is matched (recall, summed over annotators).

Assignment is irregular, so all of this runs on the host, in numpy and scipy.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

# Fraction of the image's diagonal within which pixels may match.
MAX_DISTANCE = 0.0075
# What a pixel without a match costs, in units of the greatest distance.
OUTLIER_COST = 100.0
# Distances are compared in hundredths of a pixel, as integers.
RESOLUTION = 100.0
# Points between neighbouring thresholds at which the best F is looked for.
BETWEEN = np.linspace(0.0, 1.0, 100)


class Counts(NamedTuple):
    """What one image adds to a precision-recall curve; int64 [T], one per threshold.

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
    """A point of a precision-recall curve, and its F = 2 P R / (P + R)."""

    threshold: float
    recall: float
    precision: float
    f: float


def levels(thresholds: int = 99) -> np.ndarray:
    """The benchmark's thresholds, evenly spaced inside (0, 1): 0.01, 0.02 ... 0.99."""
    if thresholds < 1:
        raise ValueError(f"thresholds must be at least 1, got {thresholds}")
    return np.arange(1, thresholds + 1) / (thresholds + 1)


def score(
    strength: np.ndarray,
    annotations: Sequence[np.ndarray],
    thresholds: int = 99,
    max_distance: float = MAX_DISTANCE,
) -> Counts:
    """Compares one soft boundary map with every annotator of its image.

    Args:
      strength: float [H, W], in [0, 1].
      annotations: one or more bool [H, W], thin boundaries.
      thresholds: number of levels; the benchmark takes 99.
      max_distance: how far apart pixels may match, as a fraction of the diagonal.

    Raises:
      ValueError: no annotation, shapes that differ, or a strength that is not finite.
    """
    strength, truths = _checked(strength, annotations)
    total = sum(int(truth.sum()) for truth in truths)
    rows, edges, row = [], None, None
    for level in levels(thresholds):
        above = strength >= level
        if edges is None or not np.array_equal(above, edges):
            edges, row = above, _count(thin(above), truths, max_distance)
        rows.append(row)
    found, right, predicted = np.array(rows, np.int64).T
    return Counts(found, np.full(len(rows), total), right, predicted)


def match(
    predicted: np.ndarray, truth: np.ndarray, max_distance: float = MAX_DISTANCE
) -> tuple[np.ndarray, np.ndarray]:
    """Assigns boundary pixels one to one.

    As many pixels as possible are matched, and of all such assignments one of the
    least total distance is taken (a sparse Jonker-Volgenant assignment, where the
    benchmark's own code runs a cost-scaling one on the same weights).

    Args:
      predicted, truth: bool [H, W].
      max_distance: as a fraction of the diagonal.

    Returns:
      The matched pixels of either, bool [H, W].
    """
    radius = max_distance * np.hypot(*predicted.shape)
    starts, ends, distances = _pairs(predicted, truth, radius)
    first, second = _assign(starts, ends, distances, np.ceil(OUTLIER_COST * radius * RESOLUTION))
    matched = np.zeros_like(predicted), np.zeros_like(truth)
    matched[0].flat[first] = True
    matched[1].flat[second] = True
    return matched


def thin(edges: np.ndarray) -> np.ndarray:
    """Thins a boundary map until it is stable: bool [H, W] -> bool [H, W].

    The parallel algorithm of Guo and Hall (1989) in the form that Lam, Lee and Suen
    (1992) give it, which is Matlab's `bwmorph(edges, "thin", Inf)`.
    """
    height, width = edges.shape
    stride = width + 2
    flat = np.pad(edges, 1).astype(np.uint8).ravel()
    around = (1, 1 - stride, -stride, -stride - 1, -1, stride - 1, stride, stride + 1)
    pixels, before = np.flatnonzero(flat), -1
    while len(pixels) != before:
        before = len(pixels)
        for removable in _REMOVABLE:
            code = sum(flat[pixels + step] << bit for bit, step in enumerate(around))
            gone = removable[code]
            flat[pixels[gone]] = 0
            pixels = pixels[~gone]
    return flat.reshape(height + 2, stride)[1:-1, 1:-1].astype(bool)


def summarise(images: Iterable[Counts]) -> dict[str, float]:
    """ODS, OIS and AP of a set of images.

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
    """Recall and precision, [T] each; 0 where nothing is annotated or predicted."""
    recall = counts.found / np.maximum(counts.annotated, 1)
    return recall, counts.right / np.maximum(counts.predicted, 1)


def best_point(counts: Counts) -> Point:
    """The best F of a curve, interpolated between neighbouring thresholds."""
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
    """Area under precision over recall, linearly interpolated at recalls 0, 0.01 ... 1.

    Recalls outside the curve's own count as precision 0, as in the benchmark.
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
        hit, met = match(predicted, truth, max_distance)
        right |= hit
        found += int(met.sum())
    return found, int(right.sum()), int(predicted.sum())


def _pairs(first, second, radius):
    """All pairs within `radius`: flat places in either map, and distances."""
    reach = int(np.ceil(radius))
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squares = down**2 + right**2
    near = squares <= radius**2
    down, right, distances = down[near], right[near], np.sqrt(squares[near])
    padded = np.pad(second, reach)
    rows, columns = np.nonzero(first)
    places = (rows + reach) * padded.shape[1] + columns + reach
    hits = padded.ravel()[places[:, None] + (down * padded.shape[1] + right)]
    which, step = np.nonzero(hits)
    width = first.shape[1]
    starts = rows[which] * width + columns[which]
    return starts, starts + down[step] * width + right[step], distances[step]


def _assign(starts, ends, distances, alone):
    """The assignment of least cost among pairs of nodes; `alone` is the price of none."""
    if not len(starts):
        return starts, ends
    left, rows = np.unique(starts, return_inverse=True)
    right, columns = np.unique(ends, return_inverse=True)
    if len(left) > len(right):  # rows that stay alone are what takes time
        return _assign(ends, starts, distances, alone)[::-1]
    # A column of its own lets each row stay alone. One is added to all weights because
    # a zero in a sparse matrix is no edge.
    own = np.arange(len(left))
    weights = np.concatenate([np.rint(distances * RESOLUTION) + 1.0, np.full(len(left), alone)])
    places = np.concatenate([rows, own]), np.concatenate([columns, len(right) + own])
    graph = sparse.csr_array((weights, places), shape=(len(left), len(right) + len(left)))
    rows, columns = csgraph.min_weight_full_bipartite_matching(graph)
    paired = columns < len(right)
    return left[rows[paired]], right[columns[paired]]


def _at_best(counts):
    """The counts at the threshold of the best F, the last of several."""
    f = _f(*curve(counts))
    place = len(f) - 1 - int(np.argmax(f[::-1]))
    return Counts(*(values[place] for values in counts))


def _f(recall, precision):
    total = recall + precision
    return 2.0 * recall * precision / np.where(total > 0, total, 1.0)


def _removable_table():
    """Whether the centre goes, by the code of its eight neighbours: bool [2, 256].

    Neighbours count from the right, against the clock: E NE N NW W SW S SE. The two
    rows are the two halves of an iteration.
    """
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    even, odd, following = x[:, 0::2], x[:, 1::2], np.roll(x[:, 0::2], -1, axis=1)
    crossings = (~even & (odd | following)).sum(1)
    pairs = np.minimum((even | odd).sum(1), (odd | following).sum(1))
    thinnable = (crossings == 1) & (pairs >= 2) & (pairs <= 3)
    first = (x[:, 1] | x[:, 2] | ~x[:, 7]) & x[:, 0]
    second = (x[:, 5] | x[:, 6] | ~x[:, 3]) & x[:, 4]
    return np.stack([thinnable & ~first, thinnable & ~second])


_REMOVABLE = _removable_table()
