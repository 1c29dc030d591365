"""The processes of one run."""

from launch.distributed.group import ALONE, Group, add_arguments, start

__all__ = ["ALONE", "Group", "add_arguments", "start"]
