"""Draws outlines as masks of ids."""

import array

import numpy as np
from PIL import Image, ImageDraw

from launch.data.bad_file import BadFile
from launch.data.outlines.shapes import SAME_SIZE, Outlined, check_inside


def pycocotools(path):
    """Imports the library that reads COCO's masks.

    Args:
      path: an annotation file, for the message.

    Returns:
      The module pycocotools.mask.

    Raises:
      BadFile: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        fix = "Install it: pip install '.[coco]'"
        raise BadFile(path, "COCO's outlines need pycocotools, which is not installed", fix)
    return mask


def draw(outlined: Outlined, size: tuple[int, int]) -> np.ndarray:
    """Draws the objects of an image, each over those before it.

    COCO's polygons and RLE are drawn by pycocotools. A polygon of labelme or CVAT has its
    corners in the pixels that contain its points, and is drawn by PIL.ImageDraw.polygon:
    the pixels inside and those that its outline passes through count. A box counts from
    the pixel that contains one corner to the pixel that contains the opposite one, both
    included. A circle counts the pixels whose centre is not farther away than its radius.
    Pixel (0, 0) reaches from 0 to 1. What lies outside of the image is cut off.

    Args:
      outlined: one of `find`'s.
      size: (height, width) of the image in pixels.

    Returns:
      Ids int32 [H, W]: 0 is background, launch.data.classes.IGNORED is not known.

    Raises:
      BadFile: the file gives the image another size; a shape cannot be drawn; or
        pycocotools is missing.
    """
    _check_size(outlined.size, size, outlined, "")
    ids = np.zeros(size, np.int32)
    for shape in outlined.shapes:
        ids[_mask(shape, size, outlined)] = shape.id
    return ids


def _mask(shape, size, outlined):
    """The pixels of a shape: bool [H, W]."""
    path, place, mask = outlined.source, shape.place, np.zeros(size, bool)
    if shape.kind == "rle":
        return _decode_rle(shape, size, outlined)
    if shape.kind == "runs":
        counts, left, top, width, height = shape.data
        inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
        mask[top : top + height, left : left + width] = inside
        return mask
    parts = [array.array("d", part) for part in shape.data]
    for part in parts:
        check_inside(part, size, path, place, shape.kind)
    if shape.kind == "polygons":
        library = pycocotools(path)
        pieces = library.frPyObjects([part.tolist() for part in parts], *size)
        return library.decode(library.merge(pieces)).astype(bool)
    points = np.reshape(parts[0], (-1, 2))
    if shape.kind == "box":
        left, top = np.maximum(np.floor(points.min(0)), 0).astype(int)
        right, bottom = np.maximum(np.floor(points.max(0)) + 1, 0).astype(int)
        mask[top:bottom, left:right] = True
        return mask
    if shape.kind == "circle":
        y, x = np.ogrid[0.5 : size[0], 0.5 : size[1]]  # the centres of pixels
        (x0, y0), (x1, y1) = points
        return np.hypot(x - x0, y - y0) <= np.hypot(x1 - x0, y1 - y0)
    canvas = Image.new("L", size[::-1])
    corners = np.floor(points).ravel().astype(int).tolist()
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.array(canvas, bool)


def _decode_rle(shape, size, outlined):
    counts, *said = shape.data
    _check_size(said, size, outlined, shape.place)
    library = pycocotools(outlined.source)
    rle = {"counts": counts, "size": said}
    try:
        if not isinstance(counts, str):
            rle = library.frPyObjects({"counts": list(counts), "size": said}, *said)
        return library.decode(rle).astype(bool)
    except ValueError as error:
        fix = "Export this object again."
        raise BadFile(outlined.source, f"a broken RLE ({error})", fix, shape.place)


def _check_size(said, size, outlined, place):
    """Refuses an image of another size than its annotation says."""
    if said and tuple(said) != tuple(size):
        problem = (
            f"says that {outlined.image.name} has {said[1]} x {said[0]} pixels (width x height), "
            f"but it has {size[1]} x {size[0]}"
        )
        fix = SAME_SIZE
        if tuple(said) == tuple(size[::-1]):
            fix = "One of them lies on its side: export both upright, without EXIF orientation."
        raise BadFile(outlined.source, problem, fix, place)
