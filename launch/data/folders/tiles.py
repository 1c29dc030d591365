"""Cuts images that are larger than an example into tiles."""

import itertools
from typing import NamedTuple

import numpy as np

from launch.data.classes import IGNORED

# Values without a label, of the arrays that train and score.
VOID = {"segmentation": IGNORED, "labels": IGNORED, "instances": 65535}


class Tile(NamedTuple):
    """A part of an image, in pixels of the scaled image.

    Tiles overlap where they have to. Each pixel counts in one of them only; in the others it
    is there for the eye, with a label of void. So sums over tiles are sums over images.

    Attributes:
      rows: (start, first that counts, first that does not count any more).
      columns: as `rows`.
    """

    rows: tuple[int, int, int]
    columns: tuple[int, int, int]

    def cut(self, key: str, array: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        """The tile of an array.

        Args:
          key: the array's name in the example.
          array: [H, W, ...], scaled.
          canvas: (height, width) of a tile, at most.

        Returns:
          [h, w, ...]: a copy.
        """
        (top, first, last), (left, begin, end) = self
        part = array[top : top + canvas[0], left : left + canvas[1]].copy()
        if key in VOID:
            counts = np.zeros(part.shape[:2], bool)
            counts[first - top : last - top, begin - left : end - left] = True
            part[~counts] = VOID[key]
        return part


WHOLE = Tile((0, 0, 0), (0, 0, 0))  # of an image that is scaled to fit


def tiles(size: tuple[int, int], canvas: tuple[int, int]) -> list[Tile]:
    """Covers an image with tiles, as few as can be, evenly spaced.

    Args:
      size: (height, width) of the scaled image.
      canvas: (height, width) of a tile.

    Returns:
      The tiles, row by row.
    """
    rows, columns = (_spans(*sides) for sides in zip(size, canvas, strict=True))
    return [Tile(row, column) for row in rows for column in columns]


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) of an image after scaling, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _spans(length, side):
    """(start, first that counts, first that does not) of each tile along one axis."""
    number = -(-length // side)
    if number == 1:
        return [(0, 0, length)]
    starts = [round(n * (length - side) / (number - 1)) for n in range(number)]
    middles = [(end + side + start) // 2 for end, start in itertools.pairwise(starts)]
    return list(zip(starts, [0, *middles], [*middles, length], strict=True))
