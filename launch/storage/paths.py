"""Paths: a workdir or a data set lies in a folder of this machine or in a bucket, `gs://...`.

`launch.storage.bucket` does the work for buckets. It is imported only when a path names one.
"""

import os
import re
import shutil
import stat
from pathlib import Path

from launch.config.errors import UserError

# Bytes of a workdir's path: Linux allows 4,096, of which files of checkpoints take up to 250.
LONGEST = 3800


def path(value: str) -> Path:
    """Parses a path.

    Args:
      value: a local path, absolute or relative, or `gs://BUCKET/...`.

    Returns:
      An absolute `pathlib.Path`; for a bucket an `etils.epath.Path`, which has the same methods.

    Raises:
      UserError: the scheme is not `gs://`, gcsfs is not installed, or no checkpoint can be saved
        under such a name.
    """
    if not re.match(r"\w+://", value):
        local = Path(value).expanduser().absolute()
        _check_name(local)
        return local
    from launch.storage import bucket

    return bucket.path(value)


def _check_name(folder):
    """Refuses the names that Orbax or TensorStore cannot open."""
    try:
        length = len(str(folder).encode())
    except UnicodeEncodeError:
        raise UserError(f"{str(folder)!r} is not in UTF-8; take a name that is")
    if length > LONGEST:
        raise UserError(f"the path {folder} has {length} bytes; take one of at most {LONGEST}")
    for part in folder.parts:
        if part.endswith(":") or ("\\" in part and os.sep == "/"):
            raise UserError(
                f"{folder}: no checkpoint can be saved below a folder named {part!r}; take a name "
                "without a backslash, and without a colon at its end"
            )


def is_regular(file: Path) -> bool:
    """Whether a path is a file of its own: no folder, symbolic link, pipe or device.

    Only such a file may be opened in a folder that another person made: a link may lead
    anywhere, and opening a pipe may wait forever.
    """
    try:
        return is_bucket(file) or stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False


def check_regular(folder: Path) -> None:
    """Refuses a folder in which anything is neither a folder nor a regular file.

    Args:
      folder: a run's folder; it need not exist.

    Raises:
      UserError: names the first such file.
    """
    if is_bucket(folder):
        return
    for place, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            entry = Path(place, name)
            if entry.is_symlink():
                raise UserError(
                    f"{entry} is a symbolic link, and links in a run's folder are not followed; "
                    "put the files themselves there, or remove the link"
                )
            if name in files and entry.exists() and not is_regular(entry):
                raise UserError(
                    f"{entry} is not a regular file, and is not opened in a run's folder; remove it"
                )


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
