"""Opens image files: Pillow, and tifffile or imagecodecs for what Pillow would change."""

import contextlib
import importlib
import logging
import math
import os
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from launch.config.errors import UserError
from launch.data.bad_file import BadFile
from launch.data.bounds import check_pixels, check_png

# What Pillow warns of is no message for people; `_open` takes what shows damage.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # `check_pixels` has a limit that the user can change
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp"),
    *(".jp2", ".j2k", ".heic", ".heif", ".avif"),
)
# Pillow multiplies the greys of a PNG of 2 or 4 bits so that they span 0 to 255; ids are
# divided by the same factor.
GREY_FACTOR = {"L;2": 85, "L;4": 17}
ORIENTATION = 0x0112  # the EXIF tag; values of 5 and more swap height and width
NODATA = 42113  # the tag of a TIFF by which GDAL says which value means nothing measured
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXTRA = "Run `pip install '.[images]'`, or save it as {}."
# Pillow only warns of tags that it cannot read; Python keeps warnings for all threads together.
_WARNINGS = threading.Lock()


class Loaded(NamedTuple):
    """A decoded file.

    Attributes:
      image: as Pillow decodes it; None where Pillow would drop channels or bits.
      values: [H, W] or [H, W, C] in place of `image`; else None.
      form: Pillow's name of the format.
      grey_factor: the number by which Pillow multiplied greys.
      orientation: of the EXIF tag, 1 to 8; 1 is upright.
      nodata: the value of a TIFF's pixels where nothing was measured, by GDAL's tag; else None.
    """

    image: Image.Image | None
    values: np.ndarray | None
    form: str
    grey_factor: int
    orientation: int
    nodata: float | None = None


def load(path) -> Loaded:
    """Decodes an image file, without its turn by EXIF.

    Args:
      path: the file.

    Raises:
      BadFile: it cannot be read, holds several images, or has too many pixels.
      UserError: see `check_pixels`.
    """
    # Not by pathlib, which takes longer than to open the file.
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path):  # a pipe or a device would never end
        raise unreadable(path, "")
    if suffix in (".heic", ".heif"):
        _register_heif(path)
    try:
        image, frames = _open(path)
        with image:
            if image.format == "PNG":
                check_png(path)
            if frames == 1 and _is_exact(image, path):
                raw = _raw_mode(image)
                image.load()
                factor = GREY_FACTOR.get(raw[:3], 1)
                nodata = number(getattr(image, "tag_v2", {}).get(NODATA))
                return Loaded(image, None, image.format, factor, _orientation(image), nodata)
            form, orientation = image.format, _orientation(image)
    except (BadFile, UserError):
        raise
    except Exception as error:  # Pillow's plugins raise errors of any type
        if suffix not in (".tif", ".tiff"):
            raise unreadable(path, error)
        frames, form, orientation = 1, "TIFF", 1  # more channels than Pillow knows, perhaps
    if frames > 1:
        raise BadFile(path, f"holds {frames} images", "Save each as a file of its own.")
    if form != "TIFF":
        return Loaded(None, _read_by_imagecodecs(path), form, 1, orientation)
    values, nodata = _read_tiff(path)
    return Loaded(None, values, form, 1, orientation, nodata)


