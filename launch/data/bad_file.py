"""The error for a file of the user that cannot be used: which, where, why, and how to fix it."""

import numpy as np


class BadFile(ValueError):
    """A file that cannot be used.

    Attributes:
      path: the file, as text.
      place: where in the file, such as "x 17, y 4" or "line 3"; "" for the whole file.
      problem: what is wrong.
      fix: what the user can do.
    """

    def __init__(self, path, problem: str, fix: str, place: str = ""):
        self.path, self.place, self.problem, self.fix = str(path), place, problem, fix
        super().__init__(f"{path}{f' ({place})' if place else ''}: {problem}. {fix}")

    def __reduce__(self):  # worker processes send it to the main process
        return BadFile, (self.path, self.problem, self.fix, self.place)


def pixel(index: int, array: np.ndarray) -> str:
    """Describes the pixel of an array [H, W, ...] at a flat index into [H, W].

    Args:
      index: from 0 to H * W - 1, row by row.
      array: gives the width W.

    Returns:
      Text such as "x 17, y 4".
    """
    y, x = divmod(int(index), array.shape[1])
    return f"x {x}, y {y}"
