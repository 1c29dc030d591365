"""Images as PNG files that a person can look at."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.pictures import palette

BORDER = 1  # pixels between tiles, before enlarging
MIN_TILE = 48  # pixels; smaller images are enlarged by a whole factor


def grid(images: np.ndarray) -> np.ndarray:
    """Tiles images into one picture.

    Args:
      images: [N, H, W, C], tiled nearly square, or [rows, columns, H, W, C]; uint8,
        or float in [0, 1]; C is 1 or 3.

    Returns:
      uint8 [height, width, 3], small images enlarged by a whole factor.
    """
    images = np.asarray(images)
    if images.ndim == 4:
        images = _nearly_square(images)
    if images.dtype != np.uint8:
        images = np.round(np.clip(np.nan_to_num(images.astype(np.float32)), 0, 1) * 255)
    rows, columns, height, width, channels = images.shape
    tile = np.full((rows, columns, height + BORDER, width + BORDER, 3), 96, np.uint8)
    tile[:, :, :height, :width] = np.broadcast_to(
        images, (*images.shape[:4], 3 if channels == 1 else channels)
    )
    picture = tile.swapaxes(1, 2).reshape(rows * (height + BORDER), -1, 3)[:-BORDER, :-BORDER]
    factor = max(1, math.ceil(MIN_TILE / max(height, width)))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def save(path: Path, images: np.ndarray) -> np.ndarray:
    """Writes images as one PNG; a reader never sees half of it. Returns the picture."""
    picture = grid(images)
    _write(path, Image.fromarray(picture))
    return picture


def save_labels(path: Path, labels: np.ndarray) -> None:
    """Writes label ids [H, W] as a PNG: with colours up to id 255, else 16 bits of grey."""
    if labels.max(initial=0) > 65_535:
        raise ValueError(f"{labels.max():,} regions are more than a PNG of 16 bits can tell apart")
    if labels.max(initial=0) > 255:
        return _write(path, Image.fromarray(labels.astype(np.uint16)))
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(palette().tobytes())
    _write(path, picture)


def save_overlay(path: Path, image: np.ndarray, labels: np.ndarray) -> None:
    """Writes labels over their image uint8 [H, W, C]; id 0 shows the image as it is.

    Ids above 255 share colours with others.
    """
    colours, picture = palette(), np.empty((*labels.shape, 3), np.uint8)
    for top in range(0, len(labels), 256):  # in strips, so that large images fit
        rows = slice(top, top + 256)
        shown, part = labels[rows, :, None] > 0, image[rows]
        blend = (colours[labels[rows].astype(np.int32) % 256].astype(np.uint16) + part) // 2
        picture[rows] = np.where(shown, blend, part)
    _write(path, Image.fromarray(picture))


def save_grey(path: Path, values: np.ndarray) -> None:
    """Writes values [H, W] in [0, 1] as grey; what is beyond is clipped."""
    _write(path, Image.fromarray(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)))


def save_heat(path: Path, values: np.ndarray) -> None:
    """Writes values [H, W] >= 0 as grey, the largest white."""
    save_grey(path, values / max(float(np.max(values)), 1e-12))


def _write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_suffix(".tmp")
    picture.save(working, "PNG")
    working.replace(path)


def _nearly_square(images):
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    blank = np.zeros((rows * columns - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
