"""Reads images, masks and depth maps from files; a BadFile says why one cannot be read."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

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
    """

    values: np.ndarray
    alpha: bool
    orientation: int


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
    values, alpha = loaded.values, False
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
            least[empty.all((0, 1))] = 0
            values = np.where(empty, least, values)
    if values.dtype.kind == "f" and (wrong := ~(np.abs(values) <= LARGEST)).any():
        index = wrong.any(-1).argmax()
        problem = "holds values that are not finite (NaN or infinity)"
        if np.isfinite(values[wrong]).all():
            problem = f"holds values beyond {LARGEST:g}"
        raise BadFile(path, problem, "Write a number there.", pixel(index, values))
    values = values if stored else upright(values, loaded.orientation)
    return Pixels(np.ascontiguousarray(values), alpha, loaded.orientation)


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
    values, alpha, _ = read_pixels(path)
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


def read_mask(
    path, colours: dict[tuple[int, int, int], int] | None = None, values: str = "ids"
) -> np.ndarray:
    """Reads a mask, upright: one integer id for each pixel.

    Grey values of 1, 2, 4, 8, 16 or 32 bits are ids. In an image with a palette, the
    index is the id; with `colours`, the colour of the index is looked up, as in an RGB
    image. An RGB image with three equal channels counts as grey. So does a GIF whose
    palette is grey, because programs that write GIF renumber the greys. Transparency is
    dropped.

    Args:
      path: the file.
      colours: {(red, green, blue): id}.
      values: the meaning of the values: "ids"; "threshold": 1 from half of the largest
        value of the file's format on, else 0; "instances": 1 where the id is not 0;
        "alpha": the transparency holds the ids.

    Returns:
      Integers [H, W].

    Raises:
      BadFile: the file cannot be read; it holds floats; it is RGB and there are no
        `colours`; it has a colour that `colours` lacks; it is a JPEG with other values
        than 0 and 255.
    """
    ids, orientation = read_stored_mask(path, colours, values)
    return np.ascontiguousarray(upright(ids, orientation))


def read_stored_mask(
    path, colours: dict[tuple[int, int, int], int] | None = None, values: str = "ids"
) -> tuple[np.ndarray, int]:
    """Reads a mask as `read_mask` does, without the turn that its EXIF orientation asks for.

    Args:
      path, colours, values: as for `read_mask`.

    Returns:
      Integers [H, W], and the orientation, 1 to 8.

    Raises:
      BadFile: as `read_mask`.
    """
    loaded = load(path)
    if loaded.image is not None:
        loaded.image.info.pop("transparency", None)  # of a palette, which is dropped
    if values == "alpha":
        ids = _alpha(path, loaded)
    elif values == "threshold":
        ids = _threshold(path, loaded)
    else:
        ids = _ids(path, loaded, colours)
        ids = (ids > 0).astype(np.uint8) if values == "instances" else ids
    return ids, loaded.orientation


def has_alpha_labels(path) -> bool:
    """Whether a mask says everything by its transparency: that differs, its colour does not.

    Args:
      path: the file.
    """
    image = load(path).image
    if image is None or image.mode not in ("LA", "RGBA"):
        return False
    low, high = np.array(image.getextrema()).T
    return bool((low[:-1] == high[:-1]).all() and low[-1] < high[-1])


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


