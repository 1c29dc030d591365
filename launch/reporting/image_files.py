"""Images as PNG files, and animations, that a person can look at."""

import glob
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.pictures import palette

BORDER = 1  # pixels between tiles, before enlarging
MIN_TILE = 48  # pixels; smaller images are enlarged by a whole factor
MIN_FRAME = 192  # pixels, of an animation
ANIMATIONS = {".gif": "GIF", ".webp": "WEBP"}
MOST_FRAMES = 40  # of an animation of a whole training


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
        images = _levels(images)
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


def animate(path: Path, frames: Sequence[np.ndarray], milliseconds: int = 100) -> None:
    """Writes frames as one animation that runs for ever; a reader never sees half of it.

    Args:
      path: a .gif or a .webp file.
      frames: pictures [H, W, C], uint8, or float in [0, 1]; small ones are enlarged by
        a whole factor, and those of another size are brought to the size of the last.
      milliseconds: how long each is shown; the last one five times as long.

    Raises:
      ValueError: no frames, or a suffix of no animation.
    """
    if path.suffix not in ANIMATIONS or not len(frames):
        raise ValueError(f"{path}: an animation is a .gif or a .webp file of at least one frame")
    height, width = frames[-1].shape[:2]
    factor = max(1, math.ceil(MIN_FRAME / max(height, width)))
    size = (width * factor, height * factor)
    nearest = Image.Resampling.NEAREST
    shown = [Image.fromarray(_as_rgb(frame)).resize(size, nearest) for frame in frames]
    times = [milliseconds] * (len(shown) - 1) + [5 * milliseconds]
    # WebP's least effort: 0.7 s and not 1.8 s for 40 grids of digits, for a fifth more bytes.
    effort = {"quality": 80, "method": 0} if path.suffix == ".webp" else {}
    _write(
        path,
        shown[0],
        ANIMATIONS[path.suffix],
        save_all=True,
        append_images=shown[1:],
        duration=times,
        loop=0,
        **effort,
    )


def progress(folder: Path, name: str) -> Path | None:
    """Makes NAME.webp of a folder's NAME-STEP.png: how a figure changed in training.

    Args:
      folder: of the figures.
      name: of the figure, such as "samples".

    Returns:
      The animation; None where there are fewer than two pictures. Of many pictures
      `MOST_FRAMES` are shown, spread evenly from the first to the last.
    """
    steps = [
        path
        for path in sorted(folder.glob(f"{glob.escape(name)}-*.png"))
        if path.stem.removeprefix(f"{name}-").isdigit()
    ]
    if len(steps) < 2:
        return None
    places = np.linspace(0, len(steps) - 1, min(len(steps), MOST_FRAMES)).round().astype(int)
    frames = []
    for place in places:
        with Image.open(steps[place]) as picture:
            frames.append(np.asarray(picture.convert("RGB")))
    animate(folder / f"{name}.webp", frames, 200)
    return folder / f"{name}.webp"


def _as_rgb(picture):
    """uint8 [H, W, 3] of a picture that `animate` takes."""
    if picture.dtype != np.uint8:
        picture = _levels(picture)
    return np.broadcast_to(picture, (*picture.shape[:2], 3)) if picture.shape[-1] == 1 else picture


def _levels(values):
    """Grey levels uint8 of values in [0, 1]; beyond is clipped, and NaN is black."""
    grey = np.clip(np.nan_to_num(np.asarray(values, np.float32)), 0, 1)
    return np.round(grey * 255).astype(np.uint8)


def _write(path, picture, form="PNG", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_suffix(".tmp")
    with working.open("wb") as stream:
        picture.save(stream, form, **options)
    working.replace(path)


def _nearly_square(images):
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    blank = np.zeros((rows * columns - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
