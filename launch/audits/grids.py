"""Image sizes so small that every image can be listed."""

from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """All images of one size.

    Attributes:
      shape: (H, W, C).
      levels: grey levels that a value can have, ascending, from 0 to 255.
    """

    shape: tuple[int, int, int]
    levels: tuple[int, ...]

    @property
    def images(self) -> np.ndarray:
        """Every image, uint8 [N, H, W, C]; the values of image n are the digits of n."""
        size, base = int(np.prod(self.shape)), len(self.levels)
        digits = np.arange(base**size)[:, None] // base ** np.arange(size) % base
        return np.array(self.levels, np.uint8)[digits].reshape(-1, *self.shape)

    @property
    def title(self) -> str:
        """Such as "512 images of 3 x 3 in 2 levels"."""
        height, width, _ = self.shape
        count = len(self.levels) ** int(np.prod(self.shape))
        return f"{count:,} images of {height} x {width} in {len(self.levels)} levels"


BINARY = Grid((3, 3, 1), (0, 255))
GREY = Grid((1, 2, 1), tuple(range(256)))
ONE_PIXEL = Grid((1, 1, 1), tuple(range(256)))


def coarser(total: float) -> list[Grid]:
    """The grid of a model that rounds to fewer levels than 256.

    Such a model counts each of its images (256 / levels)^2 times in the sum over `GREY`,
    so the sum gives the number of its levels.

    Args:
      total: the sum of the probabilities over `GREY`.

    Returns:
      One grid; none if the sum belongs to no number of levels from 2 to 255.
    """
    levels = round(256 / np.sqrt(total)) if 1 < total < np.inf else 256
    if not 2 <= levels < 256:
        return []
    return [Grid(GREY.shape, tuple(map(int, np.round(np.linspace(0, 255, levels)))))]
