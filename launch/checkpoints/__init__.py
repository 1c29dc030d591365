"""Checkpoints: `writer` saves them, `reader` lists and checks them, `restoring` loads states."""

from launch.checkpoints.reader import (
    check_whole,
    goodness,
    metrics,
    newest_whole,
    record,
    steps,
    unfinished,
)

__all__ = [
    "check_whole",
    "goodness",
    "metrics",
    "newest_whole",
    "record",
    "steps",
    "unfinished",
]
