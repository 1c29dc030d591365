"""Opens image files: Pillow, and tifffile or imagecodecs for what Pillow would change."""

import contextlib
import importlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from launch.config.errors import UserError
from launch.data.bad_file import BadFile
from launch.data.bounds import check_pixels, check_png

Image.MAX_IMAGE_PIXELS = None  # `check_pixels` has a limit that the user can change
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp"),
    *(".jp2", ".j2k", ".heic", ".heif", ".avif"),
)
# Pillow multiplies the greys of a PNG of 2 or 4 bits so that they span 0 to 255; ids are
# divided by the same factor.
GREY_FACTOR = {"L;2": 85, "L;4": 17}
ORIENTATION = 0x0112  # the EXIF tag; values of 5 and more swap height and width
EXTRA = "Run `pip install '.[images]'`, or save it as {}."


class Loaded(NamedTuple):
    """A decoded file.

    Attributes:
      image: as Pillow decodes it; None where Pillow would drop channels or bits.
      values: [H, W] or [H, W, C] in place of `image`; else None.
      form: Pillow's name of the format.
      grey_factor: the number by which Pillow multiplied greys.
      orientation: of the EXIF tag, 1 to 8; 1 is upright.
    """

    image: Image.Image | None
    values: np.ndarray | None
    form: str
    grey_factor: int
    orientation: int


def load(path) -> Loaded:
    """Decodes an image file, without its turn by EXIF.

    Args:
      path: the file.

    Raises:
      BadFile: it cannot be read, or holds several images.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():  # a pipe or a device would never end
        raise unreadable(path, "")
    if suffix in (".heic", ".heif"):
        _register_heif(path)
    try:
        with Image.open(path) as image:
            check_pixels(path, image.size)
            if image.format == "PNG":
                check_png(path)
            frames = 1 if image.format in ("MPO", "HEIF") else getattr(image, "n_frames", 1)
            if frames == 1 and _is_exact(image, path):
                raw = _raw_mode(image)
                image.load()
                orientation = image.getexif().get(ORIENTATION, 1)
                return Loaded(image, None, image.format, GREY_FACTOR.get(raw[:3], 1), orientation)
            form, orientation = image.format, image.getexif().get(ORIENTATION, 1)
    except (BadFile, UserError):
        raise
    except Exception as error:  # Pillow's plugins raise errors of any type
        if suffix not in (".tif", ".tiff"):
            raise unreadable(path, error)
        frames, form, orientation = 1, "TIFF", 1  # more channels than Pillow knows, perhaps
    if frames > 1:
        raise BadFile(path, f"holds {frames} images", "Save each as a file of its own.")
    read = _read_tiff if form == "TIFF" else _read_by_imagecodecs
    return Loaded(None, read(path), form, 1, orientation)


def read_size(path, stored: bool = False) -> tuple[int, int]:
    """Reads the size of an image from its header.

    Args:
      path: the file.
      stored: whether to leave out the turn that the EXIF orientation asks for.

    Returns:
      (height, width).

    Raises:
      BadFile: the header cannot be read.
    """
    if Path(path).suffix.lower() in (".heic", ".heif"):
        _register_heif(path)
    try:
        with Image.open(path) as image:
            check_pixels(path, image.size)
            sideways = not stored and image.getexif().get(ORIENTATION, 1) >= 5
            return image.size if sideways else image.size[::-1]
    except (BadFile, UserError):
        raise
    except Exception:  # Pillow's plugins raise errors of any type
        return load(path).values.shape[:2]


def read_orientation(path) -> int:
    """Reads the EXIF orientation of an image that can be opened: 1 to 8, 1 for none."""
    with Image.open(path) as image:
        return image.getexif().get(ORIENTATION, 1)


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an array [H, W, ...] as its EXIF orientation (1 to 8) says; others are ignored."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return values[rows, columns]


def unreadable(path, error) -> BadFile:
    """Makes the error for a file that cannot be opened, with the most helpful reason.

    Args:
      path: the file.
      error: what its reader raised.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "no such file"
        return BadFile(path, problem, "Check the path.")
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


def _raw_mode(image):
    """How Pillow's decoder finds the values in the file, such as "RGB;16B"."""
    raw = image.tile[0][3] if image.tile else ""
    return raw if isinstance(raw, str) else str(raw[0]) if raw else ""


def _is_exact(image, path):
    """Whether Pillow decodes all channels and all bits of a file."""
    if image.format == "TIFF":
        bits, samples = image.tag_v2.get(258, (1,)), image.tag_v2.get(277, 1)
        return samples == len(image.getbands()) and (samples == 1 or max(bits) <= 8)
    if image.format == "JPEG2000":
        with open(path, "rb") as file:
            head = file.read(256)
        at = head.find(b"ihdr")
        deep = at >= 0 and (head[at + 14] & 0x7F) >= 8  # one less than the bits
        return not deep or image.mode.startswith("I")
    return ";16" not in _raw_mode(image) or image.mode.startswith("I")


def _read_tiff(path):
    import tifffile  # few people's images need it

    try:
        with tifffile.TiffFile(path) as file:
            pages = [page for page in file.pages if page.subfiletype & 1 == 0]  # no thumbnails
            if len(pages) != 1:
                fix = "Save each as a file of its own, or all as the channels of one image."
                raise BadFile(path, f"holds {len(pages)} images", fix)
            check_pixels(path, sorted(pages[0].shape)[-2:])
            values, axes = pages[0].asarray(), pages[0].axes
    except (BadFile, UserError):
        raise
    except Exception as error:  # of a damaged file, tifffile raises errors of any type
        if "imagecodecs" in str(error):
            raise BadFile(path, "a compression of TIFF", EXTRA.format("TIFF without compression"))
        raise unreadable(path, error)
    if axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    if values.ndim not in (2, 3):
        raise BadFile(path, f"holds an array of {axes}", "Save it as an image.")
    return values


def _read_by_imagecodecs(path):
    """The values of a PNG or JPEG 2000 whose channels have 16 bits."""
    try:
        imagecodecs = importlib.import_module("imagecodecs")
    except ImportError:
        fix = EXTRA.format("TIFF")
        raise BadFile(path, "has channels of 16 bits, of which Pillow keeps 8", fix)
    try:
        return imagecodecs.imread(str(path))
    except Exception as error:  # of a damaged file, its decoders raise errors of any type
        raise unreadable(path, error)


def _register_heif(path):
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
        return
    raise BadFile(path, "is a HEIC image", EXTRA.format("JPEG or PNG"))
