"""Checksums of a folder's files, which reveal a flipped bit before the content is used.

Neither .npy files nor Orbax's arrays carry a checksum of their content: without one, damage
would load silently as wrong numbers. The checksum is CRC-32C, as in disks and networks; a
bucket keeps it beside each object, so that the object need not be read.
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import google_crc32c

from launch import storage

NAME = "manifest.json"

# Orbax rewrites these files after a save is complete, and restores without them.
UNTRACKED = (NAME, "_CHECKPOINT_METADATA", "commit_success.txt")

CHUNK = 2**20


def write(folder: Path) -> None:
    """Writes the size and CRC-32C of every file below `folder` into its manifest."""
    describe, names = _reader(folder)
    files = {name: describe(name) for name in names if Path(name).name not in UNTRACKED}
    content = {"sha256": _hash_of_list(files), "files": files}
    text = json.dumps(content, indent=1, sort_keys=True)
    if storage.is_bucket(folder):
        (folder / NAME).write_text(text)
        return
    with (folder / NAME).open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def find_damage(folder: Path) -> str | None:
    """Compares a folder with its manifest.

    Returns:
      The first difference, in a few words; None if every file is as it was written.
    """
    if not storage.is_bucket(folder) and folder.is_symlink():
        return "is a symbolic link"
    try:
        with _open(folder / NAME) as stream:
            content = json.loads(stream.read())
        files = content["files"]
        if _hash_of_list(files) != content["sha256"]:
            return f"{NAME} has changed since it was written"
        sizes = {name: entry["bytes"] for name, entry in files.items()}
    except FileNotFoundError:
        return f"{NAME} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        return f"{NAME} cannot be read"
    describe, _ = _reader(folder)
    for name, expected in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            return f"{NAME} names {name}, which lies outside"
        try:
            actual = describe(name)
        except FileNotFoundError:
            return f"{name} is missing"
        except (OSError, ValueError) as error:  # ValueError: no file can have this name
            return f"{name} cannot be read ({getattr(error, 'strerror', error)})"
        if actual["bytes"] != sizes[name]:
            return f"{name} has {actual['bytes']} bytes instead of {sizes[name]}"
        if actual != expected:
            return f"the content of {name} has changed since it was written"
    return None


def size(folder: Path) -> int:
    """The sum of the sizes of all files below a folder, in bytes."""
    if storage.is_bucket(folder):
        from launch.storage import bucket

        return sum(entry["bytes"] for entry in bucket.contents(folder).values())
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a run that trains has removed it
            total += path.stat().st_size if path.is_file() else 0
    return total


def _hash_of_list(files):
    """SHA-256 of the manifest's list of files, which reveals damage to the manifest itself."""
    return hashlib.sha256(json.dumps(files, indent=1, sort_keys=True).encode()).hexdigest()


def _reader(folder) -> tuple[Callable[[str], dict], Iterable[str]]:
    """A function from a file's name to its size and checksum; and the names of all files."""
    if not storage.is_bucket(folder):
        names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return lambda name: _describe(folder / name), names
    from launch.storage import bucket

    listing = bucket.contents(folder)

    def describe(name):
        if name not in listing:
            raise FileNotFoundError(name)
        return listing[name]

    return describe, listing


def _open(path):
    """Opens a file to read its bytes; OSError if it is a folder, a link, a pipe or a device."""
    if path.exists() and not storage.is_regular(path):
        raise OSError(errno.EINVAL, "not a regular file")
    return path.open("rb")


def _describe(path):
    with _open(path) as stream:
        crc = 0
        while chunk := stream.read(CHUNK):
            crc = google_crc32c.extend(crc, chunk)
        return {"bytes": os.fstat(stream.fileno()).st_size, "crc32c": f"{crc:08x}"}
