"""The processes of one command."""

from launch.distributed.group import (
    ALONE,
    DATA_SECONDS,
    WORK_SECONDS,
    Group,
    add_arguments,
    start,
)

__all__ = ["ALONE", "DATA_SECONDS", "WORK_SECONDS", "Group", "add_arguments", "start"]
