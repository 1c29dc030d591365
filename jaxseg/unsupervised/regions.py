"""Regions from edges: watershed, and the ultrametric contour map.

A watershed of a boundary map cuts the image into many regions. Repeated merging of the
two neighbours with the weakest common boundary makes them a hierarchy. The strength
at which two regions merge is an ultrametric, and drawn at the pixels between them it is a
contour map; thresholded at any value, it is a set of closed contours (Arbelaez 2006; Arbelaez et
al. 2011, without the weighting of boundaries by their orientation).

Sequential by nature, so numpy and scipy on the host.
"""

import heapq

import jax
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from jaxseg.cues import boundary

_ridges = jax.jit(boundary.ridges)


def watershed(strength: np.ndarray, smooth: float = 1.0) -> np.ndarray:
    """Finds the catchment basins of a boundary map, numbered from 1.

    Every pixel belongs to the minimum that steepest descent leads to; boundaries lie
    between pixels.

    Args:
      strength: float [H, W] in [0, 1], not thinned (a thinned map has no slopes).
      smooth: sigma in pixels of the smoothing before the search for minima; a larger sigma
        gives fewer regions.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: a strength that is not [H, W] or not in [0, 1].
    """
    strength = _checked(strength)
    relief = ndimage.gaussian_filter(strength, smooth, mode="nearest") if smooth else strength
    height, width = relief.shape
    padded = np.pad(relief, 1, constant_values=np.inf)
    steps = [(row, column) for row in range(3) for column in range(3)]
    around = np.stack([padded[r : r + height, c : c + width] for r, c in steps])
    # Each pixel flows to its lowest neighbour, the first of equal ones: so no path is a
    # circle, and a plateau drains into one corner.
    rows, columns = np.divmod(around.argmin(0), 3)
    places = np.indices(relief.shape)
    end = ((places[0] + rows - 1) * width + places[1] + columns - 1).ravel()
    while not np.array_equal(end, further := end[end]):
        end = further
    _, labels = np.unique(end, return_inverse=True)
    return (labels.reshape(relief.shape) + 1).astype(np.int32)


