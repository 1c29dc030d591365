"""COCO: one JSON file for many images, with polygons and run-length encoded masks.

https://cocodataset.org/#format-data
"""

import dataclasses
import os
import re
from pathlib import Path

from launch.data.bad_file import BadFile
from launch.data.classes import IGNORED
from launch.data.image_formats import SUFFIXES
from launch.data.outlines import files
from launch.data.outlines.drawing import pycocotools
from launch.data.outlines.shapes import (
    Annotations,
    Outlined,
    Shape,
    check_fractions,
    enclosed,
    is_name,
    number,
    pack,
    pixels,
)

KEYS = ("images", "annotations", "categories")
_AGAIN = "Export it again as COCO."


def find(root: Path) -> Annotations | None:
    """Reads the COCO files of a folder.

    Args:
      root: the folder.

    Returns:
      What they say; None where there is none. Where a folder has several kinds of COCO
      files, those of key points are left out, because they describe persons only.
    """
    problems, documents = [], {}
    for path in _candidates(root):
        try:
            document = _load(path)
        except BadFile as bad:
            problems.append(bad)
        else:
            if document:
                documents[path] = document
    plain = {path: it for path, it in documents.items() if not _has_key_points(it)}
    documents = plain or documents
    sources = sorted([*documents, *(Path(bad.path) for bad in problems)])
    if not sources:
        return None
    categories, agreeing = {}, {}
    for path, document in documents.items():
        try:
            categories |= _categories(path, document, categories)
            agreeing[path] = document
        except BadFile as bad:
            problems.append(bad)
    names, by_name = number([categories[key] for key in sorted(categories)])
    ids = {key: by_name[name] for key, name in categories.items()}
    images = {}
    for path, document in agreeing.items():
        _File(path, root, ids, images, problems).read(document)
    outlined = tuple(images.values())
    needs = [image.source for image in outlined if image.shapes]
    try:
        if needs:
            pycocotools(needs[0])
    except BadFile as bad:
        problems.append(bad)
    problems += check_fractions(outlined)
    return Annotations(files.title("COCO", sources, root), names, outlined, problems)


def _candidates(root):
    """JSON files that may be COCO's; those beside an image of their name are labelme's."""
    for folder in files.folders(root):
        names, _ = files.listing(folder)
        stems = {stem for stem, end in map(os.path.splitext, names) if end.lower() in SUFFIXES}
        for name in names:
            stem, end = os.path.splitext(name)
            if end.lower() == ".json" and stem not in stems:
                yield folder / name


def _load(path):
    """The content of a file, None if it is not COCO's."""
    content = files.read(path)
    certain = path.name.lower().endswith(".coco.json") or path.name.startswith("instances")
    if not certain and not files.mentions(content, "images", "file_name"):
        return None
    document = files.parse(path, content)
    missing = [key for key in KEYS if not isinstance(document, dict) or key not in document]
    if missing and not certain:
        return None
    for key in KEYS:
        if key in missing or not isinstance(document[key], list):
            raise BadFile(path, f"is no COCO file: it has no list {key!r}", _AGAIN)
        for place, entry in enumerate(document[key]):
            if not isinstance(entry, dict):
                raise BadFile(
                    path, f"{entry!r:.40} in place of an object", _AGAIN, f"{key}[{place}]"
                )
    if any("segments_info" in entry for entry in document["annotations"][:1]):
        return None  # panoptic, whose masks are PNG files
    if document["annotations"] and all("caption" in it for it in document["annotations"]):
        return None
    return document


def _has_key_points(document):
    return any("keypoints" in entry for entry in document["categories"])


def _categories(path, document, known):
    """{id: name} of a file; refuses what contradicts itself or the files before it."""
    own = {}
    fix = "Give each category one id and one name, the same in all files."
    for entry in document["categories"]:
        key, name = entry.get("id"), entry.get("name")
        if type(key) is not int or not is_name(name):
            problem = f"a category of id {key!r} and name {name!r}"
            raise BadFile(path, problem, "An id is a whole number, a name is text.")
        if key in own or name in own.values():
            raise BadFile(path, f"category {key} ({name!r}) occurs twice", fix)
        own[key] = name
    for key, name in own.items():
        other = known.get(key, name)
        if other != name:
            raise BadFile(path, f"category {key} is {name!r}, but {other!r} in another file", fix)
        others = [before for before, its in known.items() if its == name and before != key]
        if others:
            problem = f"category {name!r} has id {key}, but {others[0]} in another file"
            raise BadFile(path, problem, fix)
    return own


