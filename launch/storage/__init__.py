"""Folders of this machine and of buckets, locks, and checksums."""

from launch.storage.paths import (
    bucket,
    contents,
    fetch,
    make,
    move,
    path,
    reaching,
    remote,
    remove,
    trouble,
)

__all__ = [
    "bucket",
    "contents",
    "fetch",
    "make",
    "move",
    "path",
    "reaching",
    "remote",
    "remove",
    "trouble",
]
