"""Reads the images, masks or depth maps that a task's `complete` starts from."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.pictures import palette
from launch.config.errors import UserError
from launch.data import classes, image_formats, images, sources
from launch.data.bad_file import BadFile, pixel
from launch.data.folders import examples, reading
from launch.inference import input_files


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
    suffixes = (*image_formats.SUFFIXES, ".npy") if key == "depth" else image_formats.SUFFIXES
    paths = input_files.expand(pattern, suffixes, "--condition")
    try:
        arrays = [_read_one(path, key, leaf.shape, restored) for path in paths]
    except BadFile as bad:
        raise UserError(f"--condition: {bad}")
    return np.stack(arrays).astype(leaf.dtype)


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
    if array.shape[:2] != shape[:2]:
        raise BadFile(
            path,
            f"is {array.shape[1]} x {array.shape[0]}, the model takes {shape[1]} x {shape[0]}",
            "Crop or scale it to that size.",
        )
    if array.shape[-1] == 3 and shape[-1] == 1:
        return _grey(path, array)
    if array.shape[-1] != shape[-1]:
        problem = f"has {array.shape[-1]} channels, the model takes {shape[-1]} of `{key}`"
        raise BadFile(path, problem, "Give images like those of training.")
    return array


def _grey(path, rgb):
    """The one channel [H, W, 1] of a grey image [H, W, 3]."""
    coloured = (rgb != rgb[..., :1]).any(-1)
    if coloured.any():
        index = int(coloured.argmax())
        colour = tuple(map(int, rgb.reshape(-1, 3)[index]))
        problem = f"has 3 channels, such as the colour {colour}; the model takes 1, grey"
        raise BadFile(path, problem, "Save it as grey.", pixel(index, coloured))
    return rgb[..., :1]


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
