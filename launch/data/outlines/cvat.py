"""CVAT for images 1.1: one XML file for many images, with polygons, boxes and masks.

https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from launch.data.bad_file import BadFile
from launch.data.outlines import files
from launch.data.outlines.shapes import (
    Annotations,
    Outlined,
    Shape,
    check_fractions,
    number,
    pack,
    pixels,
)

_AGAIN = "Export it again as CVAT for images 1.1."
_NOT_DRAWN = {"tag"}  # labels of a whole image


def find(root: Path) -> Annotations | None:
    """Reads the CVAT files of a folder.

    Args:
      root: the folder.

    Returns:
      What they say; None where there is none.
    """
    trees, problems = {}, []
    inside = ((folder, name) for folder in files.folders(root) for name in files.listing(folder)[0])
    for path in (folder / name for folder, name in inside if name.lower().endswith(".xml")):
        try:
            tree = _load(path)
        except BadFile as bad:
            problems.append(bad)
            trees[path] = None
        else:
            trees.update({} if tree is None else {path: tree})
    if not trees:
        return None
    labels = _labels({path: tree for path, tree in trees.items() if tree is not None}, problems)
    names, ids = number(labels)
    images = {}
    for path, tree in trees.items():
        for entry in () if tree is None else tree.iter("image"):
            try:
                outlined = _image(path, root, entry, ids, problems)
            except BadFile as bad:
                problems.append(bad)
                continue
            first = images.setdefault(outlined.image, outlined)
            if first is not outlined:
                problem, fix = f"is already in {first.source.name}", "Remove one of the two."
                problems.append(BadFile(path, problem, fix, _place(entry)))
    outlined = tuple(images.values())
    problems += check_fractions(outlined)
    return Annotations(files.title("CVAT", [*trees], root), names, outlined, problems)


class _Builder(ElementTree.TreeBuilder):
    """Refuses a DOCTYPE: its entities can grow without limit or read other files."""

    def doctype(self, name, pubid, system):
        raise _HasDoctypeError


class _HasDoctypeError(Exception):
    pass


def _load(path):
    """The tree of a file, None if it is not CVAT's."""
    content = files.read(path)
    codes = ("utf-8", "utf-16-le", "utf-16-be")
    if not any("<annotations".encode(code) in content for code in codes):
        return None
    files.check_length(path)
    try:
        tree = ElementTree.fromstring(content, ElementTree.XMLParser(target=_Builder()))
    except _HasDoctypeError:
        problem = "has a DOCTYPE, which CVAT does not write"
        raise BadFile(path, problem, "Delete the DOCTYPE.")
    except ElementTree.ParseError as error:
        line, column = error.position
        place = f"line {line}, column {column + 1}"
        raise BadFile(path, f"is not valid XML ({error})", "Copy or export it again.", place)
    except (ValueError, LookupError, MemoryError) as error:  # an encoding that does not exist
        raise BadFile(path, f"is not valid XML ({error})", _AGAIN)
    if tree.tag != "annotations":
        return None
    if tree.find("track") is not None:
        problem = "is CVAT for video, whose tracks name no image files"
        raise BadFile(path, problem, _AGAIN)
    return tree


def _labels(trees, problems):
    """The names of classes, in the order of <labels>; where there is none, sorted."""
    known, first = [], None
    for path, tree in trees.items():
        own = [name for name in (it.findtext("name") for it in tree.iter("label")) if name]
        if first and own and set(own) != set(known):
            other = sorted(set(own) ^ set(known))[0]
            problem = f"names other labels than {first.name}, such as {other!r}"
            problems.append(BadFile(path, problem, "Give both files the same labels."))
        known += [name for name in own if name not in known]
        first = first or (path if own else None)
    if known:
        return known
    shapes = (shape for tree in trees.values() for it in tree.iter("image") for shape in it)
    return sorted({shape.get("label") for shape in shapes if shape.get("label")})


def _place(entry):
    return f"image {entry.get('name')}"


