"""Experiments as data: each file's get_config(variant) returns a ConfigDict."""