@dataclasses.dataclass
class _File:
    """Reads one file into `images`, {path of the image: Outlined}."""

    path: Path
    root: Path
    ids: dict
    images: dict
    problems: list

    def read(self, document):
        entries = self._entries(document["images"])
        shapes = {key: [] for key in entries}
        annotations = document["annotations"]
        outlines = [it for it in annotations if it.get("segmentation")]
        if annotations and not outlines:
            problem = f"its {len(annotations)} annotations are boxes, without outlines"
            fix = "Export it with polygons (instance segmentation)."
            self.problems.append(BadFile(self.path, problem, fix))
        for index, annotation in enumerate(annotations if outlines else ()):
            try:
                key, *shape = self._shape(index, annotation, entries)
                shapes[key].append(shape)
            except BadFile as bad:
                self.problems.append(bad)
        for key, (image, size, split) in entries.items():
            if image:
                largest_first = sorted(shapes[key], key=lambda it: -it[0])
                drawn = tuple(shape for _, shape in largest_first)
                self.images[image] = Outlined(image, self.path, split, drawn, size)

    def _entries(self, images):
        """{id: (image, size, split)}; image is None where it cannot be used."""
        places, entries = files.image_folders(self.path, self.root), {}
        split = files.split_of(self.path.stem, self._inside(self.path.parent))
        taken = {image: outlined.source.name for image, outlined in self.images.items()}
        for index, entry in enumerate(images):
            key = entry.get("id")
            place = f"image {key!r}" if type(key) in (int, str) else f"images[{index}]"
            try:
                if type(key) not in (int, str):
                    raise BadFile(self.path, f"an image of id {key!r:.40}", _AGAIN, place)
                if key in entries:
                    problem = f"two images have the id {key}"
                    raise BadFile(self.path, problem, "Give each its own.", place)
                entries[key] = None, None, ""
                image, size = self._image(entry, places, place)
                if image in taken:
                    problem = f"the image {image.name!r} is already in {taken[image]}"
                    fix = "Remove it from one of the places."
                    raise BadFile(self.path, problem, fix, place)
            except BadFile as bad:
                self.problems.append(bad)
                continue
            taken[image] = "this file"
            inside = self._inside(image.parent)
            entries[key] = image, size, split or files.split_of(inside)
        return entries

    def _image(self, entry, places, place):
        """The path and the size of an image."""
        name = entry.get("file_name")
        if not isinstance(name, str):
            raise BadFile(self.path, f"an image of file_name {name!r:.40}", _AGAIN, place)
        image = files.locate(name, places, self.root)
        if not image:
            raise files.no_image(self.path, name, places, self.root, place)
        return image, pixels(entry.get("width"), entry.get("height"), self.path, place)

    def _shape(self, index, annotation, entries):
        """The image's id, the area, and the Shape of an annotation."""
        key = annotation.get("id")
        place = f"annotation {key!r}" if type(key) in (int, str) else f"annotations[{index}]"
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if type(image) not in (int, str) or image not in entries:
            fix = "Add the image, or remove the annotation."
            raise BadFile(self.path, f"is of image {image!r}, which is not in the file", fix, place)
        if type(category) is not int or category not in self.ids:
            problem = f"is of category {category!r}, which is not in the file"
            raise BadFile(self.path, problem, "Add the category, or correct the id.", place)
        kind, data = self._outline(annotation.get("segmentation"), entries[image][1], place)
        chosen = IGNORED if annotation.get("iscrowd") in (1, True) else self.ids[category]
        area = annotation.get("area")
        if type(area) not in (int, float) or not area > 0:
            area = _area(self.path, kind, data)
        return image, area, Shape(kind, chosen, place, data)

    def _outline(self, outline, size, place):
        """The kind and data of a Shape."""
        if isinstance(outline, dict):
            return "rle", _rle(self.path, outline, size, place)
        if not outline or not isinstance(outline, list):
            problem = "has no outline" if not outline else f"has the outline {outline!r:.40}"
            raise BadFile(self.path, problem, "Draw its polygon, or remove it.", place)
        return "polygons", tuple(pack(part, 3, size, self.path, place) for part in outline)

    def _inside(self, path):
        return path.relative_to(self.root).as_posix()


def _rle(path, outline, size, place):
    """(counts, height, width) of run-length encoding."""
    counts, said, fix = outline.get("counts"), outline.get("size"), "Export this object again."
    if not isinstance(said, list) or len(said) != 2 or {type(side) for side in said} != {int}:
        raise BadFile(path, f"RLE of size {said!r:.40}; it is [height, width]", fix, place)
    if size and tuple(said) != size:
        problem = f"RLE of {said[1]} x {said[0]} pixels, its image {size[1]} x {size[0]}"
        raise BadFile(path, problem, fix, place)
    if isinstance(counts, str):
        # Letters from P on say that more of a number follow: the library reads beyond a text
        # that ends with one. Numbers have 32 bits, five in each letter.
        if not re.fullmatch(r"([P-o]{0,6}[0-O])+", counts):
            raise BadFile(path, "a broken RLE text", fix, place)
        return counts, *said
    if not isinstance(counts, list) or set(map(type, counts)) - {int} or min(counts, default=0) < 0:
        raise BadFile(path, "RLE whose counts are neither numbers nor text", fix, place)
    if sum(counts) != said[0] * said[1]:
        problem = f"RLE of {sum(counts)} pixels, its image has {said[0] * said[1]}"
        raise BadFile(path, problem, fix, place)
    return tuple(counts), *said


def _area(path, kind, data):
    """About how many pixels a shape has, where the file does not say it."""
    if kind == "rle" and isinstance(data[0], str):
        rle = {"counts": data[0], "size": list(data[1:])}
        try:
            return int(pycocotools(path).area(rle))
        except (BadFile, ValueError):  # either is said elsewhere
            return 0
    if kind == "rle":
        return sum(data[0][1::2])
    return sum(map(enclosed, data))
