"""Loads config files.

A config file holds `get_config(variant="")` and returns a ConfigDict with what
differs from `schema.defaults()`. Files are data only.
"""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from launch.config.errors import UserError
from launch.config.schema import OPEN, defaults, unknown_key


def load(spec: str) -> ConfigDict:
    """Loads "path/to/file.py" or "path/to/file.py:variant", defaults filled in.

    A path that does not exist here is looked for among the installed configs, so
    `configs/vae.py` works outside a checkout too.

    Raises:
      UserError: no such file, no `get_config` in it, an unknown variant or key.
    """
    path_name, _, variant = spec.partition(":")
    path = Path(path_name)
    if not path.is_file():
        installed = Path(__file__).resolve().parents[2] / path_name
        if not installed.is_file() or path.is_absolute():
            raise UserError(f"--config: no such file: {path_name}")
        path = installed
    module_spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config: {path} has no function get_config(variant)")
    try:
        config = module.get_config(variant)
    except ValueError as error:
        raise UserError(f"--config: {path}: {error}")
    return complete(config, str(path))


def complete(config: ConfigDict, where: str) -> ConfigDict:
    """Adds the defaults of keys that a config leaves out; refuses unknown ones."""
    with config.unlocked():
        _fill(config, defaults(), "", where)
    return config.lock()


def _fill(config, default, prefix, where):
    for key in config:
        if key not in default:
            raise UserError(f"{where}: unknown key {unknown_key(prefix + key)}")
    for key, value in default.items():
        path = prefix + key
        if key not in config:
            config[key] = value
        elif isinstance(value, ConfigDict):
            if not isinstance(config[key], ConfigDict):
                raise UserError(f"{where}: {path} must be a mapping, got {config[key]!r}")
            if path not in OPEN:
                _fill(config[key], value, path + ".", where)
        elif not isinstance(config[key], type(value)) and not (
            isinstance(value, list) and isinstance(config[key], tuple)
        ):
            wanted = type(value).__name__
            raise UserError(f"{where}: {path} must be {wanted}, got {config[key]!r}")