def _image(path, root, entry, ids, problems):
    """The Outlined of an <image>; problems of its shapes are added to `problems`."""
    name, subset = entry.get("name", ""), entry.get("subset", "")
    size = pixels(_number(entry, "width"), _number(entry, "height"), path, _place(entry))
    if size is None:
        raise BadFile(path, "an image without width and height", _AGAIN, _place(entry))
    places = files.image_folders(path, root, subset)
    image = files.locate(name, places, root)
    if not image:
        raise files.no_image(path, name, places, root, _place(entry))
    shapes = []
    for index, element in enumerate(entry, 1):
        place = f"{_place(entry)}, shape {index}"
        try:
            if element.tag not in _NOT_DRAWN:
                order = _whole(path, place, element, "z_order", 0)
                shapes.append((order, _shape(path, place, element, size, ids)))
        except BadFile as bad:
            problems.append(bad)
    inside = path.parent.relative_to(root).as_posix(), image.parent.relative_to(root).as_posix()
    split = files.split_of(subset, path.stem, *inside)
    upwards = tuple(shape for _, shape in sorted(shapes, key=lambda it: it[0]))
    return Outlined(image, path, split, upwards, size)


def _shape(path, place, element, size, ids):
    label, tag = element.get("label"), element.tag
    if tag not in ("polygon", "box", "mask"):
        problem = f"{label!r} is of type {tag}; only polygon, box and mask are read"
        fix = "Draw it as one of these, or remove it."
        raise BadFile(path, problem, fix, place)
    if label not in ids:
        problem = f"has the label {label!r}, which is not among <labels>"
        raise BadFile(path, problem, "Add it there, or correct it.", place)
    if tag == "mask":
        return Shape("runs", ids[label], place, _runs(path, place, element, size))
    if tag == "polygon":
        corners = re.split("[,;]", element.get("points", "").strip("; "))
        points = pack([_float(text) for text in corners], 3, size, path, place)
        return Shape("polygon", ids[label], place, (points,))
    if _number(element, "rotation") not in (None, 0):
        problem = f"{label!r} is a box that is turned"
        raise BadFile(path, problem, "Draw it as a polygon.", place)
    corners = [_number(element, key) for key in ("xtl", "ytl", "xbr", "ybr")]
    return Shape("box", ids[label], place, (pack(corners, 2, size, path, place, "box"),))


def _runs(path, place, element, size):
    """(counts, left, top, width, height): runs of pixels, row by row, first of background."""
    box = [_whole(path, place, element, key) for key in ("left", "top", "width", "height")]
    left, top, width, height = box
    if min(box) < 0 or left + width > size[1] or top + height > size[0]:
        problem = f"a mask of {width} x {height} pixels at x {left}, y {top}, outside of its image"
        raise BadFile(path, problem, _AGAIN, place)
    runs = element.get("rle", "")
    if not re.fullmatch(r"\s*\d{1,9}(\s*,\s*\d{1,9})*\s*", runs, re.ASCII):
        raise BadFile(path, f"a mask of the rle {runs!r:.40}", _AGAIN, place)
    counts = tuple(map(int, runs.split(",")))
    if sum(counts) != width * height:
        problem = f"a mask of {width} x {height} pixels whose rle has {sum(counts)}"
        raise BadFile(path, problem, _AGAIN, place)
    return counts, *box


def _whole(path, place, element, key, default=None):
    """An attribute that is a whole number."""
    value = _number(element, key)
    value = default if value is None else value
    if not isinstance(value, int | float) or value % 1 != 0:
        problem = f"has the {key} {element.get(key)!r:.40}, which is no whole number"
        raise BadFile(path, problem, _AGAIN, place)
    return int(value)


def _number(element, key):
    """An attribute as a number, as text if it is none, None if it is missing."""
    return _float(element.get(key))


def _float(text):
    try:
        return text if text is None else float(text)
    except ValueError:
        return text
