"""The imperative shell: devices, data, checkpoints, the loop, logs and commands."""
