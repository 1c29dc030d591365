"""Label maps and maps of values as PNG files."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.pictures import palette
from launch.reporting import image_files

ROWS = 256  # that are drawn at a time, so that large images fit


def save_labels(path: Path, labels: np.ndarray, colours: np.ndarray | None = None) -> None:
    """Writes label ids as a PNG: with colours up to id 255, else 16 bits of grey.

    Args:
      path: the file.
      labels: integers [H, W].
      colours: uint8 [256, 3]; those of `palette` unless given.

    Raises:
      ValueError: an id needs more than 16 bits.
    """
    if labels.max(initial=0) > 65_535:
        raise ValueError(f"{labels.max():,} regions are more than a PNG of 16 bits can tell apart")
    if labels.max(initial=0) > 255:
        return save_values(path, labels.astype(np.uint16))
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette((palette() if colours is None else colours).tobytes())
    image_files.write(path, picture)


def save_overlay(
    path: Path, image: np.ndarray, labels: np.ndarray, colours: np.ndarray | None = None
) -> None:
    """Writes labels over their image uint8 [H, W, C]; id 0 shows the image as it is.

    Of other images than RGB, the first three channels are shown, or the first one as grey.

    Ids above 255 share colours with others.

    Args:
      path: the file.
      image: uint8 [H, W, C].
      labels: integers [H, W].
      colours: uint8 [256, 3]; those of `palette` unless given.
    """
    colours = palette() if colours is None else colours
    picture = np.empty((*labels.shape, 3), np.uint8)
    for rows, part in _strips(image):
        shown = labels[rows, :, None] > 0
        blend = (colours[labels[rows].astype(np.int32) % 256].astype(np.uint16) + part) // 2
        picture[rows] = np.where(shown, blend, part)
    image_files.write(path, Image.fromarray(picture))


def save_union(path: Path, image: np.ndarray, present: np.ndarray) -> None:
    """Writes classes that may overlap over their image, in the mean of their colours.

    Args:
      path: the file.
      image: uint8 [H, W, C], shown as by `save_overlay`.
      present: bool [H, W, K]; class k has the colour of id k + 1.
    """
    colours = np.resize(palette()[1:255], (present.shape[-1], 3)).astype(np.float32)
    picture = np.empty((*present.shape[:2], 3), np.uint8)
    for rows, part in _strips(image):
        number = present[rows].sum(-1, keepdims=True)
        mean = present[rows].astype(np.float32) @ colours / np.maximum(number, 1)
        picture[rows] = np.where(number > 0, (mean + part) / 2, part)
    image_files.write(path, Image.fromarray(picture))


def save_outlines(path: Path, image: np.ndarray, numbers: np.ndarray) -> None:
    """Writes the outlines of objects over their image.

    Args:
      path: the file.
      image: uint8 [H, W, C], shown as by `save_overlay`.
      numbers: integers [H, W], 0 for background. A pixel is outline where one of its four
        neighbours has another number; the colours of 254 objects are used again.
    """
    padded = np.pad(numbers, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    near = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    edge = np.any([inner != other for other in near], 0) & (numbers > 0)
    colours, picture = palette(), np.empty((*numbers.shape, 3), np.uint8)
    for rows, part in _strips(image):
        colour = colours[1 + (numbers[rows] - 1) % 254]
        picture[rows] = np.where(edge[rows, :, None], colour, part)
    image_files.write(path, Image.fromarray(picture))


def save_values(path: Path, values: np.ndarray) -> None:
    """Writes values uint8 or uint16 [H, W] as they are, as grey of 8 or 16 bits."""
    image_files.write(path, Image.fromarray(values))


def save_grey(path: Path, values: np.ndarray) -> None:
    """Writes values [H, W] in [0, 1] as grey; what is beyond is clipped."""
    save_values(path, np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))


def save_heat(path: Path, values: np.ndarray) -> None:
    """Writes values [H, W] >= 0 as grey, the largest white."""
    save_grey(path, values / max(float(np.max(values)), 1e-12))


def endings(names: tuple[str, ...]) -> list[str]:
    """Turns names of classes into endings of file names: ".sky", ".open_water".

    All but letters, digits and "-" becomes "_"; where two names would become one, each gets
    its number too.

    Args:
      names: of the classes.
    """
    safe = [re.sub(r"[^\w-]", "_", name) for name in names]
    same = len({name.casefold() for name in safe}) < len(safe)
    return [f".{number}_{name}" if same else f".{name}" for number, name in enumerate(safe)]


def _strips(image):
    """Yields some rows of an image at a time, as RGB: their slice, and uint8 [n, W, 3]."""
    for top in range(0, len(image), ROWS):
        rows = slice(top, top + ROWS)
        part = image[rows]
        yield rows, part[..., :3] if part.shape[-1] >= 3 else np.repeat(part[..., :1], 3, -1)
