"""Finds the files that a user names on the command line."""

import glob
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from launch.config.errors import UserError
from launch.data import image_formats
from launch.data.folders import endings

logger = logging.getLogger("segen")

SHOWN = 5  # folders that a message names


class Named(NamedTuple):
    """An image file, and the name of its results.

    Attributes:
      path: the file.
      name: its stem, behind the folders in which it lies below the folder of --images:
        "a", "monday/a".
    """

    path: Path
    name: str


def expand(pattern: str, suffixes: tuple[str, ...], flag: str) -> list[Path]:
    """Lists the files that a path, a folder or a glob pattern names.

    Args:
      pattern: "a.jpg", "photos", or "photos/*.jpg" ("**" for any depth).
      suffixes: those of files that are taken from a folder, in lower case.
      flag: the argument that holds the pattern, for the message.

    Returns:
      The files, sorted.

    Raises:
      UserError: there is no such file.
    """
    if Path(pattern).is_dir():
        paths = [path for path in sorted(Path(pattern).iterdir()) if _is_taken(path, suffixes)]
    else:
        paths = _matches(pattern)
    return _some(paths, pattern, suffixes, flag)


def find(pattern: str, suffixes: tuple[str, ...] = image_formats.SUFFIXES) -> list[Path]:
    """Lists the files of --images, whose results are named after their stems.

    Args:
      pattern: see `expand`.
      suffixes: those of files that are taken from a folder, in lower case.

    Returns:
      The files, sorted.

    Raises:
      UserError: there is no such file, or two files share a stem.
    """
    paths = expand(pattern, suffixes, "--images")
    _check_names([Named(path, path.stem) for path in paths])
    return paths


def find_named(pattern: str, leave_out: Callable[[Path], bool] = lambda path: False) -> list[Named]:
    """Lists the images of --images in folders of any depth, whose results keep the folders.

    Args:
      pattern: "a.jpg"; "photos", with the images of its folders; or "photos/*/*.jpg", where
        the folders from the first wildcard on belong to the names.
      leave_out: whether to leave out a file, such as a result of the same command.

    Returns:
      The files, sorted; where they lie in several folders, it is said.

    Raises:
      UserError: there is no such file, or two files of a folder share a stem.
    """
    suffixes, top = image_formats.SUFFIXES, Path(pattern)
    if top.is_dir():
        paths = sorted(path for path in _below(top) if _is_taken(path, suffixes))
    else:
        paths, top = _matches(pattern), _fixed(pattern)
    paths = [path for path in paths if not leave_out(path)]
    found = [
        Named(path, path.relative_to(top).with_name(path.stem).as_posix())
        for path in _some(paths, pattern, suffixes, "--images")
    ]
    _check_names(found)
    folders = Counter(path.parent for path, _ in found)
    if len(folders) > 1:
        listed = [f"{folder} ({many:,})" for folder, many in folders.items()]
        more = f" and {len(listed) - SHOWN} more folders" if len(listed) > SHOWN else ""
        logger.info(f"{len(found):,} images in {', '.join(listed[:SHOWN])}{more}")
    return found


def partners(images: list[Named], folder: Path | None) -> list[Path | None]:
    """Finds the mask or depth map of each image.

    Names are compared as in `launch.data.folders.pairs`: without suffix and letter case. Where no
    name matches, an ending such as `_mask` is dropped. A partner lies in the same folders below
    `folder` as its image below the folder of --images or, where these are not there, in
    `folder` itself.

    Args:
      images: the images.
      folder: the folder of masks or depth maps; None where there is none.

    Returns:
      A file for each image; None for each where there is no folder.

    Raises:
      UserError: an image has no partner, or more than one, or that of another image.
    """
    if folder is None:
        return [None] * len(images)
    if not folder.is_dir():
        raise UserError(f"no such directory: {folder}")
    tables, chosen = {}, {}
    for path, name in images:
        place = folder / Path(name).parent
        place = place if place.is_dir() else folder
        if place not in tables:
            tables[place] = _by_stem(place)
        exact, shortened = tables[place]
        key = path.stem.casefold()
        files = exact.get(key) or shortened.get(key, ())
        if len(files) != 1:
            number = f"{len(files)} files" if files else "no file"
            raise UserError(f"{path}: {number} of the stem {path.stem!r} in {place}")
        _check_owner(chosen, files[0], path, folder)
    return list(chosen)


