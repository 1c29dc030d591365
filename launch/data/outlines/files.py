"""Annotation files: which folders hold them, their text, and the images that they name."""

import json
import os
import re
from pathlib import Path

from launch.data.bad_file import BadFile

LARGEST = 1 << 31  # bytes of an annotation file; parsed, it takes ten times as much memory
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_SPLIT = {name: split for split, names in SPLITS.items() for name in names}


def split_of(*names: str) -> str:
    """Finds the split that names say, as a word of their own: "instances_train2017" -> "train".

    Args:
      names: of files, folders or subsets; the first that says a split counts.

    Returns:
      "train", "val", "test", or "".
    """
    words = (word for name in names for word in re.findall(r"[a-z]+", name.lower()))
    return next((_SPLIT[word] for word in words if word in _SPLIT), "")


def listing(folder: Path) -> tuple[list[str], list[str]]:
    """Lists a folder, without a call to the file system for each file.

    Args:
      folder: the folder.

    Returns:
      The names of its files and of the folders in it, each sorted.

    Raises:
      BadFile: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_file(), entry.is_dir()) for entry in entries]
    except OSError as error:
        raise BadFile(folder, f"cannot be read ({error.strerror})", "Change its permissions.")
    files = sorted(name for name, is_file, _ in kinds if is_file)
    return files, sorted(name for name, _, is_folder in kinds if is_folder)


def folders(root: Path) -> list[Path]:
    """Lists where annotation files of a whole data set lie.

    Args:
      root: the folder of the data set.

    Returns:
      root, root/annotations, and the folders of splits, as far as they exist.
    """
    _, inner = listing(root)
    names = (name for name in inner if name.lower() == "annotations" or split_of(name))
    return [root, *(root / name for name in names)]


def title(kind: str, sources, root: Path) -> str:
    """Names the files of a kind: "COCO (annotations/instances_train2017.json and 1 more)".

    Args:
      kind: of the files.
      sources: their paths.
      root: the folder of the data set.
    """
    first, *others = sources
    more = f" and {len(others)} more" if others else ""
    return f"{kind} ({first.relative_to(root).as_posix()}{more})"


def read(path: Path) -> bytes:
    """Reads an annotation file; of a file that is too large, only its beginning.

    Args:
      path: the file.

    Returns:
      Its bytes.

    Raises:
      BadFile: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(-1 if path.stat().st_size <= LARGEST else 1 << 20)
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})", "Change its permissions.")


def mentions(content: bytes, *keys: str) -> bool:
    """Whether JSON has all of these texts in quotes, also in UTF-16; parsing is far slower.

    Args:
      content: the file.
      keys: such as "images".
    """
    codes = ("utf-8", "utf-16-le", "utf-16-be")
    return any(all(f'"{key}"'.encode(code) in content for key in keys) for code in codes)


def parse(path: Path, content: bytes):
    """Parses JSON.

    Args:
      path: the file, for the message.
      content: its bytes.

    Returns:
      What it holds.

    Raises:
      BadFile: it is not complete, not valid, not UTF-8, nested too deeply or too large.
    """
    check_length(path)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadFile(path, "is not UTF-8 text", "Save it as UTF-8.", f"line {line}")
    except json.JSONDecodeError as error:
        cut = "the file ends too early" if not error.doc[error.pos :].strip() else error.msg
        problem, fix = f"is not valid JSON ({cut})", "Copy or export it again."
        raise BadFile(path, problem, fix, f"line {error.lineno}, column {error.colno}")
    except (RecursionError, MemoryError, ValueError) as error:  # also numbers of 5000 digits
        reason = {RecursionError: "nested too deeply", MemoryError: "no memory is left"}
        problem = f"cannot be parsed ({reason.get(type(error), error)})"
        raise BadFile(path, problem, "Export it again, in several smaller files.")


def check_length(path: Path):
    """Refuses a file that is too large to be parsed.

    Args:
      path: the file.

    Raises:
      BadFile: it has more than LARGEST bytes.
    """
    size = path.stat().st_size
    if size > LARGEST:
        problem = f"has {size / 2**30:.1f} GiB; at most {LARGEST / 2**30:.1f} GiB can be parsed"
        raise BadFile(path, problem, "Divide it into several files.")


def image_folders(source: Path, root: Path, subset: str = "") -> list[Path]:
    """Lists where the images of an annotation file may lie, the likeliest first.

    Args:
      source: the annotation file.
      root: the folder of the data set.
      subset: a name of the part of the data set, if the file gives one.

    Returns:
      Folders that exist.
    """
    split = split_of(subset) or split_of(source.stem, source.parent.relative_to(root).as_posix())
    parts = [subset, source.stem.rpartition("_")[2], *SPLITS.get(split, ())]
    likely = []
    for base in (source.parent, root):
        for part in filter(None, parts):
            likely += [base / part, base / part / "images", base / "images" / part]
    for base in (source.parent, root):
        likely += [base, base / "images", base / "data"]
    return [folder for folder in dict.fromkeys(likely) if folder.is_dir()]


def locate(name: str, places: list[Path], root: Path) -> Path | None:
    """Finds an image by the name that an annotation file gives it.

    Of a path from another computer, such as `C:\\data\\a.jpg`, ever shorter ends are tried.

    Args:
      name: of the image.
      places: the folders to search.
      root: the folder of the data set; images outside of it are not found.

    Returns:
      Its absolute path; None where there is no such file.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    inside = os.path.join(root, "")
    for first in range(len(parts)):
        for folder in places:
            path = os.path.normpath(os.path.join(folder, *parts[first:]))
            if path.startswith(inside) and os.path.isfile(path):
                return Path(path)
    return None


def no_image(source: Path, name: str, places: list[Path], root: Path, place: str) -> BadFile:
    """Makes the error for an image that an annotation file names and that is not there.

    Args:
      source: the annotation file.
      name: of the image.
      places: the folders that were searched.
      root: the folder of the data set.
      place: where in the file.

    Returns:
      The error, which the caller keeps.
    """
    searched = ", ".join((root.name / path.relative_to(root)).as_posix() for path in places)
    problem = f"names the image {name!r}, which does not exist (searched: {searched})"
    return BadFile(source, problem, "Copy the image there, or remove it from the file.", place)
