"""Plans of a training: values of a config from the data and the machine.

A config names one by `config.plan = {"name": "launch.planning.segmentation:plan", ...}`.
"""
