"""labelme: a JSON file beside each image, with the points that a person clicked.

https://github.com/wkentaro/labelme
"""

import os
from pathlib import Path

from launch.data.bad_file import BadFile
from launch.data.classes import IGNORED
from launch.data.image_formats import SUFFIXES
from launch.data.outlines import files
from launch.data.outlines.shapes import (
    Annotations,
    Outlined,
    Shape,
    check_fractions,
    is_name,
    number,
    pack,
    pixels,
)

VOID = "__ignore__"  # labelme's own label of pixels whose class is not known
DEPTH = 2  # folders in folders below the root, such as images/train
# {shape_type: (kind of Shape, least points, most points)}
KINDS = {"polygon": ("polygon", 3, None), "rectangle": ("box", 2, 4), "circle": ("circle", 2, 2)}


def find(root: Path) -> Annotations | None:
    """Reads the labelme files of a folder and of the folders in it.

    Args:
      root: the folder.

    Returns:
      What they say; None where there is none. The label `__ignore__` is void.
    """
    found, problems = [], []
    for folder, names in _folders(root, DEPTH):
        _read_folder(folder, names, found, problems)
    sources = sorted({source for source, _, _ in found})
    if not sources:
        return None
    read = [
        (source, image, *_read(source, image, document, problems))
        for source, image, document in found
        if document is not None
    ]
    labels = {label for *_, shapes in read for label, *_ in shapes} - {VOID}
    names, ids = number(sorted(labels))
    ids[VOID] = IGNORED
    images = tuple(
        Outlined(
            image,
            source,
            files.split_of(source.parent.relative_to(root).as_posix()),
            tuple(Shape(kind, ids[label], place, data) for label, kind, place, data in shapes),
            size,
        )
        for source, image, size, shapes in read
    )
    problems += check_fractions(images)
    return Annotations(files.title("labelme", sources, root), names, images, problems)


def _folders(folder, depth):
    """(folder, names of its files) of a folder and of the folders in it, sorted by name."""
    names, inner = files.listing(folder)
    yield folder, names
    for name in inner if depth else ():
        if not name.startswith("."):
            yield from _folders(folder / name, depth - 1)


def _read_folder(folder, names, found, problems):
    """Adds (file, image, content) to `found`; content is None where it cannot be read."""
    images, sources = {}, {}
    for name in names:
        stem, end = os.path.splitext(name)
        if end.lower() in SUFFIXES:
            images.setdefault(stem, []).append(folder / name)
        elif end.lower() == ".json":
            sources[stem] = folder / name
    before, without = len(found), []
    for stem, same in images.items():
        document = None
        try:
            document = stem in sources and _load(sources[stem])
            if document:
                found.append((sources[stem], _image(sources[stem], document, same), document))
            else:
                without += same
        except BadFile as bad:
            problems.append(bad)
            found.append((sources[stem], same[0], None))
    for image in without if len(found) > before else ():
        problem = "has no annotation"
        if image.stem in sources:
            problem = f"has no annotation: {image.stem}.json is no labelme file"
        fix = "Annotate it (save it without shapes where it shows none), or move it away."
        problems.append(BadFile(image, problem, fix))


def _load(source):
    """The content of a file, None if it is not labelme's."""
    content = files.read(source)
    if not files.mentions(content, "shapes"):
        return None
    document = files.parse(source, content)
    if not isinstance(document, dict) or "shapes" not in document:
        return None
    shapes = document["shapes"] if isinstance(document["shapes"], list) else [None]
    drawn = all(isinstance(shape, dict) and "points" in shape for shape in shapes)
    return document if drawn or "imagePath" in document else None


def _image(source, document, same):
    """The image of a file, one of those with its stem."""
    said = document.get("imagePath")
    if not isinstance(said, str):
        if len(same) == 1:
            return same[0]
        said = ""
    name = said.replace("\\", "/").rpartition("/")[2]
    matching = [image for image in same if name in (image.name, "")]
    matching = matching or [image for image in same if Path(name).stem == image.stem]
    if len(matching) == 1:
        return matching[0]
    beside = " and ".join(image.name for image in same)
    problem = f"belongs to {name or 'no image'} (imagePath), but lies beside {beside}"
    raise BadFile(source, problem, "Give it the name of its image, and each image one of its own.")


def _read(source, image, document, problems):
    """The size that a file gives its image, and (label, kind, place, data) of its shapes."""
    size, shapes = None, []
    try:
        height, width = document.get("imageHeight"), document.get("imageWidth")
        size = pixels(width, height, source, "imageWidth, imageHeight")
        if not isinstance(document["shapes"], list):
            raise BadFile(source, "shapes is no list", "Save it again in labelme.")
    except BadFile as bad:
        problems.append(bad)
        return size, shapes
    for index, entry in enumerate(document["shapes"], 1):
        try:
            shapes.append(_shape(source, size, entry, f"shape {index}"))
        except BadFile as bad:
            problems.append(bad)
    return size, shapes


def _shape(source, size, entry, place):
    if not isinstance(entry, dict):
        raise BadFile(source, f"{entry!r:.40} in place of a shape", "Save it again.", place)
    label, kind = entry.get("label"), entry.get("shape_type", "polygon")
    if not is_name(label):
        raise BadFile(source, f"has the label {label!r:.40}", "Give it the name of a class.", place)
    if not isinstance(kind, str) or kind not in KINDS:
        problem = f"{label!r} is of type {kind}; only polygon, rectangle and circle are read"
        fix = "Draw it as one of these, or remove it."
        raise BadFile(source, problem, fix, place)
    points = entry.get("points")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        fix = "Draw it again or remove it."
        raise BadFile(source, f"a {kind} whose points are not pairs of numbers", fix, place)
    own, least, most = KINDS[kind]
    if most and len(points) > most:
        raise BadFile(source, f"a {kind} of {len(points)} points", "Draw it again.", place)
    flat = [value for point in points for value in point]
    return label, own, place, (pack(flat, least, size, source, place, kind),)
