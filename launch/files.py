"""Which files a person means."""

import glob
from pathlib import Path

from launch.data import images
from launch.errors import Mistake


def find(pattern: str, suffixes: tuple[str, ...] = images.SUFFIXES) -> list[Path]:
    """The files that a path, a folder or a glob pattern stands for, in order.

    Args:
      pattern: "a.jpg", "photos", or "photos/*.jpg" ("**" for any depth).
      suffixes: of the files that are taken from a folder.

    Raises:
      Mistake: there is none, or two share a stem, under which results are written.
    """
    if Path(pattern).is_file():
        found = [Path(pattern)]
    elif Path(pattern).is_dir():
        found = [p for p in sorted(Path(pattern).iterdir()) if p.suffix.lower() in suffixes]
    else:
        found = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]
    if not found:
        raise Mistake(f"--images={pattern}: no such file (known: {', '.join(suffixes)})")
    stems = {}
    for path in found:
        if path.stem in stems:
            raise Mistake(f"--images: {stems[path.stem]} and {path} would share one name in --out")
        stems[path.stem] = path
    return found


def partner(path: Path, folder: Path | None) -> Path | None:
    """The file in `folder` of the same stem; None where there is no folder.

    Raises:
      Mistake: there is none, or more than one.
    """
    if folder is None:
        return None
    if not folder.is_dir():
        raise Mistake(f"no such directory: {folder}")
    known = (*images.SUFFIXES, ".npy")
    found = [p for p in sorted(folder.glob(f"{glob.escape(path.stem)}.*"))
             if p.stem == path.stem and p.suffix.lower() in known]  # fmt: skip
    if len(found) != 1:
        what = f"{len(found)} files" if found else "no file"
        raise Mistake(f"{path}: {what} of the stem {path.stem!r} in {folder}")
    return found[0]
