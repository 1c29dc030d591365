"""Reads the images, masks or depth maps that a task's `complete` starts from, and which pixels of
them stay as given.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.pictures import palette
from launch.config.errors import UserError
from launch.data import classes, image_formats, images, sources
from launch.data.bad_file import BadFile, pixel
from launch.data.folders import examples, reading
from launch.inference import input_files

logger = logging.getLogger("segen")

WHITE = 255


def read(pattern: str, key: str, restored: Any) -> np.ndarray:
    """Reads the files of --condition as the arrays that the task was trained on.

    Args:
      pattern: a file, a folder or a glob pattern.
      key: the task's `given`: "segmentation" is read as masks, "depth" as depth maps,
        any other as images.
      restored: a `launch.engine.trained_runs.Restored`; gives the shape and the classes.

    Returns:
      [N, H, W, C] of the dtype of the examples.

    Raises:
      UserError: there is no such file, or the model does not take its size, its
        channels or one of its classes.
    """
    leaf = restored.experiment.example[key]
    if len(leaf.shape) != 3:
        form = f"{leaf.dtype}{list(leaf.shape)}"
        raise UserError(f"--condition: the model starts from `{key}` as {form}, not from images")
    try:
        arrays = [_read_one(path, key, leaf.shape, restored) for path in _paths(pattern, key)]
    except BadFile as bad:
        raise UserError(f"--condition: {bad}")
    return np.stack(arrays).astype(leaf.dtype)


def read_keep(masks: str, pattern: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads the files of --mask: white is made anew, and black stays as given.

    Args:
      masks: a file for all images; or a folder with one for each, named as its image is, perhaps
        with an ending such as `_mask`.
      pattern: that of --condition.
      key: the task's `given`.
      shape: (H, W, C) of an image.

    Returns:
      bool [1 or N, H, W, 1], True where an image of --condition stays as given.

    Raises:
      UserError: there is no such file; or one is of another size, in colours, transparent, or
        nothing of it is white, or all.
    """
    paths = [Path(masks)]
    if paths[0].is_dir():
        named = [input_files.Named(path, path.stem) for path in _paths(pattern, key)]
        paths = input_files.partners(named, paths[0])
    elif not paths[0].is_file():
        raise UserError(
            f"--mask={masks}: no such file; give one for all images, or a folder with one for each"
        )
    try:
        return np.stack([_read_kept(path, shape)[..., None] for path in paths])
    except BadFile as bad:
        raise UserError(f"--mask: {bad}")


def with_holes(images: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Images that are grey where they are made anew.

    Args:
      images: [N, H, W, C], uint8 or float in [0, 1].
      keep: bool [N, H, W, 1].

    Returns:
      [N, H, W, C] of the dtype of the images.
    """
    grey = images.dtype.type(128 if images.dtype == np.uint8 else 0.5)
    return np.where(keep, images, grey)


def shown(key: str, given: np.ndarray) -> np.ndarray:
    """Converts conditions to images that can be shown.

    Args:
      key: the task's `given`.
      given: [N, H, W, C].

    Returns:
      [N, H, W, 1 or 3], uint8 or floats in [0, 1].
    """
    if key == "segmentation":
        return palette()[given[..., 0]]
    if key == "depth":
        return given / max(float(given.max()), 1e-12)
    return given


def _paths(pattern, key):
    """The files of --condition."""
    suffixes = (*image_formats.SUFFIXES, ".npy") if key == "depth" else image_formats.SUFFIXES
    return input_files.expand(pattern, suffixes, "--condition")


def _read_one(path: Path, key: str, shape: tuple, restored: Any) -> np.ndarray:
    """One condition [H, W, C]."""
    if key == "segmentation":
        array = _read_mask(path, restored)[..., None]
    elif key == "depth":
        array = images.read_depth(path)[..., None]
    elif how := reading.from_json(restored.data.reading):
        array = examples.read_image(path, how)
    else:
        array = images.read_image(path)
    _check_size(path, array, shape)
    if array.shape[-1] == 3 and shape[-1] == 1:
        return _grey(path, array)
    if array.shape[-1] != shape[-1]:
        problem = f"has {array.shape[-1]} channels, the model takes {shape[-1]} of `{key}`"
        raise BadFile(path, problem, "Give images like those of training.")
    return array


def _check_size(path, array, shape):
    if array.shape[:2] != shape[:2]:
        raise BadFile(
            path,
            f"is {array.shape[1]} x {array.shape[0]}, the model takes {shape[1]} x {shape[0]}",
            "Crop or scale it to that size.",
        )


def _grey(path, rgb):
    """The one channel [H, W, 1] of a grey image [H, W, 3]."""
    coloured = (rgb != rgb[..., :1]).any(-1)
    if coloured.any():
        index = int(coloured.argmax())
        colour = tuple(map(int, rgb.reshape(-1, 3)[index]))
        problem = f"has 3 channels, such as the colour {colour}; the model takes 1, grey"
        raise BadFile(path, problem, "Save it as grey.", pixel(index, coloured))
    return rgb[..., :1]


def _read_kept(path, shape):
    """Where a mask keeps pixels, bool [H, W]; says how many are neither black nor white."""
    values, alpha, *_ = images.read_pixels(path)
    if values.dtype != np.uint8:
        fix = "Save it in black and white, with 8 bits."
        raise BadFile(path, f"holds values of {values.dtype}, not of 8 bits", fix)
    _check_size(path, values, shape)
    colours = values[..., :-1] if alpha else values
    opaque = not alpha or (values[..., -1] == WHITE).all()
    if not opaque or (colours != colours[..., :1]).any():
        fix = "Save it in black, where the image stays, and white, where it is made anew."
        raise BadFile(path, "has colours" if opaque else "has transparent pixels", fix)
    grey = colours[..., 0]
    anew = grey > WHITE // 2
    if not anew.any():
        problem = f"has no white pixel (the lightest is {grey.max()} of {WHITE})"
        raise BadFile(path, problem, "Paint white what is to be made anew.")
    if anew.all():
        fix = "Paint black what is to stay; without --condition and --mask all is made anew."
        raise BadFile(path, "is all white, so that nothing stays as given", fix)
    if between := int(np.sum((grey > 0) & (grey < WHITE))):
        logger.warning(
            f"{path}: {between:,} of {grey.size:,} pixels are grey; those lighter than "
            f"{WHITE // 2} are made anew"
        )
    return ~anew


def _read_mask(path, restored):
    """Ids [H, W] of the classes of training, 255 where ignored."""
    data = restored.config.data
    table = None
    if data.path:
        table = classes.read_table(Path(sources.local_folder(data.path)).expanduser())
    how = reading.from_json(restored.data.reading)
    ids = examples.read_ids(path, how, table.colours if table else None)
    count = len(restored.data.split.classes) or 256
    ignore = data.kwargs.get("ignore", classes.IGNORED)
    return classes.check_ids(path, ids, count, ignore, bool(how and how.binary))
