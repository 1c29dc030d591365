"""Figures that come in parts: which examples they show, and how they become one picture."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from launch.reporting import comparisons, objects, overlapping, sheets

WORST, TYPICAL, BEST = 3, 3, 2  # rows of a figure
# How columns of labels are drawn: (image, truth, prediction, classes, colours) -> tiles, legends.
COMPARED = {
    ("image", "truth", "prediction"): comparisons.draw,
    ("image", "true classes", "predicted classes"): overlapping.draw,
    ("image", "true objects", "predicted objects"): objects.draw,
}


class Chosen(NamedTuple):
    """An example that a figure shows.

    Attributes:
      index: its number in the split.
      kind: "worst", "typical" or "best"; "" for an example without a score.
      score: its name and its number, as words; "" for none.
    """

    index: int
    kind: str = ""
    score: str = ""


def choose(table: np.ndarray, size: int, name: str) -> list[Chosen]:
    """Chooses the worst, the middle and the best examples of a split.

    Args:
      table: float [N, 2], row i of example i: its score, larger is better, and 1; 0 and 0 of an
        example without a score.
      size: examples of the split.
      name: of the score, such as "mean_iou".

    Returns:
      At most `WORST + TYPICAL + BEST` examples, the worst first; of equal scores the smaller
      index is first. Where no example has a score, the first ones of the split.
    """
    known = np.flatnonzero(table[:size, 1] > 0)
    order = known[np.argsort(table[known, 0], kind="stable")]
    count = len(order)
    if not count:
        return [Chosen(index) for index in range(min(size, WORST + TYPICAL + BEST))]
    worst, best = min(WORST, count // 2), min(BEST, count // 3)
    typical = min(TYPICAL, count - worst - best)
    middle = min(max(worst, (count - typical) // 2), count - best - typical)
    kinds = {
        "worst": order[:worst],
        "typical": order[middle : middle + typical],
        "best": order[count - best :],
    }
    return [
        Chosen(int(index), kind, f"{words(name)} {table[index, 0]:.3f}")
        for kind, indices in kinds.items()
        for index in indices
    ]


def words(name: str) -> str:
    """The name of a metric as people write it: "mean_iou" is "mean IoU"."""
    return name.replace("_", " ").replace("iou", "IoU").replace("ap50", "AP50")


def join(
    parts: dict[str, np.ndarray],
    chosen: Sequence[Chosen],
    *,
    classes: Sequence[str],
    heading: str,
    title_of: Callable[[int], str] = "example {:,}".format,
    colours: Sequence[tuple[int, int, int]] = (),
) -> dict[str, np.ndarray]:
    """Joins the parts of figures, each a column with its name as title, to one picture a figure.

    Args:
      parts: {"NAME/COLUMN": uint8 or float in [0, 1] [N, H, W, C]}. Where the columns are those
        of labels, see `jaxseg.task.Task.figures`, they are drawn over the image, with their
        errors beside them and legends below. Other columns are images: "image" is the first,
        "prediction" the last. {"NAME": images} stays as it is.
      chosen: the example of each row; rows beyond are left out.
      classes: the names of the K classes.
      heading: written above.
      title_of: the title of an example by its index.
      colours: of the classes, where the data have some.

    Returns:
      {NAME: uint8 [1, H, W, 3]}, at most about 1,600 pixels wide.
    """
    joined = {name: array for name, array in parts.items() if "/" not in name}
    headings = [
        (one.kind, "   ".join(filter(None, (title_of(one.index), one.score)))) for one in chosen
    ]
    for figure in dict.fromkeys(name.partition("/")[0] for name in parts if "/" in name):
        columns = {
            name.partition("/")[2]: array[: len(chosen)]
            for name, array in parts.items()
            if name.startswith(f"{figure}/")
        }
        # Compiled functions return the keys of a dict in the order of the alphabet.
        compared = next((names for names in COMPARED if set(names) == set(columns)), None)
        if compared:
            titles = (*compared, "errors")
            arrays = map(columns.get, compared)
            tiles, legends = COMPARED[compared](*arrays, classes, colours)
        else:
            titles = sorted(columns, key=lambda name: (name == "prediction") - (name == "image"))
            tiles, legends = _tiles([columns[name] for name in titles]), ()
        rows = [sheets.Row(*row) for row in zip(headings, tiles, strict=True)]
        joined[figure] = sheets.draw(heading, titles, rows, legends)[None]
    return joined


def _tiles(columns):
    """The tiles of columns of images: of each row, what is not black in its first image."""
    for images in zip(*columns, strict=True):
        height, width = sheets.content_size(images[0].any(-1))
        yield tuple(sheets.scaled(sheets.as_rgb(image[:height, :width])) for image in images)
