"""Finds the files that a user names on the command line."""

import glob
from collections import defaultdict
from pathlib import Path

from launch.config.errors import UserError
from launch.data import image_formats
from launch.data.folders import endings


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
    if Path(pattern).is_file():
        paths = [Path(pattern)]
    elif Path(pattern).is_dir():
        paths = [
            path
            for path in sorted(Path(pattern).iterdir())
            if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith(".")
        ]
    else:
        paths = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]
    if not paths:
        raise UserError(f"{flag}={pattern}: no such file (known: {', '.join(suffixes)})")
    return paths


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
    stems = {}
    for path in paths:
        if path.stem in stems:
            raise UserError(
                f"--images: {stems[path.stem]} and {path} would share one name in --out"
            )
        stems[path.stem] = path
    return paths


def partners(paths: list[Path], folder: Path | None) -> list[Path | None]:
    """Finds the mask or depth map of each image.

    Names are compared as in `launch.data.folders.pairs`: without suffix and letter case. Where no
    name matches, an ending such as `_mask` is dropped.

    Args:
      paths: the images.
      folder: the folder of masks or depth maps; None where there is none.

    Returns:
      A file for each image; None for each where there is no folder.

    Raises:
      UserError: an image has no partner, or more than one.
    """
    if folder is None:
        return [None] * len(paths)
    if not folder.is_dir():
        raise UserError(f"no such directory: {folder}")
    exact, shortened = defaultdict(list), defaultdict(list)
    for file in sorted(folder.iterdir()):
        known = file.suffix.lower() in (*image_formats.SUFFIXES, ".npy")
        if known and not file.name.startswith("."):
            exact[file.stem.casefold()].append(file)
            shortened[endings.without(file.stem.casefold())].append(file)
    chosen = []
    for path in paths:
        key = path.stem.casefold()
        files = exact.get(key) or shortened.get(key, ())
        if len(files) != 1:
            number = f"{len(files)} files" if files else "no file"
            raise UserError(f"{path}: {number} of the stem {path.stem!r} in {folder}")
        chosen += files
    return chosen
