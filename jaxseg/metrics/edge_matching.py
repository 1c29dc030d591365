"""Thinning of boundary maps, and one-to-one matching of their pixels, as in BSDS500.

Assignment is irregular, so this runs on the host, in numpy and scipy.
"""

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

# Fraction of the image's diagonal within which pixels may match.
MAX_DISTANCE = 0.0075
# Cost of a pixel without a match, in units of the greatest distance.
OUTLIER_COST = 100.0
# Distances are compared in hundredths of a pixel, as integers.
RESOLUTION = 100.0


def match(
    predicted: np.ndarray, truth: np.ndarray, max_distance: float = MAX_DISTANCE
) -> tuple[np.ndarray, np.ndarray]:
    """Assigns boundary pixels one to one.

    As many pixels as possible are matched, and of all such assignments one of the
    least total distance is taken (a sparse Jonker-Volgenant assignment, where the
    benchmark's own code runs a cost-scaling one on the same weights).

    Args:
      predicted: bool [H, W].
      truth: bool [H, W].
      max_distance: as a fraction of the diagonal.

    Returns:
      The matched pixels of either, bool [H, W] each.
    """
    radius = max_distance * np.hypot(*predicted.shape)
    starts, ends, distances = _pairs(predicted, truth, radius)
    first, second = _assign(starts, ends, distances, np.ceil(OUTLIER_COST * radius * RESOLUTION))
    matched = np.zeros_like(predicted), np.zeros_like(truth)
    matched[0].flat[first] = True
    matched[1].flat[second] = True
    return matched


def thin(edges: np.ndarray) -> np.ndarray:
    """Thins a boundary map until it is stable.

    The parallel algorithm of Guo and Hall (1989) in the form that Lam, Lee and Suen
    (1992) give it, which is Matlab's `bwmorph(edges, "thin", Inf)`.

    Args:
      edges: bool [H, W].

    Returns:
      bool [H, W].
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
    """The assignment of least cost among pairs of nodes; `alone` is the cost of no match."""
    if not len(starts):
        return starts, ends
    left, rows = np.unique(starts, return_inverse=True)
    right, columns = np.unique(ends, return_inverse=True)
    if len(left) > len(right):  # rows without a match take the most time
        return _assign(ends, starts, distances, alone)[::-1]
    # Each row has a column of its own, so that it may stay without a match. All weights
    # are at least 1 because a zero in a sparse matrix is no edge.
    own = np.arange(len(left))
    weights = np.concatenate([np.rint(distances * RESOLUTION) + 1.0, np.full(len(left), alone)])
    places = np.concatenate([rows, own]), np.concatenate([columns, len(right) + own])
    graph = sparse.csr_array((weights, places), shape=(len(left), len(right) + len(left)))
    rows, columns = csgraph.min_weight_full_bipartite_matching(graph)
    paired = columns < len(right)
    return left[rows[paired]], right[columns[paired]]


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
