"""Single objects beside the true ones, over their image, with errors."""

from collections.abc import Sequence

import numpy as np

from jaxseg.instance_targets import VOID
from jaxseg.pictures import palette
from launch.reporting import comparisons, sheets


def draw(
    image: np.ndarray,
    truth: np.ndarray,
    guess: np.ndarray,
    classes: Sequence[str] = (),
    given: Sequence[comparisons.Colour] = (),
) -> tuple[list[tuple[np.ndarray, ...]], tuple[sheets.Legend, ...]]:
    """Draws image, true objects, predicted objects and errors of examples.

    Args:
      image: uint8 [N, H, W, 3].
      truth: numbers of objects [N, H, W, 1], 0 for background; `VOID` where not known.
      guess: numbers of objects [N, H, W, 1], 0 for background.
      classes, given: not used; all objects are of one class.

    Returns:
      Four tiles uint8 [h, w, 3] of each example; and the legends of objects and of errors.
    """
    rows, any_void = [], False
    for picture, *maps in zip(image, truth[..., 0], guess[..., 0], strict=True):
        height, width = sheets.content_size((maps[0] != VOID) | picture.any(-1))
        true, predicted = (numbers[:height, :width].astype(np.int64) for numbers in maps)
        void = true == VOID
        true, predicted = matched(true, predicted)
        count = 1 + max(true.max(), predicted.max())
        colours = palette()[np.append(0, 1 + np.arange(count) % 254)]  # the last one is of void
        true = np.where(void, count, true)
        rows.append(comparisons.row_tiles(picture[:height, :width], true, predicted, colours, True))
        any_void |= void.any()
    words = (
        comparisons.note("each has a colour; a predicted one that of the true one that it matches"),
        comparisons.note("(they match if they share more than half of their joint area)"),
    )
    errors = comparisons.legend_of_errors(
        "missed: an object, called background",
        "false: background, called an object",
        "wrong object: joined with another, divided, or without a match",
        void=any_void,
    )
    return rows, (sheets.Legend("objects", words), errors)


def matched(truth: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the objects of an image anew, so that those that match have the same number.

    Objects match where their intersection over union is above one half, without void pixels,
    as in `jaxseg.metrics.instance_scores`.

    Args:
      truth: int64 [H, W], 0 for background and `VOID` where not known.
      guess: int64 [H, W], 0 for background.

    Returns:
      The true objects as 1 to n in their order, 0 for void; and the predicted ones by the
      numbers of the true objects that they match, others from n + 1 on.
    """
    known = truth != VOID
    true, predicted = _ranks(truth * known), _ranks(guess)
    at_true, at_guess, count = true[known], predicted[known], predicted.max() + 1
    pairs, common = np.unique(at_true * count + at_guess, return_counts=True)
    one, other = np.divmod(pairs, count)
    both = np.bincount(at_true)[one] + np.bincount(at_guess)[other]
    match = (one > 0) & (other > 0) & (3 * common > both)  # 2 common > union
    new = true.max() + np.arange(count)
    new[0] = 0
    new[other[match]] = one[match]
    return true, new[predicted]


def _ranks(numbers):
    """Numbers as 1, 2, ... in their order, 0 for 0."""
    return np.unique(np.append(0, numbers), return_inverse=True)[1][1:].reshape(numbers.shape)
