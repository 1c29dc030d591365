"""Segmentation by depth alone, without training: layers of distance, and surfaces.

On the host: both are irregular, and neither is an input of a network.
"""

import numpy as np

from jaxseg.cues import depth as cue
from jaxseg.inference import postprocess
from jaxseg.labels import IGNORE

BINS = 256  # bins of log depth; layers are cut between bins
SPREAD = 0.15  # root mean square of log depth within layers, below which no more are cut


def layers(depth: np.ndarray, count: int | None = None, ignore: int = IGNORE) -> np.ndarray:
    """Cuts a scene into layers of distance, 0 the nearest.

    The cuts are those of exact k-means of log depth (natural breaks, Fisher 1958), so a
    layer's depth varies by about the same ratio near and far.

    Args:
      depth: float [H, W] in metres; unknown pixels get the ignore id.
      count: number of layers; fewer where there are not as many depths. None takes the
        fewest within which depth varies by 15 % (root mean square of its logarithm).
      ignore: id of pixels of unknown depth.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: a count outside [1, BINS).
    """
    if count is not None and not 1 <= count < BINS:
        raise ValueError(f"count={count}: give 1 to {BINS - 1} layers, or None to estimate")
    valid = np.asarray(cue.known(depth))
    labels = np.full(valid.shape, ignore, np.int32)
    if valid.any():
        values = np.log(np.asarray(depth, np.float64)[valid])
        labels[valid] = np.searchsorted(_cuts(values, count), values, side="right")
    return labels


def surfaces(depth: np.ndarray, jump: float = cue.EDGE, min_size: int = 20) -> np.ndarray:
    """Finds the surfaces that depth edges separate, numbered from 1 in raster order.

    Neighbours belong together where their relative jump is less than `jump`, see
    `jaxseg.cues.depth.jumps`.

    Args:
      depth: float [H, W] in metres.
      jump: relative depth discontinuity that separates, 0.1 for 10 %.
      min_size: surfaces of fewer pixels join the neighbour of the longest border.

    Returns:
      int32 [H, W]; 0 where depth is unknown.
    """
    valid = np.asarray(cue.known(depth))
    linked = [
        valid & np.roll(valid, -1, axis) & (np.asarray(cue.jumps(depth, axis)) < jump)
        for axis in (0, 1)
    ]
    found = postprocess.connected(linked[0][:-1], linked[1][:, :-1]) + 1
    kept = postprocess.remove_small(np.where(valid, found, 0), min_size, ignore=0)
    names, index = np.unique(kept, return_inverse=True)
    numbers = np.arange(len(names)) + (names[0] != 0)
    return numbers[index].reshape(kept.shape).astype(np.int32)


def _cuts(values, count):
    """Finds the cuts of numbers that give the least squared deviations within parts."""
    low, high = values.min(), values.max()
    edges = np.linspace(low, high + 1e-9, BINS + 1)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)
    sums = np.stack([np.bincount(bins, values**power, BINS) for power in (0, 1, 2)])
    n, first, second = np.concatenate([np.zeros((3, 1)), sums.cumsum(1)], 1)
    # within[i, j]: squared deviations of bins i to j - 1 from their mean.
    n, first, second = (part[None, :] - part[:, None] for part in (n, first, second))
    within = np.where(n > 0, second - first**2 / np.where(n > 0, n, 1.0), 0.0).clip(0.0)
    within[np.tril_indices(BINS + 1, -1)] = np.inf
    best, starts = within[0], []
    enough = SPREAD**2 * len(values)
    while len(starts) + 1 < (count or BINS) and (count or best[-1] > enough):
        total = best[:, None] + within
        starts.append(total.argmin(0))
        best = total.min(0)
    places, end = [], BINS
    for start in reversed(starts):
        end = start[end]
        places.append(end)
    inner = [place for place in sorted(set(places)) if 0 < place < BINS]
    return edges[inner]
