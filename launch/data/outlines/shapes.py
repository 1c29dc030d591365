"""Outlines of objects: what an annotation file says about an image, and its checks."""

import array
import dataclasses
import math
from pathlib import Path

import numpy as np

from launch.data.bad_file import BadFile

# A point may lie outside of its image by this part of the longer side, or by NEAR pixels:
# tools that cut or turn images leave such points.
FAR, NEAR = 0.1, 3
MOST = 1 << 31  # pixels of a side
SAME_SIZE = "Export the annotations and the images at the same size."


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One object of an image.

    Attributes:
      kind: "polygons" or "rle" of COCO; "polygon", "box", "circle", or "runs" of CVAT.
      id: of its class; launch.data.classes.IGNORED where nothing is known.
      place: where the file says it, such as "annotation 17".
      data: "polygons": the points of each; "rle": (counts, height, width); "polygon",
        "box", "circle": (points,); "runs": (counts, left, top, width, height). Points are
        float64 x, y, x, y, ... in pixels, as bytes, which are small and hashable.
    """

    kind: str
    id: int
    place: str
    data: tuple


@dataclasses.dataclass(frozen=True)
class Outlined:
    """One image and the objects that are outlined in it.

    Attributes:
      image: the absolute path of the image, which exists.
      source: the annotation file.
      split: "train", "val" or "test"; "" where no name says one.
      shapes: in drawing order: later ones lie on top.
      size: (height, width) according to the annotation file; None where it says none.
    """

    image: Path
    source: Path
    split: str
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All annotation files of one kind in a folder.

    Attributes:
      title: the kind and its files, for people.
      names: of the classes, in the order of their ids; the first is "background".
      images: the images that the files describe.
      problems: what is wrong in the files; such images and shapes are left out.
    """

    title: str
    names: tuple[str, ...]
    images: tuple[Outlined, ...]
    problems: list[BadFile]


def number(labels) -> tuple[tuple[str, ...], dict[str, int]]:
    """Gives every label an id.

    Args:
      labels: names in their order; one named background (in any case, also
        `_background_`) is id 0.

    Returns:
      The names in the order of ids, and {label: id}.
    """
    background = {label for label in labels if label.strip(" _").lower() == "background"}
    others = [label for label in labels if label not in background]
    ids = {label: place for place, label in enumerate(others, 1)} | dict.fromkeys(background, 0)
    return ("background", *others), ids


def is_name(value) -> bool:
    """Whether a value of a file can be the name of a class: text that can be printed."""
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def pack(values, least: int, size, path, place: str, noun: str = "polygon") -> bytes:
    """Checks the points of a shape and packs them.

    Args:
      values: x, y, x, y, ... in pixels, as the file gives them.
      least: the least number of points.
      size: (height, width) of the image; None where it is not known.
      path: the annotation file, for the message.
      place: where in the file, for the message.
      noun: what the shape is called.

    Returns:
      The points as Shape holds them.

    Raises:
      BadFile: too few points, something that is not a number, or far outside.
    """
    fix = f"Draw it again or remove it; a {noun} needs {_points(least)}, each an x and a y."
    if not isinstance(values, list) or set(map(type, values)) - {int, float}:
        raise BadFile(path, f"a {noun} whose points are not numbers", fix, place)
    if len(values) % 2:
        raise BadFile(path, f"a {noun} of {len(values)} numbers, an x without y", fix, place)
    if len(values) < 2 * least:
        raise BadFile(path, f"a {noun} of {_points(len(values) // 2)}", fix, place)
    try:
        points = array.array("d", values)
        finite = math.isfinite(sum(points))
    except OverflowError:
        finite = False
    if not finite:
        raise BadFile(path, f"a {noun} with a point that is not finite", fix, place)
    if max(map(abs, points)) >= MOST:
        raise BadFile(path, f"a {noun} with a point beyond {MOST:,} pixels", fix, place)
    if size:
        check_inside(points, size, path, place, noun)
    return points.tobytes()


def pixels(width, height, path, place: str) -> tuple[int, int] | None:
    """Reads the size of an image as an annotation file gives it.

    Args:
      width: in pixels; None where the file says none.
      height: likewise.
      path: the annotation file, for the message.
      place: where in the file, for the message.

    Returns:
      (height, width); None where the file says none.

    Raises:
      BadFile: it is not two positive whole numbers.
    """
    if width is None and height is None:
        return None
    for side in (width, height):
        if type(side) not in (int, float) or not 1 <= side < MOST or side != int(side):
            problem = f"an image of width {width!r} and height {height!r}"
            raise BadFile(path, problem, "Write both as whole pixels.", place)
    return int(height), int(width)


def enclosed(points: bytes) -> float:
    """Computes the area that a polygon encloses (the shoelace formula).

    Args:
      points: as Shape holds them.

    Returns:
      The area in pixels.
    """
    x, y = np.reshape(np.frombuffer(points), (-1, 2)).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def check_fractions(images) -> list[BadFile]:
    """Finds out whether all points are fractions of an image, from 0 to 1, and not pixels.

    Args:
      images: of type Outlined, of one kind of file.

    Returns:
      One problem or none.
    """
    whole = True
    for image in images:
        for shape in image.shapes:
            for points in shape.data if shape.kind not in ("rle", "runs") else ():
                values = np.frombuffer(points)
                if values.min() < 0 or values.max() > 1:
                    return []
                whole &= bool((values == np.round(values)).all())
    if whole:
        return []
    problem = "all points lie between 0 and 1, as fractions of an image do"
    return [BadFile(images[0].source, problem, "Multiply x by the width and y by the height.")]


def check_inside(points, size: tuple[int, int], path, place: str, noun: str):
    """Refuses points far outside of an image.

    Args:
      points: numbers x, y, x, y, ... in pixels.
      size: (height, width) of the image.
      path: the annotation file, for the message.
      place: where in the file, for the message.
      noun: what the shape is called.

    Raises:
      BadFile: a point lies further outside than FAR and NEAR allow.
    """
    margin = max(NEAR, FAR * max(size))
    for axis, values, side in (("x", points[::2], size[1]), ("y", points[1::2], size[0])):
        least, most = min(values), max(values)
        if least < -margin or most > side + margin:
            value = least if least < -margin else most
            problem = (
                f"a {noun} with a point at {axis} {value:g}, far outside of its image, "
                f"which has {size[1]} x {size[0]} pixels"
            )
            raise BadFile(path, problem, SAME_SIZE, place)


def _points(count):
    return "1 point" if count == 1 else f"{count} points"
