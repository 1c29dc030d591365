"""Reads images and depth maps from files; a BadFile says why one cannot be read."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from launch.data.bad_file import BadFile, pixel
from launch.data.bounds import check_pixels
from launch.data.image_formats import Loaded, load, unreadable, upright

LARGEST = 1e37  # of floats in images: differences of two fit into float32
PIECE = 1 << 20  # values that are counted at a time


class Pixels(NamedTuple):
    """The values of an image file, as they are stored.

    Attributes:
      values: [H, W, C] of any integers or floats; C = 1 for grey.
      alpha: whether the last channel may be transparency.
      orientation: of the EXIF tag, 1 to 8; 1 is upright.
      unmeasured: the channels in which the file says of every pixel that nothing was measured.
    """

    values: np.ndarray
    alpha: bool
    orientation: int
    unmeasured: tuple[int, ...] = ()


def read_pixels(path, stored: bool = False, nodata: bool = False) -> Pixels:
    """Reads the values of an image without changing them.

    Palettes are looked up, and printing colours (CMYK) become red, green and blue. Pixels of
    which the file says that nothing was measured there get the least value of their channel,
    unless values have 8 bits: -9999 or NaN would decide on how all others are scaled.

    Args:
      path: the file.
      stored: whether to leave out the turn that the EXIF orientation asks for.
      nodata: whether such pixels keep their value.

    Returns:
      The values, which may be read-only.

    Raises:
      BadFile: the file cannot be read, holds several images, or values that are not finite.
    """
    return pixels_of(path, load(path), stored, nodata)


def pixels_of(path, loaded: Loaded, stored: bool = False, nodata: bool = False) -> Pixels:
    """The values of a file that `load` decoded, as `read_pixels` gives them.

    Args:
      path: the file, for messages.
      loaded: what `load` gave.
      stored, nodata: as of `read_pixels`.

    Raises:
      BadFile: values that are not finite.
    """
    values, alpha, unmeasured = loaded.values, False, ()
    if values is None:
        image = loaded.image
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode not in ("L", "LA", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        alpha, values = image.mode in ("LA", "RGBA"), np.asarray(image)
    else:
        alpha = values.ndim == 3 and values.shape[-1] in (2, 4)
    values = values.reshape(*values.shape[:2], -1)
    if loaded.nodata is not None and values.dtype != np.uint8:
        empty = is_nodata(values, loaded.nodata)
        if nodata:
            values = values if stored else upright(values, loaded.orientation)
            return Pixels(np.ascontiguousarray(values), alpha, loaded.orientation)
        if empty.any():
            largest = np.array(np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).max)
            least = values.min((0, 1), where=~empty, initial=largest.astype(values.dtype))
            unmeasured = tuple(np.flatnonzero(empty.all((0, 1))).tolist())
            least[list(unmeasured)] = 0
            values = np.where(empty, least, values)
    if values.dtype.kind == "f" and (wrong := ~(np.abs(values) <= LARGEST)).any():
        index = wrong.any(-1).argmax()
        problem = "holds values that are not finite (NaN or infinity)"
        if np.isfinite(values[wrong]).all():
            problem = f"holds values beyond {LARGEST:g}"
        raise BadFile(path, problem, "Write a number there.", pixel(index, values))
    values = values if stored else upright(values, loaded.orientation)
    return Pixels(np.ascontiguousarray(values), alpha, loaded.orientation, unmeasured)


def is_nodata(values: np.ndarray, nodata: float) -> np.ndarray:
    """Where values are those that mean nothing measured; of that shape, bool."""
    if np.isnan(nodata):
        return np.isnan(values)
    return values == (values.dtype.type(nodata) if values.dtype.kind == "f" else nodata)


def read_image(path, own_range: bool = False) -> np.ndarray:
    """Reads an image as red, green and blue, upright; transparency is dropped.

    Args:
      path: the file.
      own_range: whether an image of more than 8 bits is scaled from its own range, see
        `value_range`; otherwise it is refused.

    Returns:
      uint8 [H, W, 3].

    Raises:
      BadFile: the file cannot be read, or holds another number of channels or more bits.
    """
    values, alpha, *_ = read_pixels(path)
    values = values[..., :-1] if alpha else values
    if values.shape[-1] not in (1, 3):
        fix = "Save three of them as an image of 8 bits."
        raise BadFile(path, f"holds {values.shape[-1]} channels, not 1 or 3", fix)
    if values.dtype != np.uint8:
        if not own_range:
            fix = "Save it with 8 bits, all images scaled alike."
            raise BadFile(path, f"holds values of {values.dtype}, not of 8 bits", fix)
        values = to_uint8(values, value_range(values))
    return np.repeat(values, 3, -1) if values.shape[-1] == 1 else values


def ranges_of(pixels: Pixels) -> tuple[tuple[float, float], ...]:
    """What most values of each channel of a file lie between, see `value_range`.

    Args:
      pixels: of the file.

    Returns:
      (low, high) of each channel; (infinity, -infinity), which widens no range, of one in which
      nothing was measured.
    """
    limits = value_range(pixels.values)
    limits[list(pixels.unmeasured)] = np.inf, -np.inf
    return tuple(map(tuple, limits.tolist()))


def value_range(values: np.ndarray) -> np.ndarray:
    """The range of most values of an image: between its 0.1 and 99.9 percentiles.

    Args:
      values: [H, W, C].

    Returns:
      float64 [C, 2]: the two percentiles of each channel.
    """
    flat = values.reshape(-1, values.shape[-1])
    if values.dtype == np.uint8:  # counting is many times as quick as sorting
        ranks = np.array([0.001, 0.999]) * (len(flat) - 1)
        counts = [count_bytes(channel).cumsum() for channel in flat.T]
        return np.array([np.searchsorted(count, ranks, "right") for count in counts], np.float64)
    return np.percentile(flat, [0.1, 99.9], axis=0).T


def count_bytes(values: np.ndarray) -> np.ndarray:
    """Counts each value of an array of uint8, of any shape: int64 [256].

    `np.bincount` converts its argument to 64 bits; piece by piece, that takes little memory.

    Args:
      values: the array.
    """
    flat = values.reshape(-1)
    pieces = (flat[first : first + PIECE] for first in range(0, flat.size, PIECE))
    return sum((np.bincount(piece, minlength=256) for piece in pieces), np.zeros(256, np.int64))


def to_uint8(values: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Scales each channel so that its range becomes 0 to 255; what lies beyond is clipped.

    Args:
      values: [H, W, C].
      ranges: [C, 2], the values that become 0 and 255. Where both are equal, all become 0.

    Returns:
      uint8 [H, W, C].
    """
    low, high = np.asarray(ranges, np.float32).T
    wide = high - low > 1e-35  # else 255 divided by it would not fit into float32
    factor = np.where(wide, 255.0 / np.where(wide, high - low, 1.0), 0.0)
    scaled = (values.astype(np.float32) - low) * factor.astype(np.float32)
    return np.round(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def read_depth(path, stored: bool = False) -> np.ndarray:
    """Reads a depth map.

    Integers (a 16-bit PNG or an .npy file) are millimetres. Floats (a TIFF or an .npy
    file) are metres; where they are not finite, the depth is unknown.

    Args:
      path: the file.
      stored: whether to leave out the turn that the EXIF orientation asks for.

    Returns:
      float32 [H, W] in metres, 0 where the depth is unknown.

    Raises:
      BadFile: the file cannot be read, has 8 bits or several channels, or holds a
        negative depth.
    """
    if Path(path).suffix.lower() == ".npy":
        if not Path(path).is_file():  # a pipe or a device would never end
            raise unreadable(path, "")
        try:
            values = np.lib.format.open_memmap(path, mode="r")  # checks the size of the file
        except Exception as error:  # numpy raises errors of many types
            raise unreadable(path, error)
        check_pixels(path, values.shape)
        values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    else:
        loaded = load(path)
        values = np.asarray(loaded.image) if loaded.values is None else loaded.values
        values = values if stored else upright(values, loaded.orientation)
    if values.ndim != 2 or values.dtype == np.uint8 or values.dtype.kind not in "iuf":
        fix = "Save millimetres as a 16-bit PNG, or metres as float TIFF or .npy."
        raise BadFile(path, f"depth as {values.dtype}{list(values.shape)} has no unit", fix)
    depth = values.astype(np.float32)
    if values.dtype.kind == "f":
        depth[~np.isfinite(depth)] = 0
    else:
        depth /= 1000
    if depth.size and depth.min() < 0:
        index = depth.argmin()
        problem = f"a depth of {depth.flat[index]:g} m"
        raise BadFile(path, problem, "Write 0 where it is unknown.", pixel(index, depth))
    return depth


def wrong_size(path, shape: tuple, image, image_shape: tuple) -> BadFile:
    """Makes the error for a mask or depth map of another size than its image.

    Args:
      path: the mask or depth map.
      shape: its shape, (H, W, ...).
      image: the file of the image.
      image_shape: the shape of the image, (H', W', ...).

    Returns:
      The error, which the caller raises or keeps.
    """
    problem = f"is {shape[1]} x {shape[0]}, its image {image_shape[1]} x {image_shape[0]}"
    fix = f"Export it at the size of {Path(image).name}."
    if tuple(shape[:2]) == tuple(image_shape[1::-1]):
        fix = "One of them lies on its side: export both upright, without EXIF orientation."
    return BadFile(path, problem, fix)
