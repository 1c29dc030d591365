"""Where on Earth an image lies: the tags of a GeoTIFF, carried over to what is made of it.

GDAL and every GIS read these tags; see OGC 19-008r4 (GeoTIFF 1.1) for the first six, and
GDAL's own documentation for its two. The pixels of the results are those of the image, so all
tags stay true as they are; only what GDAL says of single bands is left out.
"""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from launch.data import image_formats, images
from launch.data.image_formats import NODATA
from launch.storage.atomic import replacing

# ModelPixelScale, ModelTiepoint, ModelTransformation; the directory of keys, and its numbers
# and texts.
PLACE = (33550, 33922, 34264, 34735, 34736, 34737)
METADATA = 42112  # GDAL's
ORIENTATION, SUBFILE = 274, 254
CONVERTED = (3, 5)  # of PhotometricInterpretation: a palette, and CMYK
ALPHA = (1, 2)  # of the tag ExtraSamples; 0 is a band of any kind


class Header(NamedTuple):
    """What the tags of a TIFF say.

    Attributes:
      samples: the number of its channels; 3 for a palette and for printing colours, which are
        read as red, green and blue.
      transparent: whether the last channel is said to be transparency.
      turned: whether the image is upright only when it is turned.
      tags: (code, dtype, count, value) of those that say where the image lies; () without.
      nodata: the value of pixels where nothing was measured; None without.
    """

    samples: int
    transparent: bool
    turned: bool
    tags: tuple[tuple, ...]
    nodata: float | None

    @property
    def is_map(self) -> bool:
        """Whether results are to be TIFF files with these tags."""
        return bool(self.tags) or self.nodata is not None


def read_header(path: Path) -> Header | None:
    """Reads the tags of a TIFF.

    Args:
      path: an image file.

    Returns:
      The header; None for another format, and for a file that cannot be read.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    import tifffile  # few people's images need it

    try:
        with path.open("rb") as stream, tifffile.TiffFile(stream) as file:
            page = next(page for page in file.pages if not page.subfiletype & 1)  # no thumbnail
            tags = [_carried(page.tags[code]) for code in PLACE if code in page.tags]
            text = page.tags.valueof(METADATA)
            if metadata := _of_the_whole(text):
                tags.append((METADATA, "s", 0, metadata))
            return Header(
                samples=3 if page.photometric in CONVERTED else page.samplesperpixel,
                transparent=bool(set(page.extrasamples[-1:]) & set(ALPHA)),
                turned=page.tags.valueof(ORIENTATION, default=1) not in (0, 1),
                tags=tuple(tags) if any(code != METADATA for code, *_ in tags) else (),
                nodata=image_formats.number(page.tags.valueof(NODATA)),
            )
    except Exception:  # of a damaged file, any; who reads the image says what is wrong
        return None


def empty_pixels(values: np.ndarray, nodata: float) -> np.ndarray:
    """Finds the pixels where nothing was measured: those whose channels all say so.

    Args:
      values: the image [H, W, C], as it is stored.
      nodata: the value that says so.

    Returns:
      bool [H, W].
    """
    return images.is_nodata(values, nodata).all(-1)


def save(
    path: Path,
    values: np.ndarray,
    header: Header,
    nodata: int | None = None,
    colours: np.ndarray | None = None,
) -> None:
    """Writes a map as a TIFF that lies where the image lies.

    Args:
      path: the file.
      values: uint8 or uint16 [H, W].
      header: of the image.
      nodata: the value of pixels where nothing was measured; None without.
      colours: uint8 [256, 3], those in which ids are shown; None for grey.
    """
    import tifffile

    tags = [(*tag, True) for tag in header.tags]
    if nodata is not None:
        tags.append((NODATA, "s", 0, str(nodata), True))
    look = {"photometric": "minisblack"}
    if colours is not None:
        look = {"photometric": "palette", "colormap": colours.T.astype(np.uint16) * 257}
    with replacing(path) as working, working.open("wb") as stream:
        tifffile.imwrite(
            stream,
            values,
            compression="zlib",
            metadata=None,
            software=False,
            extratags=tags,
            **look,
        )


def _carried(tag):
    value = tag.value
    return (
        (tag.code, "s", 0, value)
        if isinstance(value, str)
        else (tag.code, tag.dtype, tag.count, value)
    )


def _of_the_whole(text):
    """GDAL's metadata without what it says of single bands, such as statistics; "" for none."""
    if not text:
        return ""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return ""
    for item in list(root):
        if "sample" in item.attrib:
            root.remove(item)
    return ElementTree.tostring(root, "us-ascii").decode() if len(root) else ""