def _ids(path, loaded, colours):
    """The ids [H, W] of a mask as its values or colours say them."""
    image = loaded.image
    if image is None:
        values = loaded.values
        if values.ndim == 3 and values.shape[-1] > 1:
            fix = "Save the ids as one channel."
            raise BadFile(path, f"a mask of {values.shape[-1]} channels", fix)
        kind = np.float32 if values.dtype.kind == "f" else np.int32
        if kind == np.int32 and (beyond := (values > 2**31 - 1) | (values < -(2**31))).any():
            index = beyond.argmax()
            problem = f"id {values.flat[index]}, which needs more than 32 bits"
            raise BadFile(path, problem, "Number the objects from 1.", pixel(index, values))
        image = Image.fromarray(values.reshape(values.shape[:2]).astype(kind))
    if image.mode == "F":
        values = np.asarray(image)
        with np.errstate(invalid="ignore"):  # of some NaN
            index = (values != np.round(values)).argmax()
        problem = f"a mask of floats, such as {values.flat[index]:.6g}"
        raise BadFile(path, problem, "Save the ids as a PNG of 8 or 16 bits.", pixel(index, values))
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        ids = np.asarray(image)
        ids = ids.astype(np.uint8) if ids.dtype == bool else ids
        ids = ids if loaded.grey_factor == 1 else ids // loaded.grey_factor
    elif image.mode == "P" and not colours and not (loaded.form == "GIF" and _is_grey(image)):
        ids = np.asarray(image)
    else:
        ids = _ids_of_colours(path, np.asarray(image.convert("RGB")), colours)
    if loaded.form in ("JPEG", "MPO"):
        _check_jpeg(path, ids)
    return ids


def _alpha(path, loaded):
    image = loaded.image
    if image is None or image.mode not in ("LA", "PA", "RGBA"):
        raise BadFile(path, "has no transparency", 'Leave out values="alpha".')
    return np.asarray(image.getchannel(image.getbands()[-1]))


def _threshold(path, loaded):
    """1 from half of the largest value of the format on: 128, 32,768 or, of floats, 0.5."""
    image = loaded.image
    if image is None or image.mode == "F":
        values = np.asarray(loaded.values if image is None else image)
    elif image.mode.startswith("I"):
        values = np.asarray(image)
    else:
        values = np.asarray(image.convert("L"))
    if values.ndim == 3:
        raise BadFile(path, f"a mask of {values.shape[-1]} channels", "Save it as one channel.")
    whole = 1.0 if values.dtype.kind == "f" else 255 if values.dtype == np.uint8 else 65_535
    return (values > whole / 2).astype(np.uint8)


def _is_grey(image):
    """Whether all colours of a palette are greys."""
    entries = np.reshape(image.getpalette("RGB"), (-1, 3))
    return bool((entries == entries[:, :1]).all())


def _ids_of_colours(path, rgb, colours):
    """Ids [H, W] of a mask in colours [H, W, 3]."""
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    if not colours:
        mixed = (red != green) | (green != blue)
        if not mixed.any():
            return rgb[..., 0].copy()
        fix = (
            "Say what they mean in classes.csv beside the folders (columns "
            "id,name,red,green,blue), or save ids."
        )
        raise _bad_colour(path, "a mask in colours, such as {}", fix, rgb, mixed)
    codes = np.array([r << 16 | g << 8 | b for r, g, b in colours], np.int32)
    ids = np.array(list(colours.values()), np.int32)
    order = np.argsort(codes)
    code = red << 16 | green << 8 | blue
    row = order[np.minimum(np.searchsorted(codes[order], code), len(codes) - 1)]
    unknown = codes[row] != code
    if unknown.any():
        fix = "Add it there with its id (the ignored id if it means void)."
        raise _bad_colour(path, "colour {} is not in classes.csv", fix, rgb, unknown)
    return ids[row]


def _bad_colour(path, problem, fix, rgb, wrong):
    """Makes the error for the first pixel where `wrong` [H, W] is true."""
    index = wrong.argmax()
    colour = tuple(map(int, rgb.reshape(-1, 3)[index]))
    return BadFile(path, problem.format(colour), fix, pixel(index, wrong))


def _check_jpeg(path, ids):
    """Refuses ids from a JPEG, unless they are only 0 and 255."""
    between = (ids != 0) & (ids != 255)
    if between.any():
        index = between.argmax()
        problem = f"a JPEG mask: its compression changes ids (here {ids.flat[index]})"
        fix = (
            'Export the mask as PNG from its source; if it has two values only, values="threshold" '
            "cuts it at the half."
        )
        raise BadFile(path, problem, fix, pixel(index, ids))