def class_partners(
    images: list[Named], folder: Path | None, names: tuple[str, ...]
) -> list[tuple[Path | None, ...] | Path | None]:
    """Finds the masks of each image where every class has a mask of its own.

    A mask is named after its image, and lies in a folder named after its class, or ends in the
    class's name: `disc/a.png`, `a_disc.png` or, as results are named, `a.disc.png`. A class
    without a mask is nowhere in that image; one without any mask is said. Where no file is named
    after a class, an image has one mask with ids.

    Args:
      images: the images.
      folder: of the masks; None where there is none.
      names: of the classes.

    Returns:
      For each image a file or None for each class; or a file of ids; None where there is no
      folder.

    Raises:
      UserError: an image has no mask, two for a class, or that of another image.
    """
    if folder is None or not folder.is_dir():
        return partners(images, folder)
    tables, found = {}, []
    for path, name in images:
        inner = Path(name).parent
        if inner not in tables:
            tables[inner] = _by_class(folder, inner, names)
        found.append(tuple(table.get(path.stem.casefold(), ()) for table in tables[inner]))
    if not any(map(any, found)):
        return partners(images, folder)
    owners = {}
    for (path, _), files in zip(images, found, strict=True):
        if not any(files):
            raise UserError(f"{path}: {folder} has no mask of the stem {path.stem!r} of any class")
        for name, several in zip(names, files, strict=True):
            if len(several) > 1:
                raise UserError(f"{path}: {several[0]} and {several[1]} are both masks of {name!r}")
            for file in several:
                _check_owner(owners, file, path, folder)
    for name, masks in zip(names, zip(*found, strict=True), strict=True):
        if not any(masks):
            logger.info(
                f"--masks: no mask of class {name!r}, which counts as nowhere; one lies in "
                f"{folder / name}/ or ends in .{name}"
            )
    return [tuple(next(iter(files), None) for files in masks) for masks in found]


def _check_owner(owners, file, image, folder):
    """Notes that a file belongs to an image; refuses one that belongs to another already."""
    if file in owners:
        raise UserError(
            f"{owners[file]} and {image} would share {file}; arrange {folder} in the same folders "
            "as the images"
        )
    owners[file] = image


def _by_class(folder, inner, names):
    """For each class {stem of an image: its masks}, of the images in the folders `inner`."""
    place, tables = folder / inner, []
    folders = {path.name.casefold(): path for path in folder.iterdir() if path.is_dir()}
    beside = sorted(filter(Path.is_file, (place if place.is_dir() else folder).iterdir()))
    for name in names:
        forms = {name.casefold(), re.sub(r"[^\w-]", "_", name).casefold()}
        table = defaultdict(list)
        for form in sorted(forms & set(folders)):
            own = folders[form] / inner if (folders[form] / inner).is_dir() else folders[form]
            for file in sorted(filter(_is_mask, own.iterdir())):
                stem = file.stem.casefold()
                for key in {stem, endings.without(stem)}:
                    table[key].append(file)
        for file in filter(_is_mask, beside):
            stem = endings.without(file.stem.casefold())
            tail = max((f for f in forms if stem.endswith(f)), key=len, default="")
            if tail and stem.removesuffix(tail)[-1:] in tuple(endings.SEPARATORS):
                table[stem.removesuffix(tail)[:-1]].append(file)
        tables.append(table)
    return tables


def _is_mask(path):
    return _is_taken(path, (*image_formats.SUFFIXES, ".npy"))


def _by_stem(folder):
    """{stem: files} of a folder, and the same without endings such as `_mask`."""
    exact, shortened = defaultdict(list), defaultdict(list)
    for file in sorted(folder.iterdir()):
        if _is_mask(file):
            exact[file.stem.casefold()].append(file)
            shortened[endings.without(file.stem.casefold())].append(file)
    return exact, shortened


def _is_taken(path, suffixes):
    hidden = path.name.startswith(".")
    return path.suffix.lower() in suffixes and not hidden and path.is_file()


def _matches(pattern):
    """The files of a glob pattern, or the file of that name, sorted."""
    if Path(pattern).is_file():
        return [Path(pattern)]
    return [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]


def _fixed(pattern):
    """The folder of a file, or the folder before the first wildcard of a pattern."""
    if Path(pattern).is_file():
        return Path(pattern).parent
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _below(top) -> Iterator[Path]:
    """The files of a folder and its folders, without hidden ones; a link is followed once."""
    seen = set()
    for folder, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if name[0] != "."]
        if real not in seen:
            seen.add(real)
            yield from (Path(folder) / name for name in files)


def _some(paths, pattern, suffixes, flag):
    if not paths:
        raise UserError(f"{flag}={pattern}: no such file (known: {', '.join(suffixes)})")
    return paths


def _check_names(found):
    """Refuses two files whose results would have one name."""
    owners = {}
    for path, name in found:
        if name in owners:
            raise UserError(f"--images: {owners[name]} and {path} would share one name in --out")
        owners[name] = path
