"""Reads the files of an example, and fits it to the size of all examples."""

import numpy as np
from PIL import Image

from launch.data import classes as labels
from launch.data import images, mask_files
from launch.data.bad_file import BadFile
from launch.data.folders import masks
from launch.data.folders.borders import border_weights
from launch.data.folders.pairs import Pair
from launch.data.folders.reading import Reading
from launch.data.folders.tiles import VOID, scaled


def read_pair(pair: Pair, rule: masks.MaskRule, how: Reading) -> dict[str, np.ndarray]:
    """Reads the files of an example at their own size.

    Args:
      pair: the files.
      rule: how masks are read.
      how: how files become examples.

    Returns:
      image uint8 [H, W, C], segmentation uint8 [H, W], 255 where ignored; of objects that
      are numbered weight float32 [H, W], see `border_weights`; and, where there is a depth
      map, depth float32 [H, W] in metres.

    Raises:
      BadFile: a file cannot be read, or sizes or an id do not fit.
    """
    image = read_image(pair.image, how)
    size = image.shape[:2]
    arrays = {"image": image}
    if how.values == "instances":
        objects = _turned(masks.read_objects(pair, size, how.ignore), how)
        void = objects < 0
        arrays["segmentation"] = _marked(objects)
        arrays["weight"] = border_weights(np.where(void, 0, objects))
        if how.target == "objects":
            numbers = _numbered(pair.mask, np.where(void, 0, objects))
            arrays["instances"] = np.where(void, np.uint16(VOID["instances"]), numbers)
    else:
        ids, count = _turned(masks.read(pair, rule, size), how), len(how.classes)
        ids = labels.check_ids(pair.mask, ids, count, how.ignore, how.binary)
        arrays["segmentation"] = ids
        if how.target == "labels":
            arrays["labels"] = _labels(pair, rule, how, ids)
    if how.target:
        del arrays["segmentation"]
    if pair.depth:
        arrays["depth"] = images.read_depth(pair.depth, how.stored)
    files = dict.fromkeys(("segmentation", "weight", "instances", "labels"), pair.mask)
    files["depth"] = pair.depth
    for key, array in arrays.items():
        path = files.get(key, pair.image)
        if array.shape[:2] != size:
            raise images.wrong_size(path, array.shape, pair.image, size)
    return arrays


def _turned(read, how):
    """Ids and their EXIF orientation as ids that lie like the images."""
    ids, orientation = read
    return ids if how and how.stored else images.upright(ids, orientation)


def _marked(objects):
    """uint8 [H, W] of numbers of objects: 1 for any, 255 for void."""
    return np.where(objects < 0, np.uint8(labels.IGNORED), (objects > 0).astype(np.uint8))


def _numbered(path, objects):
    """Numbers of objects as 16 bits, without gaps."""
    numbers, dense = np.unique(objects, return_inverse=True)
    dense = dense.reshape(objects.shape) + (numbers[0] != 0)
    if dense.max() >= VOID["instances"]:
        fix = "Cut the image into parts."
        raise BadFile(path, f"holds {dense.max():,} objects; at most 65,534 can be learnt", fix)
    return dense.astype(np.uint16)


def _labels(pair, rule, how, ids):
    """uint8 [H, W, K - 1]: whether a pixel is of each class but the first; masks may overlap."""
    count = len(how.classes)
    if not pair.ids:
        marks = ids[..., None] == np.arange(1, count)
        return np.where(ids[..., None] == VOID["labels"], VOID["labels"], marks).astype(np.uint8)
    marks = np.zeros((*ids.shape, count - 1), np.uint8)
    for path, number in zip(pair.masks, pair.ids, strict=True):
        marks[..., number - 1] |= mask_files.read_mask(path, None, rule.values or "ids") != 0
    return marks


def read_image(path, how: Reading) -> np.ndarray:
    """Reads an image as a folder's images are read: its channels, scaled to 8 bits.

    Args:
      path: the file.
      how: how files become examples.

    Returns:
      uint8 [H, W, C].

    Raises:
      BadFile: it cannot be read, or is of another kind.
    """
    values, alpha, *_ = images.read_pixels(path, how.stored)
    if alpha and values.shape[-1] != how.channels:
        values = values[..., :-1]
    if values.shape[-1] == 1 and how.channels == 3:
        values = np.repeat(values, 3, -1)
    if values.dtype != np.dtype(how.dtype):
        problem = f"holds values of {values.dtype}, the data of training {how.dtype}"
        raise BadFile(path, problem, "Export it as those were.")
    if values.shape[-1] != how.channels:
        problem = f"has {values.shape[-1]} channels, the data of training {how.channels}"
        raise BadFile(path, problem, "Export it as those were.")
    return images.to_uint8(values, np.array(how.ranges)) if how.ranges else values


def read_ids(path, how: Reading | None, colours: dict | None) -> np.ndarray:
    """Reads a mask, which may lie elsewhere, as those of training were read.

    Args:
      path: the file.
      how: how files became examples; None for data that were no files.
      colours: {(red, green, blue): id} of masks in colour.

    Returns:
      Integers [H, W], as in the file; of masks that number objects 1 for any, and 255 for void.

    Raises:
      BadFile: the file cannot be read.
    """
    pair, colours = Pair("", path, (path,)), tuple((colours or {}).items())
    if how and how.values == "instances":
        return _marked(_turned(masks.read_objects(pair, None, how.ignore), how))
    known = {"values": how.values, "ids": how.ids} if how else {}
    return _turned(masks.read(pair, masks.MaskRule(colours=colours, **known), None), how)


def fit(
    array: np.ndarray, canvas: tuple[int, int], outside: int, nearest: bool = False
) -> np.ndarray:
    """Scales an array down until it fits a canvas, and pads it below and at the right.

    Args:
      array: an image [H, W, C], which is averaged, or ids or depth [H, W], which take
        the nearest pixel.
      canvas: (height, width).
      outside: the value of the padding.
      nearest: whether [H, W, C] takes the nearest pixel too.

    Returns:
      [height, width, ...] of the same dtype.
    """
    height, width = array.shape[:2]
    scale = min(canvas[0] / height, canvas[1] / width)
    if scale < 1:
        array = resize(array, scaled((height, width), scale), nearest)
    if array.shape[:2] == canvas:
        return array
    padded = np.full((*canvas, *array.shape[2:]), outside, array.dtype)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded


def resize(array: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """Scales an array to another size.

    Args:
      array: an image [H, W, C], which is averaged, or ids, weights or depth [H, W], which
        take the nearest pixel.
      size: (height, width).
      nearest: whether [H, W, C] takes the nearest pixel too.

    Returns:
      [height, width, ...] of the same dtype; `array` itself where nothing changes.
    """
    shape = size[::-1]
    if array.shape[:2] == size:
        return array
    if nearest and array.ndim == 3:
        planes = [resize(plane, size) for plane in np.moveaxis(array, -1, 0)]
        return np.stack(planes, -1)
    if array.ndim == 2:
        return np.asarray(Image.fromarray(array).resize(shape, Image.Resampling.NEAREST))
    if array.shape[-1] == 3:
        return np.asarray(Image.fromarray(array).resize(shape, Image.Resampling.BILINEAR))
    planes = [
        Image.fromarray(np.ascontiguousarray(plane)).resize(shape, Image.Resampling.BILINEAR)
        for plane in np.moveaxis(array, -1, 0)
    ]
    return np.stack(planes, -1)
