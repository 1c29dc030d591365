"""Folders on this machine and in buckets, locks, and checksums."""

from launch.storage.paths import cache_dir, is_bucket, make, move, path, remove

__all__ = ["cache_dir", "is_bucket", "make", "move", "path", "remove"]
