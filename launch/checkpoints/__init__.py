"""Checkpoints: read by every command, written by training."""

from launch.checkpoints.reader import (
    UNFINISHED,
    check_whole,
    goodness,
    metrics,
    newest_whole,
    record,
    restore,
    restore_params,
    steps,
    unfinished,
)

__all__ = [
    "UNFINISHED",
    "check_whole",
    "goodness",
    "metrics",
    "newest_whole",
    "record",
    "restore",
    "restore_params",
    "steps",
    "unfinished",
]
