"""Cleaning of label maps: small regions, holes, and all but the largest region.

Functions labels int [H, W] -> int32 [H, W] that compose in any order. Regions are
irregular, so this runs on the host. A region is a connected set of pixels of one
label. Ignored pixels keep their id, and no region takes that id.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from jaxseg.labels import IGNORE


def remove_small(
    labels: np.ndarray, min_size: int, ignore: int = IGNORE, connectivity: int = 4
) -> np.ndarray:
    """Gives each region of fewer than `min_size` pixels the label around it.

    A small region takes the label with which it has the longest common border (pairs of
    4-neighbours; the smaller id where two are as long), among regions that stay. A small
    region without such a neighbour waits until its neighbours have their new labels. Where
    every region is small, the largest stays; a region surrounded by ignored pixels stays too.

    Args:
      labels: int [H, W].
      min_size: least number of pixels of a region.
      ignore: id of pixels that stay unchanged.
      connectivity: 4, or 8 for regions that may connect at corners.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: `labels` is no map of integers, or another connectivity.
    """
    labels = _checked(labels)
    parts = regions(labels, connectivity)
    sizes, label = np.bincount(parts.ravel()), _label_of(parts, labels)
    stays = sizes >= min_size
    if not np.any(stays & (label != ignore)):
        stays[np.argmax(np.where(label != ignore, sizes, 0))] = True
    return _absorb(parts, label, stays, ignore)


def largest_component(
    labels: np.ndarray, classes: Sequence[int], ignore: int = IGNORE, connectivity: int = 4
) -> np.ndarray:
    """Keeps the largest region of each of these classes; the others are absorbed.

    A region that is not kept takes the label around it, as in `remove_small`. Of equally
    large regions the one whose first pixel comes first is kept.

    Args:
      labels: int [H, W].
      classes: ids of which one region stays.
      ignore: id of pixels that stay unchanged.
      connectivity: 4, or 8 for regions that may connect at corners.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: `labels` is no map of integers, or another connectivity.
    """
    labels = _checked(labels)
    parts = regions(labels, connectivity)
    sizes, label = np.bincount(parts.ravel()), _label_of(parts, labels)
    stays = ~np.isin(label, list(classes))
    for number in np.unique(label[~stays]):
        stays[np.argmax(np.where(label == number, sizes, 0))] = True
    return _absorb(parts, label, stays, ignore)


def fill_holes(
    labels: np.ndarray,
    classes: Sequence[int],
    max_size: int | None = None,
    ignore: int = IGNORE,
) -> np.ndarray:
    """Fills the regions that these classes enclose.

    A hole of a class is a 4-connected set of pixels of other labels that does not
    touch the image's border, as in `scipy.ndimage.binary_fill_holes`. Where the holes
    of several classes overlap, the largest wins: the outer class covers the inner.

    Args:
      labels: int [H, W].
      classes: ids whose holes are filled: those of objects, but not the background's, of
        which every object inside the image is a hole.
      max_size: largest hole that is filled, in pixels; None for any.
      ignore: id of pixels that stay unchanged.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: `labels` is no map of integers.
    """
    labels = _checked(labels)
    filled, largest = labels.copy(), np.zeros(labels.shape, np.int64)
    for number in sorted(set(classes) & set(np.unique(labels).tolist()) - {ignore}):
        parts, _ = ndimage.label(labels != number)
        sizes = np.bincount(parts.ravel())
        for border in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
            sizes[border] = 0
        sizes[0] = 0  # the class itself
        if max_size is not None:
            sizes[sizes > max_size] = 0
        wins = sizes[parts] > largest
        filled[wins], largest[wins] = number, sizes[parts][wins]
    return np.where(labels == ignore, ignore, filled)


def regions(labels: np.ndarray, connectivity: int = 4) -> np.ndarray:
    """Numbers the connected regions of equal labels from 0, in raster order.

    Args:
      labels: int [H, W].
      connectivity: 4 or 8 neighbours.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: another connectivity, or labels of another shape or kind.
    """
    labels = _checked(labels)
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity}")
    same = [a == b for a, b in _neighbours(labels, connectivity == 8)]
    return connected(*same)


def connected(*linked: np.ndarray) -> np.ndarray:
    """Numbers the connected sets of pixels from 0, in raster order.

    Args:
      *linked: bool, whether a pixel and its neighbour are connected: down [H - 1, W] and to
        the right [H, W - 1]; or these two and down right and down left [H - 1, W - 1].

    Returns:
      int32 [H, W].
    """
    shape = linked[0].shape[0] + 1, linked[0].shape[1]
    place = np.arange(shape[0] * shape[1]).reshape(shape)
    pairs = _neighbours(place, len(linked) > 2)
    a, b = (
        np.concatenate([pair[end][link] for pair, link in zip(pairs, linked, strict=True)])
        for end in (0, 1)
    )
    graph = sparse.coo_array((np.ones(len(a), bool), (a, b)), shape=(place.size, place.size))
    _, found = sparse.csgraph.connected_components(graph, directed=False)
    # scipy's numbers are in raster order today, but its documentation does not say so.
    _, first, found = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[found].reshape(shape).astype(np.int32)


def _absorb(parts, label, stays, ignore):
    """Gives the other regions the labels of those that stay, round by round."""
    label, done = label.copy(), stays | (label == ignore)
    borders = [(a[a != b], b[a != b]) for a, b in _neighbours(parts)]
    a, b = (np.concatenate([pair[end] for pair in borders]) for end in (0, 1))
    a, b = np.concatenate([a, b]), np.concatenate([b, a])
    while np.any(meets := ~done[a] & done[b] & (label[b] != ignore)):
        ids, index = np.unique(label[b[meets]], return_inverse=True)
        key, length = np.unique(a[meets].astype(np.int64) * len(ids) + index, return_counts=True)
        # Sorted so that the last entry of a part is its longest border, smallest id.
        order = np.lexsort((-key, length, key // len(ids)))
        part, chosen = np.divmod(key[order], len(ids))
        last = np.append(part[1:] != part[:-1], True)
        label[part[last]], done[part[last]] = ids[chosen[last]], True
    return label[parts]


def _neighbours(array, diagonals=False):
    """Pairs of neighbours, as pairs of arrays: down, right and perhaps the two diagonals."""
    pairs = [(array[:-1], array[1:]), (array[:, :-1], array[:, 1:])]
    if diagonals:
        pairs += [(array[:-1, :-1], array[1:, 1:]), (array[:-1, 1:], array[1:, :-1])]
    return pairs


def _label_of(parts, labels):
    """The label of each region."""
    label = np.empty(parts.max(initial=-1) + 1, np.int32)
    label[parts] = labels
    return label


def _checked(labels):
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iub" or not labels.size:
        raise ValueError(
            f"labels must be integers [H, W] with at least one pixel, got "
            f"{labels.dtype}{list(labels.shape)}"
        )
    return labels.astype(np.int32)
