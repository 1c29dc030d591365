"""The imperative shell: devices, data, checkpoints, the loop, logs and commands."""

from launch.cpu import heap

heap.restart_command()
