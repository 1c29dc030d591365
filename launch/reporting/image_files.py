"""Images as PNG files, and animations."""

import glob
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from launch.storage.atomic import replacing

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
    rows, columns, height, width, _ = images.shape
    tile = np.full((rows, columns, height + BORDER, width + BORDER, 3), 96, np.uint8)
    tile[:, :, :height, :width] = images
    picture = tile.swapaxes(1, 2).reshape(rows * (height + BORDER), -1, 3)[:-BORDER, :-BORDER]
    factor = max(1, math.ceil(MIN_TILE / max(height, width)))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def save(path: Path, images: np.ndarray) -> None:
    """Writes images, as `grid` takes them, as one PNG."""
    save_picture(path, grid(images))


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, uint8 [H, W, 3], as PNG."""
    write(path, Image.fromarray(picture))


def animate(path: Path, frames: Sequence[np.ndarray], milliseconds: int = 100) -> None:
    """Writes frames as one animation that repeats for ever.

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
    write(
        path,
        shown[0],
        ANIMATIONS[path.suffix],
        save_all=True,
        append_images=shown[1:],
        duration=times,
        loop=0,
        **effort,
    )


def animate_steps(folder: Path, name: str) -> Path | None:
    """Makes NAME.webp of a folder's NAME-STEP.png, which shows how a figure changed.

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


def write(path: Path, picture: Image.Image, form: str = "PNG", **options) -> None:
    """Writes a Pillow image; a reader never sees half of it.

    Args:
      path: the file.
      picture: the image.
      form: Pillow's name of the format.
      **options: of Pillow's writer.
    """
    with replacing(path) as working, working.open("wb") as stream:
        picture.save(stream, form, **options)


def _nearly_square(images):
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    blank = np.zeros((rows * columns - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
