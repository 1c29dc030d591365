"""Content hashes of a folder, so that a flipped bit is found before it is used.

Neither .npy files nor Orbax's arrays carry a checksum of their content: damage
to either would load silently wrong.
"""

import hashlib
import json
import os
from pathlib import Path

NAME = "manifest.json"

# Orbax rewrites these after a save is complete, and restores without them.
UNTRACKED = (NAME, "_CHECKPOINT_METADATA", "commit_success.txt")


def write(folder: Path) -> None:
    """Writes SHA-256 and size of every file below `folder` into its manifest."""
    files = {name: _describe(folder / name) for name in _files(folder)}
    listing = json.dumps(files, indent=1, sort_keys=True)
    content = {"sha256": hashlib.sha256(listing.encode()).hexdigest(), "files": files}
    path = folder / NAME
    with path.open("w") as stream:
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())


def fault(folder: Path) -> str | None:
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
    for name, described in files.items():
        try:
            found = _describe(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if found["bytes"] != described["bytes"]:
            return f"{name} has {found['bytes']} bytes instead of {described['bytes']}"
        if found != described:
            return f"the content of {name} has changed since it was written"
    return None


def _files(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(p.relative_to(folder)) for p in paths if p.name not in UNTRACKED)


def _describe(path):
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"bytes": os.fstat(stream.fileno()).st_size, "sha256": digest}
