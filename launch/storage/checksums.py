"""Content hashes of a folder, so that a flipped bit is found before it is used.

Neither .npy files nor Orbax's arrays carry a checksum of their content: damage
to either would load silently wrong. CRC-32C is what disks, networks and buckets use
against that; a bucket keeps it beside each object, which then need not be read.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import google_crc32c

from launch import storage

NAME = "manifest.json"

# Orbax rewrites these after a save is complete, and restores without them.
UNTRACKED = (NAME, "_CHECKPOINT_METADATA", "commit_success.txt")

CHUNK = 2**20


def write(folder: Path) -> None:
    """Writes CRC-32C and size of every file below `folder` into its manifest."""
    describe, names = _reader(folder)
    files = {name: describe(name) for name in names if Path(name).name not in UNTRACKED}
    listing = json.dumps(files, indent=1, sort_keys=True)
    content = {"sha256": hashlib.sha256(listing.encode()).hexdigest(), "files": files}
    text = json.dumps(content, indent=1, sort_keys=True)
    if storage.is_bucket(folder):
        (folder / NAME).write_text(text)
        return
    with (folder / NAME).open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def find_damage(folder: Path) -> str | None:
    """What is wrong with a folder, in a few words; None if it is whole."""
    try:
        content = json.loads((folder / NAME).read_text())
        files = content["files"]
        listing = json.dumps(files, indent=1, sort_keys=True)
        if hashlib.sha256(listing.encode()).hexdigest() != content["sha256"]:
            return f"{NAME} has changed since it was written"
    except FileNotFoundError:
        return f"{NAME} is missing"
    except (ValueError, KeyError, TypeError, OSError):
        return f"{NAME} cannot be read"
    describe, _ = _reader(folder)
    for name, described in files.items():
        try:
            found = describe(name, "sha256" in described)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if found["bytes"] != described["bytes"]:
            return f"{name} has {found['bytes']} bytes instead of {described['bytes']}"
        if found != described:
            return f"the content of {name} has changed since it was written"
    return None


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    if storage.is_bucket(folder):
        return sum(facts["bytes"] for facts in storage.contents(folder).values())
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _reader(folder) -> tuple[Callable[..., dict], Iterable[str]]:
    """(name, older) -> size and hash of a file in the folder; and the names of all files."""
    if not storage.is_bucket(folder):
        names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return lambda name, older=False: _describe(folder / name, older), names
    found = storage.contents(folder)

    def describe(name, older=False):
        if name not in found:
            raise FileNotFoundError(name)
        return found[name]

    return describe, found


def _describe(path, older):
    with path.open("rb") as stream:
        facts = {"bytes": os.fstat(stream.fileno()).st_size}
        if older:  # manifests of before CRC-32C
            return facts | {"sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
        crc = 0
        while chunk := stream.read(CHUNK):
            crc = google_crc32c.extend(crc, chunk)
        return facts | {"crc32c": f"{crc:08x}"}
