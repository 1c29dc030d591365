"""Folders of this machine and of buckets, locks, and checksums."""

from launch.storage.paths import (
    bucket,
    bucket_errors,
    contents,
    describe_bucket_error,
    fetch,
    is_bucket,
    make,
    move,
    path,
    remove,
)

__all__ = [
    "bucket",
    "bucket_errors",
    "contents",
    "describe_bucket_error",
    "fetch",
    "is_bucket",
    "make",
    "move",
    "path",
    "remove",
]