def number(text: str | None) -> float | None:
    """The number of GDAL's tag of pixels without data; None without one."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


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
    if not Path(path).is_file():
        raise unreadable(path, "")
    if Path(path).suffix.lower() in (".heic", ".heif"):
        _register_heif(path)
    try:
        image, _ = _open(path)
        with image:
            sideways = not stored and _orientation(image) >= 5
            return image.size if sideways else image.size[::-1]
    except (BadFile, UserError):
        raise
    except Exception:  # Pillow's plugins raise errors of any type
        return load(path).values.shape[:2]


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an array [H, W, ...] as its EXIF orientation (1 to 8) says; others are ignored."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return values[rows, columns]


def upright_image(image: Image.Image, orientation: int) -> Image.Image:
    """Turns an image of Pillow as its EXIF orientation (1 to 8) says; others are ignored."""
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


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


def _open(path):
    """Opens an image by Pillow, and counts the images in it; a TIFF that is cut off is refused."""
    with contextlib.ExitStack() as stack:
        with _WARNINGS, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            image = stack.enter_context(Image.open(path))
            frames = 1 if image.format in ("MPO", "HEIF") else getattr(image, "n_frames", 1)
        # A tag of too many values is harmless: other programs write it.
        lost = [one for one in warned if not str(one.message).startswith("Metadata Warning")]
        if image.format == "TIFF" and lost:
            raise unreadable(path, lost[0].message)
        check_pixels(path, image.size)
        stack.pop_all()
    return image, frames


def _orientation(image):
    """The EXIF orientation of an image; 1 where EXIF is damaged, which pixels are not."""
    if image.format == "PNG":
        image.load()  # EXIF may follow the pixels
    with _WARNINGS, warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        orientation = image.getexif().get(ORIENTATION, 1)
        return orientation if orientation in range(1, 9) else 1
    return 1


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
        # tifffile leaves a file that it opens itself open where its header is damaged.
        with (
            _errors_of("tifffile") as lost,
            Path(path).open("rb") as stream,
            tifffile.TiffFile(stream) as file,
        ):
            pages = [page for page in file.pages if page.subfiletype & 1 == 0]  # no thumbnails
            if len(pages) != 1:
                fix = "Save each as a file of its own, or all as the channels of one image."
                raise BadFile(path, f"holds {len(pages)} images", fix)
            check_pixels(path, sorted(pages[0].shape)[-2:])
            parts, present = math.prod(pages[0].chunked), len(pages[0].dataoffsets)
            if present < parts:  # tifffile fills them with zeros
                raise unreadable(path, f"{present:,} of {parts:,} parts of the image are there")
            values, axes = pages[0].asarray(), pages[0].axes
            nodata = number(pages[0].tags.valueof(NODATA))
        if lost:
            raise unreadable(path, lost[0].getMessage())
    except (BadFile, UserError):
        raise
    except Exception as error:  # of a damaged file, tifffile raises errors of any type
        if "imagecodecs" in str(error):
            raise BadFile(path, "a compression of TIFF", EXTRA.format("TIFF without compression"))
        raise unreadable(path, error)
    if axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    if values.ndim not in (2, 3) or not values.size:
        raise BadFile(path, f"holds an array of {axes}", "Save it as an image.")
    if values.dtype.kind not in "biuf":
        raise BadFile(path, f"holds values of {values.dtype}", "Save integers or floats.")
    return values.astype(np.uint8) if values.dtype.kind == "b" else values, nodata


@contextlib.contextmanager
def _errors_of(library):
    """Yields a list of the errors that a library logs in this thread; they are not printed."""
    logger, handler, records = logging.getLogger(library), logging.Handler(logging.ERROR), []
    thread = threading.get_ident()
    handler.addFilter(lambda record: record.thread == thread)
    handler.emit = records.append
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


def _read_by_imagecodecs(path):
    """The values of a PNG or JPEG 2000 whose channels have 16 bits."""
    try:
        imagecodecs = importlib.import_module("imagecodecs")
    except ImportError:
        fix = EXTRA.format("TIFF")
        raise BadFile(path, "has channels of 16 bits, of which Pillow keeps 8", fix)
    try:
        with _errors_of("imagecodecs") as lost:
            values = imagecodecs.imread(str(path))
        if lost:
            raise unreadable(path, lost[0].getMessage())
        return values
    except BadFile:
        raise
    except Exception as error:  # of a damaged file, its decoders raise errors of any type
        raise unreadable(path, error)


def _register_heif(path):
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
        return
    raise BadFile(path, "is a HEIC image", EXTRA.format("JPEG or PNG"))
