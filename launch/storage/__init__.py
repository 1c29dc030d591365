"""Folders on this machine and in buckets, locks, and checksums."""

from launch.storage.paths import (
    cache_dir,
    check_regular,
    is_bucket,
    is_regular,
    make,
    move,
    path,
    remove,
)

__all__ = [
    "cache_dir",
    "check_regular",
    "is_bucket",
    "is_regular",
    "make",
    "move",
    "path",
    "remove",
]