def hierarchy(strength: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Merges regions by the mean strength of their common boundary.

    Args:
      strength: [H, W] in [0, 1].
      labels: int32 [H, W], regions numbered from 1, as of `watershed`.

    Returns:
      [N - 1, 3], one row per merge: two node numbers and the height, which never
      falls. Nodes 0 ... N - 1 are the regions (label - 1), node N + k is made by merge
      k, as in scipy.cluster.hierarchy.
    """
    between = _boundaries(strength, labels)
    count = int(labels.max())
    alive = dict.fromkeys(range(count))
    heap = []
    for i, edges in enumerate(between):
        heap.extend((total / length, i, j) for j, (total, length) in edges.items() if i < j)
    heapq.heapify(heap)
    merges, height = [], 0.0
    while heap:
        mean, i, j = heapq.heappop(heap)
        if i not in alive or j not in alive:
            continue
        new = count + len(merges)
        height = max(height, mean)
        merges.append((i, j, height))
        edges = _joined(between, i, j, new)
        between.append(edges)
        del alive[i], alive[j]
        alive[new] = None
        for k, (total, length) in edges.items():
            heapq.heappush(heap, (total / length, k, new))
    return np.array(merges, float).reshape(-1, 3)


def segment(
    strength: np.ndarray, ridges: np.ndarray | None = None, smooth: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the finest regions of a boundary map, and their hierarchy.

    Args:
      strength: float [H, W] in [0, 1], not thinned; it determines where regions end.
      ridges: the same map thinned; it determines how strong each boundary is, so that a
        line across the flank of a strong boundary counts little. By default
        `boundary.ridges(strength)`.
      smooth: see `watershed`.

    Returns:
      Labels int32 [H, W], and the merges of `hierarchy`.

    Raises:
      ValueError: a map that is not [H, W] or not in [0, 1].
    """
    labels = watershed(strength, smooth)
    if ridges is None:
        ridges = np.asarray(_ridges(np.asarray(strength, np.float32)), float)
    return labels, hierarchy(ndimage.maximum_filter(_checked(ridges), 3), labels)


def ucm(strength: np.ndarray, ridges: np.ndarray | None = None, smooth: float = 1.0) -> np.ndarray:
    """Computes the ultrametric contour map.

    A contour's height is that at which the regions on its two sides merge. It is
    drawn at the pixel right of or below which another region begins; the pixels of at
    least some threshold are the contours of `regions_at` that threshold.

    Args:
      strength: see `segment`.
      ridges: see `segment`.
      smooth: see `watershed`.

    Returns:
      float64 [H, W] in [0, 1], 0 inside the finest regions.

    Raises:
      ValueError: a map that is not [H, W] or not in [0, 1].
    """
    labels, tree = segment(strength, ridges, smooth)
    contours = np.zeros(labels.shape)
    for axis in (0, 1):
        first, second = _beside(labels, axis)
        heights = _heights(tree, first - 1, second - 1)
        target = contours[:-1] if axis == 0 else contours[:, :-1]
        np.maximum(target, heights.reshape(target.shape), out=target)
    return contours


def regions_at(
    strength: np.ndarray,
    threshold: float,
    ridges: np.ndarray | None = None,
    smooth: float = 1.0,
) -> np.ndarray:
    """Finds the regions that contours of at least `threshold` separate, numbered from 1.

    Regions at a lower threshold lie inside those at a higher one.

    Args:
      strength: see `segment`.
      threshold: in [0, 1].
      ridges: see `segment`.
      smooth: see `watershed`.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: a map that is not [H, W] or not in [0, 1].
    """
    labels, tree = segment(strength, ridges, smooth)
    count = int(labels.max())
    taken = tree[tree[:, 2] < threshold]
    # Merge k of those taken is node count + k: heights never fall.
    made = np.repeat(count + np.arange(len(taken)), 2)
    parts = taken[:, :2].astype(int).ravel()
    size = count + len(taken)
    graph = sparse.coo_array((np.ones(len(made)), (parts, made)), (size, size))
    _, names = csgraph.connected_components(graph, directed=False)
    _, numbers = np.unique(names[:count], return_inverse=True)
    return (numbers + 1).astype(np.int32)[labels - 1]


def _checked(strength):
    strength = np.asarray(strength, float)
    if strength.ndim != 2 or not strength.size:
        raise ValueError(f"strength must be [H, W] with pixels in it, got {strength.shape}")
    if not np.isfinite(strength).all() or strength.min() < 0 or strength.max() > 1:
        raise ValueError("strength must lie in [0, 1]")
    return strength


def _beside(array, axis):
    """The flat pixels of an array that have a successor along `axis`, and those."""
    if axis == 0:
        return array[:-1].ravel(), array[1:].ravel()
    return array[:, :-1].ravel(), array[:, 1:].ravel()


def _boundaries(strength, labels):
    """For each region: {neighbour: (sum of strength, length) of the common boundary}."""
    count = int(labels.max())
    first, second, weight = [], [], []
    for axis in (0, 1):
        i, j = _beside(labels - 1, axis)
        w = np.maximum(*_beside(strength, axis))
        crossing = i != j
        first.append(np.minimum(i, j)[crossing])
        second.append(np.maximum(i, j)[crossing])
        weight.append(w[crossing])
    codes = np.concatenate(first).astype(np.int64) * count + np.concatenate(second)
    codes, place, length = np.unique(codes, return_inverse=True, return_counts=True)
    total = np.bincount(place, np.concatenate(weight), len(codes))
    between = [{} for _ in range(count)]
    for code, sum_, size in zip(codes.tolist(), total.tolist(), length.tolist(), strict=True):
        i, j = divmod(code, count)
        between[i][j] = between[j][i] = (sum_, size)
    return between


def _joined(between, i, j, new):
    """The boundaries of node `new`, made of i and j; updates those of the neighbours."""
    edges = {}
    for old in (i, j):
        for k, (total, length) in between[old].items():
            if k in (i, j):
                continue
            del between[k][old]
            before = edges.get(k, (0.0, 0))
            edges[k] = between[k][new] = (before[0] + total, before[1] + length)
        between[old] = {}
    return edges


def _heights(tree, first, second):
    """The height at which leaves first[i] and second[i] come together; 0 for the same."""
    count = len(tree) + 1
    parent = np.arange(2 * count - 1)
    made = count + np.arange(len(tree))
    for side in (0, 1):
        parent[tree[:, side].astype(int)] = made
    height = np.concatenate([np.zeros(count), tree[:, 2]])
    pairs, place = np.unique(np.stack([first, second], 1), axis=0, return_inverse=True)
    low, high = pairs.min(1), pairs.max(1)
    while (apart := low != high).any():  # the younger node is the lower: climb from there
        low, high = np.where(apart, parent[low], low), high
        low, high = np.minimum(low, high), np.maximum(low, high)
    return height[low][place.ravel()]
