"""Reads the labels of a pair: a file of ids, a file for each class, or outlines."""

import dataclasses

import numpy as np
from scipy import ndimage

from launch.data import images, mask_files
from launch.data.bad_file import BadFile, pixel
from launch.data.classes import IGNORED
from launch.data.folders.pairs import Pair
from launch.data.folders.tiles import VOID

VALUES = ("ids", "threshold", "instances", "alpha")


@dataclasses.dataclass(frozen=True)
class MaskRule:
    """How masks are read.

    Attributes:
      values: one of VALUES, see `mask_files.read_mask`; "" for ids that may be doubted.
      colours: ((red, green, blue), id) of masks in colour.
      ids: (id in the file, class), all other ids being void; () where ids are classes.
    """

    values: str = ""
    colours: tuple = ()
    ids: tuple = ()


def read(pair: Pair, rule: MaskRule, size: tuple[int, int] | None) -> tuple[np.ndarray, int]:
    """Reads the labels of a pair, as they are stored.

    Args:
      pair: the files.
      rule: how masks are read.
      size: (height, width) of the image, for outlines; None where it is not known.

    Returns:
      Integers [H, W], and the EXIF orientation of the mask.

    Raises:
      BadFile: a file cannot be read, or masks of one image differ in size.
    """
    if pair.outlines is not None:
        ids = _drawn(pair, size)
        return (ids != 0).astype(np.uint8) if rule.values == "instances" else ids, 1
    if pair.ids:
        return _combined(pair, rule), 1
    colours = dict(rule.colours)
    ids, orientation = mask_files.read_stored_mask(pair.mask, colours, rule.values or "ids")
    if not rule.ids:
        return ids, orientation
    table = np.full(max(int(ids.max(initial=0)), *(number for number, _ in rule.ids)) + 1, IGNORED)
    for number, class_id in rule.ids:
        table[number] = class_id
    return np.where(ids < 0, IGNORED, table[np.maximum(ids, 0)]).astype(np.uint8), orientation


def read_objects(
    pair: Pair, size: tuple[int, int] | None, ignore: int = IGNORED
) -> tuple[np.ndarray, int]:
    """Reads the objects of a pair, as they are stored.

    Args:
      pair: the files: numbers of objects, a file for each object, or outlines, of which
        regions that touch are one object.
      size: (height, width) of the image, for outlines; None where it is not known.
      ignore: a number that means void, beside 65535 in a file of 16 bits; 255 for none.

    Returns:
      int32 [H, W], the number of each object, 0 for background, -1 for void; and the EXIF
      orientation of the mask.

    Raises:
      BadFile: a file cannot be read, or holds negative numbers.
    """
    if pair.outlines is not None:
        classes = _drawn(pair, size)
        void = classes == IGNORED
        objects = ndimage.label((classes != 0) & ~void, np.ones((3, 3)))[0]
        return np.where(void, -1, objects).astype(np.int32), 1
    if pair.ids:
        numbered = dataclasses.replace(pair, ids=tuple(range(1, len(pair.masks) + 1)))
        return _combined(numbered, MaskRule()).astype(np.int32), 1
    numbers, orientation = mask_files.read_stored_mask(pair.mask)
    numbers = numbers.astype(np.int32)
    if (wrong := (numbers < 0) & (numbers != ignore)).any():
        where = pixel(wrong.argmax(), numbers)
        raise BadFile(
            pair.mask, "holds negative numbers of objects", "Number them from 1 on.", where
        )
    last = VOID["instances"]  # of 16 bits, as predictions are written
    void = (numbers == last) & (numbers.max(initial=0) == last)
    void |= (numbers == ignore) & (ignore != IGNORED)
    return np.where(void, -1, numbers), orientation


def marked(pair: Pair, rule: MaskRule) -> dict[int, int]:
    """Counts the pixels of masks that each mark one class; where they overlap, for each of them.

    Args:
      pair: the files, with `ids`.
      rule: how masks are read.

    Returns:
      {class: pixels}.

    Raises:
      BadFile: a file cannot be read.
    """
    found = {}
    for path, number in zip(pair.masks, pair.ids, strict=True):
        part = images.upright(*read_one_class(path, rule.values)) != 0
        found[number] = found.get(number, np.zeros_like(part)) | part
    return {number: int(part.sum()) for number, part in found.items()}


def read_one_class(path, values: str = "") -> tuple[np.ndarray, int]:
    """Reads a mask that marks one class, as it is stored.

    Args:
      path: the file.
      values: one of VALUES, or "".

    Returns:
      Integers [H, W], 0 where the class is not; and the EXIF orientation.

    Raises:
      BadFile: the file cannot be read, or holds more than one value beside 0.
    """
    part, orientation = mask_files.read_stored_mask(path, None, values or "ids")
    found = np.unique(part)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        some = ", ".join(map(str, found[:5]))
        fix = 'Mark the class by one value on 0, or give values="threshold".'
        raise BadFile(path, f"a mask of one class with the values {some}", fix)
    return part, orientation


def _drawn(pair, size):
    """Ids [H, W] of the classes whose outlines a file holds."""
    from launch.data import outlines  # few folders hold any

    if size is None:
        raise BadFile(pair.mask, "its image cannot be read", "Mend the image.")
    return outlines.draw(pair.outlines, size)


def _combined(pair, rule):
    """Ids of masks that each mark one class; where they overlap, the last one counts."""
    result = None
    for path, number in zip(pair.masks, pair.ids, strict=True):
        part = images.upright(*read_one_class(path, rule.values))
        if result is None:
            result = np.zeros(part.shape, np.int32)
        if part.shape != result.shape:
            raise images.wrong_size(path, part.shape, pair.masks[0], result.shape)
        result[part != 0] = number
    return result
