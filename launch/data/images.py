"""Reads images, masks and depth from files, as people have them; names what it cannot read."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# Pillow refuses large pictures from strangers; these are the user's own.
Image.MAX_IMAGE_PIXELS = None
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp")
# Pillow spreads PNG's 2 and 4 bit greys over 0 to 255; an id must be taken back.
STRETCH = {"L;2": 85, "L;4": 17}


class BadFile(ValueError):
    """What is wrong with a file, where, and what to do about it.

    Attributes:
      path: the file.
      place: "x 17, y 4", or "".
      what: what is wrong.
      cure: what to do.
    """

    def __init__(self, path, what: str, cure: str, place: str = ""):
        self.path, self.place, self.what, self.cure = str(path), place, what, cure
        super().__init__(f"{path}{f' ({place})' if place else ''}: {what}. {cure}")

    def __reduce__(self):  # it crosses from worker processes
        return BadFile, (self.path, self.what, self.cure, self.place)


def read_image(path) -> np.ndarray:
    """Reads a picture as uint8 [H, W, 3], turned upright as its EXIF data say.

    Grey is repeated, palettes are looked up, transparency is dropped (the colours
    stay as they are stored), and 16 bits are divided by 257.

    Raises:
      BadFile: the file cannot be read, holds several pictures, or floats.
    """
    image, _, _ = _load(path)
    if image.mode == "F":
        cure = "Save it with 8 or 16 bits, all images scaled alike."
        raise BadFile(path, "holds floats, whose range is not known", cure)
    if not image.mode.startswith("I"):
        return np.array(image.convert("RGB"))
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        what = f"holds grey values of {values.min()} to {values.max()}"
        raise BadFile(path, what, "Save it with 8 or 16 bits.")
    return np.repeat(np.round(values / 257).astype(np.uint8)[..., None], 3, axis=-1)


def read_mask(path, colours: dict[tuple[int, int, int], int] | None = None) -> np.ndarray:
    """Reads a mask as integer ids [H, W].

    Grey values are ids, of 1, 2, 4, 8, 16 or 32 bits. With a palette the index is the
    id, unless there are `colours`; then its colours are looked up as those of RGB
    are. RGB with three equal channels is grey, and so is a GIF whose palette is: who
    writes one numbers the greys anew. Transparency is dropped.

    Args:
      path: the file.
      colours: {(red, green, blue): id}.

    Raises:
      BadFile: the file cannot be read; floats; RGB without `colours`; a colour that is
        not among them; a JPEG, unless it has no values but 0 and 255.
    """
    image, form, stretch = _load(path)
    if image.mode == "F":
        values = np.asarray(image)
        place = (values != np.round(values)).argmax()
        what = f"a mask of floats, such as {values.flat[place]:.6g}"
        raise BadFile(path, what, "Save the ids as a PNG of 8 or 16 bits.", pixel(place, values))
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        ids = np.array(image)
        ids = ids.astype(np.uint8) if ids.dtype == bool else ids // stretch
    elif image.mode == "P" and not colours and not (form == "GIF" and _is_grey(image)):
        ids = np.array(image)
    else:
        ids = _ids_of_colours(path, np.asarray(image.convert("RGB")), colours)
    if form in ("JPEG", "MPO"):
        _refuse_between(path, ids)
    return ids


def read_depth(path) -> np.ndarray:
    """Reads a depth map as float32 [H, W] in metres, 0 where unknown.

    Integers (a 16-bit PNG or an .npy) are millimetres; floats (a TIFF or an .npy)
    are metres, and unknown where they are not finite.

    Raises:
      BadFile: the file cannot be read, has 8 bits or several channels, or is negative.
    """
    if Path(path).suffix.lower() == ".npy":
        try:
            values = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(path, error)
        values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    else:
        values = np.asarray(_load(path)[0])
    cure = "Save millimetres as a 16-bit PNG, or metres as float TIFF or .npy."
    if values.ndim != 2 or values.dtype == np.uint8 or values.dtype.kind not in "iuf":
        raise BadFile(path, f"depth as {values.dtype}{list(values.shape)} has no unit", cure)
    depth = values.astype(np.float32)
    if values.dtype.kind == "f":
        depth[~np.isfinite(depth)] = 0
    else:
        depth /= 1000
    if depth.size and depth.min() < 0:
        place = depth.argmin()
        what = f"a depth of {depth.flat[place]:g} m"
        raise BadFile(path, what, "Write 0 where it is unknown.", pixel(place, depth))
    return depth


def read_size(path) -> tuple[int, int]:
    """Height and width of a picture, upright, from its header.

    Raises:
      BadFile: it has no header that can be read.
    """
    try:
        with Image.open(path) as image:
            sideways = image.getexif().get(0x0112, 1) >= 5  # the EXIF orientation
            return image.size if sideways else image.size[::-1]
    except Exception as error:  # Pillow's plugins raise what they like
        raise _unreadable(path, error)


def other_size(path, shape, image, wanted) -> BadFile:
    """The fault of a mask or depth map [H, W] whose image is [H', W']."""
    what = f"is {shape[1]} x {shape[0]}, its image {wanted[1]} x {wanted[0]}"
    cure = f"Export it at the size of {Path(image).name}."
    if tuple(shape[:2]) == tuple(wanted[1::-1]):
        cure = "One of them lies on its side: export both upright, without EXIF orientation."
    return BadFile(path, what, cure)


def pixel(place: int, array: np.ndarray) -> str:
    """Words for the pixel at a flat index of an [H, W] array."""
    y, x = divmod(int(place), array.shape[1])
    return f"x {x}, y {y}"


def _load(path):
    """An upright image, its format, and by how much Pillow has multiplied its greys."""
    try:
        with Image.open(path) as image:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            raw = image.tile[0][3] if image.tile else ""
            raw = raw if isinstance(raw, str) else raw[0]
            image.load()
            upright = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's plugins raise what they like
        raise _unreadable(path, error)
    if frames > 1:
        raise BadFile(path, f"holds {frames} pictures", "Save each as a file of its own.")
    return upright, image.format, STRETCH.get(str(raw)[:3], 1)


def _unreadable(path, error):
    path = Path(path)
    if not path.is_file():
        return BadFile(path, "no such file", "Check the path.")
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError as refused:
        return BadFile(path, f"cannot be read ({refused.strerror})", "Change its permissions.")
    if not start:
        return BadFile(path, "the file is empty", "Copy or export it again.")
    if start.startswith(b"version https://git-lfs"):
        return BadFile(path, "a Git LFS pointer, not the picture itself", "Run `git lfs pull`.")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    reason = reason.replace(f" {str(path)!r}", "").replace(f" {path}", "")
    return BadFile(path, f"cannot be read ({reason})", "Copy or export it again.")


def _is_grey(image):
    """Whether all colours of a palette are greys."""
    entries = np.reshape(image.getpalette("RGB"), (-1, 3))
    return bool((entries == entries[:, :1]).all())


def _ids_of_colours(path, rgb, colours):
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    if not colours:
        mixed = (red != green) | (green != blue)
        if not mixed.any():
            return rgb[..., 0].copy()
        cure = (
            "Say what they mean in classes.csv beside the folders (columns "
            "id,name,red,green,blue), or save ids."
        )
        raise BadFile(path, *_colour("a mask in colours, such as {}", rgb, mixed, cure))
    codes = np.array([r << 16 | g << 8 | b for r, g, b in colours], np.int32)
    ids = np.array(list(colours.values()), np.int32)
    order = np.argsort(codes)
    code = red << 16 | green << 8 | blue
    found = order[np.minimum(np.searchsorted(codes[order], code), len(codes) - 1)]
    unknown = codes[found] != code
    if unknown.any():
        cure = "Add it there with its id (that of ignore if it is void)."
        raise BadFile(path, *_colour("colour {} is not in classes.csv", rgb, unknown, cure))
    return ids[found]


def _colour(what, rgb, wrong, cure):
    place = wrong.argmax()
    return what.format(tuple(map(int, rgb.reshape(-1, 3)[place]))), cure, pixel(place, wrong)


def _refuse_between(path, ids):
    between = (ids != 0) & (ids != 255)
    if between.any():
        place = between.argmax()
        what = f"a JPEG mask: its compression changes ids (here {ids.flat[place]})"
        raise BadFile(path, what, "Export the mask as PNG from its source.", pixel(place, ids))
