"""Scores of a segmentation whose labels are arbitrary: regions matched to the true ones.

For unsupervised methods, which find regions but no classes. The criteria are those of
the Prague texture segmentation benchmark (Haindl and Mikes 2008), the region based ones
after Hoover et al. 1996. A region is all pixels of a label, connected or not. Matching
is irregular, so this is numpy and scipy on the host.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

OVERLAP = 0.75


def overlaps(prediction: np.ndarray, truth: np.ndarray, ignore: int | None = None) -> np.ndarray:
    """Counts the pixels that each true region has in common with each predicted one.

    Args:
      prediction: integer labels [H, W].
      truth: integer labels [H, W].
      ignore: the id in the truth of pixels that do not count.

    Returns:
      int64 [T, P], for T true and P predicted regions; regions without a pixel that counts
      have no row and no column.

    Raises:
      ValueError: the shapes differ, labels are no integers, or no pixel counts.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape}, but truth is {truth.shape}")
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"{name} must hold integer labels, got {labels.dtype}")
    counts = np.full(truth.shape, True) if ignore is None else truth != ignore
    if not counts.any():
        raise ValueError("no pixel counts: the truth is empty, or all of it is ignored")
    rows, of_truth = np.unique(truth[counts], return_inverse=True)
    columns, of_prediction = np.unique(prediction[counts], return_inverse=True)
    table = np.zeros((len(rows), len(columns)), np.int64)
    np.add.at(table, (of_truth, of_prediction), 1)
    return table


def correct_overlap(table: np.ndarray) -> float:
    """CO: the share of pixels that agree under the best one-to-one matching of regions.

    Args:
      table: common pixels [T, P], of `overlaps`; regions without a partner count as wrong.

    Returns:
      The share, in [0, 1].
    """
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def correct_segments(table: np.ndarray, overlap: float = OVERLAP) -> float:
    """CS: the share of the true regions that are detected.

    A true region is detected when one predicted region has at least `overlap` of the pixels
    of both.

    Args:
      table: common pixels [T, P], of `overlaps`.
      overlap: in (0.5, 1], so that no region is detected twice.

    Returns:
      The share, in [0, 1].

    Raises:
      ValueError: `overlap` outside (0.5, 1].
    """
    _check(overlap)
    of_truth, of_prediction = _fractions(table)
    found = (of_truth >= overlap) & (of_prediction >= overlap)
    return float(found.any(1).mean())


def over_segmentation(table: np.ndarray, overlap: float = OVERLAP) -> float:
    """OS: the share of the true regions that are predicted in two or more pieces.

    Pieces lie with at least `overlap` of their pixels in the region, and together cover
    at least `overlap` of it.

    Args:
      table: common pixels [T, P], of `overlaps`.
      overlap: in (0.5, 1].

    Returns:
      The share, in [0, 1].

    Raises:
      ValueError: `overlap` outside (0.5, 1].
    """
    _check(overlap)
    of_truth, of_prediction = _fractions(table)
    pieces = of_prediction >= overlap
    covered = (of_truth * pieces).sum(1) >= overlap
    return float((covered & (pieces.sum(1) >= 2)).mean())


def under_segmentation(table: np.ndarray, overlap: float = OVERLAP) -> float:
    """US: the share of the true regions that are predicted as one region with others.

    The mirror of over-segmentation: a predicted region consists of two or more true ones,
    each of which counts.

    Args:
      table: common pixels [T, P], of `overlaps`.
      overlap: in (0.5, 1].

    Returns:
      The share, in [0, 1].

    Raises:
      ValueError: `overlap` outside (0.5, 1].
    """
    _check(overlap)
    of_truth, of_prediction = _fractions(table)
    pieces = of_truth >= overlap
    merged = ((of_prediction * pieces).sum(0) >= overlap) & (pieces.sum(0) >= 2)
    return float((pieces & merged).any(1).mean())


def region_scores(
    prediction: np.ndarray, truth: np.ndarray, ignore: int | None = None
) -> dict[str, float]:
    """Computes all scores of this module at the default overlap.

    Args:
      prediction: integer labels [H, W].
      truth: integer labels [H, W].
      ignore: the id in the truth of pixels that do not count.

    Returns:
      correct_overlap, correct_segments, over_segmentation, under_segmentation, in [0, 1].

    Raises:
      ValueError: as of `overlaps`.
    """
    table = overlaps(prediction, truth, ignore)
    scores = (correct_overlap, correct_segments, over_segmentation, under_segmentation)
    return {score.__name__: score(table) for score in scores}


def _fractions(table):
    return table / table.sum(1, keepdims=True), table / table.sum(0, keepdims=True)


def _check(overlap):
    if not 0.5 < overlap <= 1.0:
        raise ValueError(f"overlap must be in (0.5, 1], got {overlap}")
