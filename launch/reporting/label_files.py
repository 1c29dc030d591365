"""Label maps and maps of values as PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.pictures import palette
from launch.reporting import image_files


def save_labels(path: Path, labels: np.ndarray) -> None:
    """Writes label ids as a PNG: with colours up to id 255, else 16 bits of grey.

    Args:
      path: the file.
      labels: integers [H, W].

    Raises:
      ValueError: an id needs more than 16 bits.
    """
    if labels.max(initial=0) > 65_535:
        raise ValueError(f"{labels.max():,} regions are more than a PNG of 16 bits can tell apart")
    if labels.max(initial=0) > 255:
        return image_files.write(path, Image.fromarray(labels.astype(np.uint16)))
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(palette().tobytes())
    image_files.write(path, picture)


def save_overlay(path: Path, image: np.ndarray, labels: np.ndarray) -> None:
    """Writes labels over their image uint8 [H, W, C]; id 0 shows the image as it is.

    Of other images than RGB, the first three channels are shown, or the first one as grey.

    Ids above 255 share colours with others.
    """
    colours, picture = palette(), np.empty((*labels.shape, 3), np.uint8)
    for top in range(0, len(labels), 256):  # in strips, so that large images fit
        rows = slice(top, top + 256)
        shown, part = labels[rows, :, None] > 0, image[rows]
        part = part[..., :3] if part.shape[-1] >= 3 else np.repeat(part[..., :1], 3, -1)
        blend = (colours[labels[rows].astype(np.int32) % 256].astype(np.uint16) + part) // 2
        picture[rows] = np.where(shown, blend, part)
    image_files.write(path, Image.fromarray(picture))


def save_grey(path: Path, values: np.ndarray) -> None:
    """Writes values [H, W] in [0, 1] as grey; what is beyond is clipped."""
    image_files.write(path, Image.fromarray(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)))


def save_heat(path: Path, values: np.ndarray) -> None:
    """Writes values [H, W] >= 0 as grey, the largest white."""
    save_grey(path, values / max(float(np.max(values)), 1e-12))
