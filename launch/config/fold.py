"""`config.data.fold`: which part of the data is held out, of how many."""

import re
from typing import NamedTuple

from launch.config.errors import UserError

MOST = 20  # parts


class Fold(NamedTuple):
    """One fold of a cross-validation.

    Attributes:
      part: the part that is held out, from 1.
      parts: how many there are.
    """

    part: int
    parts: int


def parse(text: str) -> Fold | None:
    """Reads "2/5", the second fold of five.

    Args:
      text: `config.data.fold`.

    Returns:
      The fold; None for "", which divides nothing.

    Raises:
      UserError: it is no fold.
    """
    if not text:
        return None
    match = re.fullmatch("([0-9]{1,3})/([0-9]{1,3})", str(text))
    fold = Fold(int(match[1]), int(match[2])) if match else Fold(0, 0)
    if not (1 <= fold.part <= fold.parts and 2 <= fold.parts <= MOST):
        raise UserError(
            f"config.data.fold={text}: it must be k/n with 1 <= k <= n and 2 <= n <= {MOST}, as 2/5"
        )
    return fold
