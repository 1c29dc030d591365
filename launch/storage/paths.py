"""Paths: a workdir or a data set lies in a folder of this machine or in a bucket, `gs://...`.

`launch.storage.bucket` does the work for buckets. It is imported only when a path names one.
"""

import os
import re
import shutil
from pathlib import Path


def path(value: str) -> Path:
    """Parses a path.

    Args:
      value: a local path, absolute or relative, or `gs://BUCKET/...`.

    Returns:
      An absolute `pathlib.Path`; for a bucket an `etils.epath.Path`, which has the same methods.

    Raises:
      UserError: the scheme is not `gs://`, or gcsfs is not installed.
    """
    if not re.match(r"\w+://", value):
        return Path(value).expanduser().absolute()
    from launch.storage import bucket

    return bucket.path(value)


def is_bucket(folder: Path) -> bool:
    """Whether a path lies in a bucket."""
    return str(folder).startswith("gs://")


def make(folder: Path) -> None:
    """Makes a folder. In a bucket, folders need no making: checks that the bucket exists.

    Raises:
      UserError: the bucket does not exist or cannot be reached.
    """
    if is_bucket(folder):
        from launch.storage import bucket

        bucket.check_exists(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)


def move(source: Path, target: Path) -> None:
    """Moves a folder, within this machine or within a bucket."""
    if is_bucket(source):
        from launch.storage import bucket

        bucket.move(source, target)
    else:
        target.parent.mkdir(exist_ok=True)
        shutil.move(source, target)


def remove(folder: Path) -> None:
    """Removes a folder and everything in it."""
    folder.rmtree() if is_bucket(folder) else shutil.rmtree(folder)


def cache_dir() -> Path:
    """The folder for files that can be made again: $XDG_CACHE_HOME/segen."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "segen"
