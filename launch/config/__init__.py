"""Configs: their keys, how they are loaded, the objects they name, and the errors of commands."""
