"""Reads masks, the ids of pixels, from files; a BadFile says why one cannot be read."""

import numpy as np
from PIL import Image

from launch.data.bad_file import BadFile, pixel
from launch.data.image_formats import load, upright


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
