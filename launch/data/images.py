"""Reads images, masks and depth maps from files; a BadFile says why one cannot be read."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from launch import storage
from launch.data.bad_file import BadFile, pixel

# Pillow refuses very large images as possible attacks; these are the user's own files.
Image.MAX_IMAGE_PIXELS = None
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp")
# Pillow multiplies the greys of a PNG of 2 or 4 bits so that they span 0 to 255; ids are
# divided by the same factor.
GREY_FACTOR = {"L;2": 85, "L;4": 17}
ORIENTATION = 0x0112  # the EXIF tag; values of 5 and more swap height and width


def read_image(path) -> np.ndarray:
    """Reads an image and turns it upright according to its EXIF orientation.

    Grey is repeated over the three channels, palettes are looked up, transparency is
    dropped (colours stay as they are stored), and 16 bits are divided by 257.

    Args:
      path: the file.

    Returns:
      uint8 [H, W, 3].

    Raises:
      BadFile: the file cannot be read, holds several images, or holds floats.
    """
    image, _, _ = _load(path)
    if image.mode == "F":
        fix = "Save it with 8 or 16 bits, all images scaled alike."
        raise BadFile(path, "holds floats, whose range is not known", fix)
    if not image.mode.startswith("I"):
        return np.array(image.convert("RGB"))
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        problem = f"holds grey values of {values.min()} to {values.max()}"
        raise BadFile(path, problem, "Save it with 8 or 16 bits.")
    return np.repeat(np.round(values / 257).astype(np.uint8)[..., None], 3, axis=-1)


def read_mask(path, colours: dict[tuple[int, int, int], int] | None = None) -> np.ndarray:
    """Reads a mask: one integer id for each pixel.

    Grey values of 1, 2, 4, 8, 16 or 32 bits are ids. In an image with a palette, the
    index is the id; with `colours`, the colour of the index is looked up, as in an RGB
    image. An RGB image with three equal channels counts as grey. So does a GIF whose
    palette is grey, because programs that write GIF renumber the greys. Transparency is
    dropped.

    Args:
      path: the file.
      colours: {(red, green, blue): id}.

    Returns:
      Integers [H, W].

    Raises:
      BadFile: the file cannot be read; it holds floats; it is RGB and there are no
        `colours`; it has a colour that `colours` lacks; it is a JPEG with other values
        than 0 and 255.
    """
    image, form, grey_factor = _load(path)
    if image.mode == "F":
        values = np.asarray(image)
        index = (values != np.round(values)).argmax()
        problem = f"a mask of floats, such as {values.flat[index]:.6g}"
        raise BadFile(path, problem, "Save the ids as a PNG of 8 or 16 bits.", pixel(index, values))
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        ids = np.array(image)
        ids = ids.astype(np.uint8) if ids.dtype == bool else ids // grey_factor
    elif image.mode == "P" and not colours and not (form == "GIF" and _is_grey(image)):
        ids = np.array(image)
    else:
        ids = _ids_of_colours(path, np.asarray(image.convert("RGB")), colours)
    if form in ("JPEG", "MPO"):
        _check_jpeg(path, ids)
    return ids


def read_depth(path) -> np.ndarray:
    """Reads a depth map.

    Integers (a 16-bit PNG or an .npy file) are millimetres. Floats (a TIFF or an .npy
    file) are metres; where they are not finite, the depth is unknown.

    Args:
      path: the file.

    Returns:
      float32 [H, W] in metres, 0 where the depth is unknown.

    Raises:
      BadFile: the file cannot be read, has 8 bits or several channels, or holds a
        negative depth.
    """
    if Path(path).suffix.lower() == ".npy":
        try:
            _check_regular(path)
            values = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(path, error)
        values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    else:
        values = np.asarray(_load(path)[0])
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


def read_size(path) -> tuple[int, int]:
    """Reads the size of an image from its header.

    Args:
      path: the file.

    Returns:
      (height, width) of the upright image.

    Raises:
      BadFile: the header cannot be read.
    """
    try:
        _check_regular(path)
        with Image.open(path) as image:
            sideways = image.getexif().get(ORIENTATION, 1) >= 5
            return image.size if sideways else image.size[::-1]
    except Exception as error:  # Pillow's plugins raise errors of any type
        raise _unreadable(path, error)


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


def _load(path):
    """Opens an image: upright, its format, and the factor by which Pillow multiplied greys."""
    try:
        _check_regular(path)
        with Image.open(path) as image:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            raw = image.tile[0][3] if image.tile else ""
            raw = raw if isinstance(raw, str) else raw[0]
            image.load()
            upright = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's plugins raise errors of any type
        raise _unreadable(path, error)
    if frames > 1:
        raise BadFile(path, f"holds {frames} images", "Save each as a file of its own.")
    return upright, image.format, GREY_FACTOR.get(str(raw)[:3], 1)


def _check_regular(path):
    """Refuses to open a pipe, which could wait forever; the user's own links are followed."""
    if not storage.is_regular(Path(path).resolve()):
        raise OSError("not a regular file")


def _unreadable(path, error):
    """Makes the error for a file that cannot be opened, with the most helpful reason."""
    path = Path(path)
    if not path.exists():
        return BadFile(path, "no such file", "Check the path.")
    if not path.is_file():
        return BadFile(path, "is not a regular file", "Put an image file in its place.")
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError as denied:
        return BadFile(path, f"cannot be read ({denied.strerror})", "Change its permissions.")
    if not start:
        return BadFile(path, "the file is empty", "Copy or export it again.")
    if start.startswith(b"version https://git-lfs"):
        return BadFile(path, "a Git LFS pointer, not the image itself", "Run `git lfs pull`.")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    reason = reason.replace(f" {str(path)!r}", "").replace(f" {path}", "")
    return BadFile(path, f"cannot be read ({reason})", "Copy or export it again.")


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
        raise BadFile(path, problem, "Export the mask as PNG from its source.", pixel(index, ids))
