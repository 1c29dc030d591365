"""Which files a person means."""

import glob
from collections import defaultdict
from pathlib import Path

from launch.config.errors import UserError
from launch.data import images, pairs


def listed(pattern: str, suffixes: tuple[str, ...], flag: str) -> list[Path]:
    """The files that a path, a folder or a glob pattern stands for, in order.

    Args:
      pattern: "a.jpg", "photos", or "photos/*.jpg" ("**" for any depth).
      suffixes: of the files that are taken from a folder.
      flag: where the pattern comes from, for the message.

    Raises:
      UserError: there is none.
    """
    if Path(pattern).is_file():
        found = [Path(pattern)]
    elif Path(pattern).is_dir():
        found = [
            path
            for path in sorted(Path(pattern).iterdir())
            if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith(".")
        ]
    else:
        found = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]
    if not found:
        raise UserError(f"{flag}={pattern}: no such file (known: {', '.join(suffixes)})")
    return found


def find(pattern: str, suffixes: tuple[str, ...] = images.SUFFIXES) -> list[Path]:
    """Like `listed`, for --images whose results are written under the files' stems.

    Raises:
      UserError: there is none, or two share a stem.
    """
    found = listed(pattern, suffixes, "--images")
    stems = {}
    for path in found:
        if path.stem in stems:
            raise UserError(
                f"--images: {stems[path.stem]} and {path} would share one name in --out"
            )
        stems[path.stem] = path
    return found


def partners(paths: list[Path], folder: Path | None) -> list[Path | None]:
    """The file in `folder` that belongs to each path; None where there is no folder.

    Names are compared as `launch.data.pairs` does: without suffix and letter case, and
    without an ending such as `_mask` where no name is the same with it.

    Raises:
      UserError: there is none for a path, or more than one.
    """
    if folder is None:
        return [None] * len(paths)
    if not folder.is_dir():
        raise UserError(f"no such directory: {folder}")
    whole, plain = defaultdict(list), defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in (*images.SUFFIXES, ".npy") and not file.name.startswith("."):
            whole[file.stem.casefold()].append(file)
            plain[pairs.without_ending(file.stem.casefold())].append(file)
    chosen = []
    for path in paths:
        key = path.stem.casefold()
        found = whole.get(key) or plain.get(key, ())
        if len(found) != 1:
            what = f"{len(found)} files" if found else "no file"
            raise UserError(f"{path}: {what} of the stem {path.stem!r} in {folder}")
        chosen += found
    return chosen
