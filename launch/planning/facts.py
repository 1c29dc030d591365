"""What a plan asks of a folder of images and masks."""

import dataclasses
from typing import NamedTuple

import numpy as np

from launch.data.bad_file import BadFile
from launch.data.folders import examples, opening, remarks
from launch.data.folders.opening import OpenedFolder
from launch.data.folders.reading import turned

# Examples that are looked at for the width of objects and for the channels: more change little.
EXAMPLES = 24


class Facts(NamedTuple):
    """A folder in numbers.

    Attributes:
      images: their number in the training split.
      held_out: images of the split that is evaluated.
      size: (height, width) of training images, the medians, in pixels.
      largest: (height, width) of training images, the largest of each.
      channels: of the images.
      classes: names.
      shares: of each class, of all pixels with a label in the training split.
      widths: of each class, the median over masks of twice its area by the length of its
        outline, in pixels: the width of a line, half of the diameter of a disc; 0 for a class
        that the masks looked at do not show.
      mean: of each channel of the training images, in [0, 1].
      std: standard deviation of each channel.
      upright: how far upper and lower half of the images differ in their shares of classes, 0
        to 1 (total variation).
    """

    images: int
    held_out: int
    size: tuple[int, int]
    largest: tuple[int, int]
    channels: int
    classes: tuple[str, ...]
    shares: tuple[float, ...]
    widths: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    upright: float

    @property
    def width(self) -> float:
        """The median of the widths of the classes but the most frequent, in pixels; 0: unknown."""
        most = int(np.argmax(self.shares))
        known = [width for k, width in enumerate(self.widths) if k != most and width]
        return float(np.median(known)) if known else 0.0


def of_folder(opened: OpenedFolder, train: str, held_out: str) -> Facts:
    """Collects the facts of a folder.

    Args:
      opened: the folder, without problems.
      train: the split expression of training.
      held_out: that of evaluation.

    Returns:
      The facts.

    Raises:
      BadFile: a split is empty, a mask cannot be read, or training misses a class.
    """
    how = opened.reading
    chosen = opening.select(opened.layout.splits, train, opened.root)
    others = opening.select(opened.layout.splits, held_out, opened.root)
    contents = dict(zip(opened.layout.pairs, opened.contents, strict=True))
    sizes = np.array([turned(contents[pair], how.stored) for pair in chosen])
    counts = [remarks.pixels(opened, part) for part in (chosen, others)]
    known, seen = (np.array([one[k] for k in range(len(how.classes))], float) for one in counts)
    _check_classes(opened, known, seen, train, held_out)
    spread = np.linspace(0, len(chosen) - 1, min(EXAMPLES, len(chosen))).round().astype(int)
    looks = [_look(chosen[number], opened) for number in spread]
    widths = np.array([look.widths for look in looks])
    halves = np.sum([look.halves for look in looks], 0)
    mean, squares = (np.mean([look.moments[k] for look in looks], 0) for k in (0, 1))
    halves = halves / np.maximum(halves.sum(1, keepdims=True), 1)
    return Facts(
        images=len(chosen),
        held_out=len(others),
        size=tuple(np.median(sizes, 0).round().astype(int).tolist()),
        largest=tuple(sizes.max(0).tolist()),
        channels=how.channels,
        classes=how.classes,
        shares=tuple((known / max(1, known.sum())).tolist()),
        widths=tuple(_median_of_known(column) for column in widths.T),
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(np.maximum(squares - mean**2, 0)).tolist()),
        upright=float(np.abs(halves[0] - halves[1]).sum() / 2),
    )


def _check_classes(opened, known, seen, train, held_out):
    """Refuses training masks of one class, and a class that evaluation alone holds.

    Raises:
      BadFile: what training misses.
    """
    how = opened.reading
    if np.count_nonzero(known) < 2:
        only = ", ".join(name for name, many in zip(how.classes, known, strict=True) if many)
        fix = "There is nothing to learn: check the masks and the class list."
        problem = f"all masks of {train!r} hold {only or 'void'} alone"
        if how.target == "objects":
            problem = f"no mask of {train!r} numbers an object"
        raise BadFile(opened.root, problem, fix)
    alone = [name for name, a, b in zip(how.classes, known, seen, strict=True) if b and not a]
    if alone:
        problem = f"{', '.join(alone)}: pixels in {held_out!r}, none in {train!r}"
        fix = "A net cannot learn it: move images between the splits, or mend the ids."
        raise BadFile(opened.root, problem, fix)


def widths_of(ids: np.ndarray, classes: int) -> np.ndarray:
    """Twice the area of each class by the length of its outline.

    Args:
      ids: integers [H, W].
      classes: K.

    Returns:
      float [K], in pixels; 0 for a class that is not there.
    """
    inner = np.zeros(ids.shape, bool)
    inner[1:-1, 1:-1] = True
    for axis in (0, 1):
        same = ids == np.roll(ids, 1, axis)
        inner &= same & np.roll(same, -1, axis)
    clipped = np.minimum(ids, classes).ravel()
    area = np.bincount(clipped, minlength=classes + 1)[:classes]
    outline = np.bincount(clipped, ~inner.ravel(), classes + 1)[:classes]
    return 2 * area / np.maximum(outline, 1)


class _Look(NamedTuple):
    """What one example shows.

    Attributes:
      widths: of the classes, see `widths_of`.
      halves: pixels of each class in the upper and in the lower half, [2, K].
      moments: means of each channel in [0, 1] and of its square, [2, C].
    """

    widths: np.ndarray
    halves: np.ndarray
    moments: np.ndarray


def _look(pair, opened):
    """Reads an example, whatever it is trained for."""
    classes, how = range(len(opened.reading.classes)), opened.reading
    if how.target == "labels":
        example = examples.read_pair(pair, opened.rule, how)
        marks = np.moveaxis(example["labels"], -1, 0)
        planes = [~marks.any(0), *(marks == 1)]  # void is 255
        widths = [widths_of(plane.astype(np.uint8), 2)[1] for plane in planes]
    else:
        how = dataclasses.replace(how, target="")  # an id a pixel
        example = examples.read_pair(pair, opened.rule, how)
        planes = [example["segmentation"] == k for k in classes]
        widths = widths_of(example["segmentation"], len(classes))
    image = example["image"] / np.float32(255)
    halves = [[half.sum() for half in np.array_split(plane, 2)] for plane in planes]
    moments = [np.mean(part, (0, 1), np.float64) for part in (image, image**2)]
    return _Look(np.array(widths), np.array(halves).T, np.array(moments))


def _median_of_known(values):
    return float(np.median(values[values > 0])) if np.any(values > 0) else 0.0
