"""Images and masks from files as what a task's `complete` starts from."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.pictures import palette
from launch.config.errors import UserError
from launch.data import classes, images, sources
from launch.data.images import BadFile
from launch.inference import input_files


def read(pattern: str, key: str, restored: Any) -> np.ndarray:
    """Reads what a pattern stands for, as the task was given it in training.

    Args:
      pattern: a file, a folder or a glob pattern.
      key: the task's `given`: "segmentation" is read as masks, "depth" as depth maps,
        anything else as pictures.
      restored: a `launch.engine.trained_runs.Restored`, which knows the shape and the classes.

    Returns:
      [N, H, W, C] of the dtype of the examples.

    Raises:
      UserError: no such file; a size, a channel or a class that the model does not take.
    """
    leaf = restored.experiment.example[key]
    if len(leaf.shape) != 3:
        found = f"{leaf.dtype}{list(leaf.shape)}"
        raise UserError(f"--condition: the model starts from `{key}` as {found}, not from images")
    known = (*images.SUFFIXES, ".npy") if key == "depth" else images.SUFFIXES
    paths = input_files.listed(pattern, known, "--condition")
    try:
        found = [_read_one(path, key, leaf.shape, restored) for path in paths]
    except BadFile as fault:
        raise UserError(f"--condition: {fault}")
    return np.stack(found).astype(leaf.dtype)


def shown(key: str, given: np.ndarray) -> np.ndarray:
    """Conditions [N, H, W, C] as pictures of 1 or 3 channels, uint8 or in [0, 1]."""
    if key == "segmentation":
        return palette()[given[..., 0]]
    if key == "depth":
        return given / max(float(given.max()), 1e-12)
    return given


def _read_one(path: Path, key: str, shape: tuple, restored: Any) -> np.ndarray:
    """One condition [H, W, C]."""
    if key == "segmentation":
        array = _mask(path, restored)[..., None]
    elif key == "depth":
        array = images.read_depth(path)[..., None]
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
        what = f"has {array.shape[-1]} channels, the model takes {shape[-1]} of `{key}`"
        raise BadFile(path, what, "Give what the model was trained on.")
    return array


def _grey(path, rgb):
    coloured = (rgb != rgb[..., :1]).any(-1)
    if coloured.any():
        place = int(coloured.argmax())
        colour = tuple(map(int, rgb.reshape(-1, 3)[place]))
        what = f"has 3 channels, such as the colour {colour}; the model takes 1, grey"
        raise BadFile(path, what, "Save it as grey.", images.pixel(place, coloured))
    return rgb[..., :1]


def _mask(path, restored):
    """Ids [H, W] of the classes of training, 255 where ignored."""
    data = restored.config.data
    table = (
        classes.read_table(Path(sources.local_folder(data.path)).expanduser())
        if data.path
        else None
    )
    ids = images.read_mask(path, table.colours if table else None)
    count = len(restored.data.split.classes) or 256
    ignore = data.kwargs.get("ignore", classes.IGNORED)
    return classes.checked(path, ids, count, ignore, restored.data.binary)
