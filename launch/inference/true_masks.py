"""Reads the true masks that predictions are compared with, as those of training were read."""

import contextlib
from pathlib import Path

import numpy as np

from launch.data import classes, image_formats, images, mask_files, sources
from launch.data.folders import examples, masks
from launch.inference.members import Files


def read(segmenter, item: Files, shape: tuple[int, int], binary: bool) -> np.ndarray | None:
    """Reads a true mask of classes.

    Args:
      segmenter: the trained net.
      item: the files of the image.
      shape: (height, width) of the image.
      binary: whether 255 means class 1.

    Returns:
      uint8 [H, W]: ids, and 255 where ignored; None where there is no mask.

    Raises:
      ValueError: it cannot be read, or its size, an id or a name does not fit.
    """
    if item.mask is None:
        return None
    table = _tables(segmenter, item.mask)[1]
    _check_names(segmenter, item.mask.parent.parent, table)
    ids = _ids(segmenter, item.mask)
    _check_size(item.mask, ids, item.image, shape)
    return classes.check_ids(item.mask, ids, len(segmenter.names), _ignore(segmenter), binary)


def read_overlapping(
    segmenter, item: Files, shape: tuple[int, int], binary: bool
) -> np.ndarray | None:
    """Reads the true masks of classes that may overlap.

    Args:
      segmenter: the trained net.
      item: the files of the image: a mask for each class, whose pixels other than 0 are of
        the class; or one mask of ids, 0 for none, and n for the n-th class.
      shape: (height, width) of the image.
      binary: whether 255 means class 1 in a mask of ids.

    Returns:
      uint8 [H, W, K] of 0 and 1, and 255 where ignored; None where there is no mask.

    Raises:
      ValueError: one cannot be read, or its size or an id does not fit.
    """
    if item.mask is None:
        return None
    count, how = len(segmenter.names), segmenter.reading
    if not isinstance(item.mask, tuple):
        ids = _ids(segmenter, item.mask)
        _check_size(item.mask, ids, item.image, shape)
        ids = classes.check_ids(item.mask, ids, count + 1, _ignore(segmenter), binary)[..., None]
        marks = ids == np.arange(1, count + 1)
        return np.where(ids == classes.IGNORED, np.uint8(classes.IGNORED), marks).astype(np.uint8)
    marks = np.zeros((*shape, count), np.uint8)
    for number, path in enumerate(item.mask):
        if path is not None:
            plane, orientation = masks.read_one_class(path, how.values if how else "ids")
            plane = plane if how and how.stored else images.upright(plane, orientation)
            _check_size(path, plane, item.image, shape)
            marks[..., number] = plane != 0
    return marks


def read_numbers(segmenter, item: Files, shape: tuple[int, int]) -> np.ndarray | None:
    """Reads a true mask of objects.

    Args:
      segmenter: the trained net.
      item: the files of the image.
      shape: (height, width) of the image.

    Returns:
      int32 [H, W]: 0 for background, 65535 for void; None where there is no mask.

    Raises:
      ValueError: it cannot be read, or its size or a number does not fit.
    """
    if item.mask is None:
        return None
    numbers, orientation = mask_files.read_stored_mask(item.mask)
    if not (segmenter.reading and segmenter.reading.stored):
        numbers = images.upright(numbers, orientation)
    _check_size(item.mask, numbers, item.image, shape)
    void = segmenter.restored.config.data.kwargs.get("ignore", classes.IGNORED)
    if void != classes.IGNORED:
        numbers = np.where(numbers == void, 65535, numbers)
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) > 65535:
        raise ValueError(f"{item.mask}: numbers of objects are 0 to 65534, and 65535 for void")
    return numbers.astype(np.int32)


def is_binary(segmenter, items: list[Files]) -> bool:
    """Whether 255 means class 1 in the true masks: in training, or in their whole folder.

    One mask alone does not decide: with the classes 0, 1 and void (255) it may lack the 1.

    Args:
      segmenter: the trained net.
      items: the files of each image.
    """
    if segmenter.reading and segmenter.reading.binary:
        return True
    if segmenter.decision.ids != 2 or _ignore(segmenter) != 255:
        return False
    values = set()
    for folder in {item.mask.parent for item in items if isinstance(item.mask, Path)}:
        for mask in sorted(folder.iterdir()):
            if mask.suffix.lower() in image_formats.SUFFIXES:
                with contextlib.suppress(ValueError):  # reported when its image is predicted
                    values |= set(np.unique(_ids(segmenter, mask)))
            if not values <= {0, 255}:
                return False
    return 255 in values


def _check_size(path, mask, image, shape):
    if mask.shape != shape:
        raise images.wrong_size(path, mask.shape, image, shape)


def _tables(segmenter, mask):
    """Colours from the folder of the masks, or else of training; and the former's table."""
    roots = mask.parent.parent, sources.local_folder(segmenter.restored.config.data.path)
    tables = [classes.read_table(root) for root in roots if root]
    colours = next((table.colours for table in tables if table and table.colours), None)
    return colours, tables[0]


def _ids(segmenter, mask):
    return examples.read_ids(mask, segmenter.reading, _tables(segmenter, mask)[0])


def _ignore(segmenter):
    if segmenter.reading and segmenter.reading.values == "instances":
        return classes.IGNORED  # `examples.read_ids` has read what is void
    return segmenter.restored.config.data.kwargs.get("ignore", classes.IGNORED)


def _check_names(segmenter, folder, table):
    """Refuses masks whose classes have another order than those of training."""
    known = segmenter.restored.data.split.classes
    if table is None or not known:
        return
    for number, name in table.names.items():
        if number < len(known) and known[number] != name:
            raise ValueError(
                f"{folder}: id {number} is {name!r} there, but {known[number]!r} in the data "
                "of training; give masks with the ids of training"
            )
