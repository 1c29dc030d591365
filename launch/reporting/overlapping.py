"""Classes that may overlap beside their truth, over their image, with errors."""

from collections.abc import Sequence

import numpy as np

from launch.reporting import comparisons, sheets

STRIPES = 32  # of classes at one pixel, over the longer side of an image
NONE = "none of them"  # where a pixel is of no class


def draw(
    image: np.ndarray,
    truth: np.ndarray,
    guess: np.ndarray,
    classes: Sequence[str],
    given: Sequence[comparisons.Colour] = (),
) -> tuple[list[tuple[np.ndarray, ...]], tuple[sheets.Legend, ...]]:
    """Draws image, truth, prediction and errors of examples; stripes where classes overlap.

    Args:
      image: uint8 [N, H, W, 3].
      truth: [N, K, H, W, 1] of 0, 1, and 2 where void.
      guess: [N, K, H, W, 1] of 0 and 1.
      classes: the names of the K classes.
      given: not used; classes that overlap have the colours that `predict` gives them.

    Returns:
      Four tiles uint8 [h, w, 3] of each example; and the legends of classes and of errors.
    """
    names = (NONE, *classes)
    colours = comparisons.class_colours(len(names), background=True)
    seen, overlap, rows = np.zeros(len(names) + 1, np.int64), False, []
    for picture, true, predicted in zip(image, truth[..., 0], guess[..., 0], strict=True):
        void = (true > 1).all(0)
        height, width = sheets.content_size(~void | picture.any(-1))
        picture, void = picture[:height, :width], void[:height, :width]
        true, predicted = true[:, :height, :width], predicted[:, :height, :width]
        maps = [np.where(void, len(names), striped(true == 1)), striped(predicted == 1)]
        wrong = compared(true, predicted)
        rows.append(comparisons.row_tiles(picture, *maps, colours, True, wrong))
        overlap |= any(((labels == 1).sum(0) > 1).any() for labels in (true, predicted))
        for ids in maps:
            seen += np.bincount(ids.ravel(), minlength=len(seen))
    legend = comparisons.legend_of_classes(names, colours, seen, True)
    if overlap:
        stripes = comparisons.note("stripes: several classes at the same place")
        legend = legend._replace(entries=(*legend.entries, stripes))
    return rows, (legend, _legend_of_errors(classes, seen[-1] > 0))


def striped(present: np.ndarray) -> np.ndarray:
    """Gives each pixel one of its classes, in diagonal stripes where it has several.

    Args:
      present: bool [K, H, W].

    Returns:
      int64 [H, W]: 0 for no class, k + 1 for class k.
    """
    height, width = present.shape[1:]
    stripe = np.add.outer(np.arange(height), np.arange(width)) * STRIPES // max(height, width)
    rank = present.cumsum(0)  # of each class among those of its pixel, from 1 on
    turn = 1 + stripe % np.maximum(rank[-1], 1)
    return np.where(rank[-1] > 0, 1 + (present & (rank == turn)).argmax(0), 0)


def compared(truth: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two maps of ids whose differences are the errors of all classes, see `comparisons.errors`.

    Args:
      truth: [K, H, W] of 0, 1, and 2 where void.
      guess: [K, H, W] of 0 and 1.

    Returns:
      int64 [H, W] twice: 1 and 0 where a class is missed, 0 and 2 where one is false, 1 and 2
      where both, 0 and 0 where none.
    """
    missed, false = (truth == 1) & (guess == 0), (truth == 0) & (guess == 1)
    return missed.any(0).astype(np.int64), 2 * false.any(0)


def _legend_of_errors(classes, void):
    if len(classes) == 1:
        words = f"missed: {classes[0]} not found", f"false: {classes[0]} where there is none", ""
    else:
        words = "missed: a class that is there", "false: a class that is not there", "both"
    return comparisons.legend_of_errors(*words, void=void)
