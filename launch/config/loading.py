"""Loads config files.

A config file holds `get_config(variant="")` and returns a ConfigDict with what
differs from `schema.defaults()`. Files are data only.
"""

import copy
import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from launch.config import effects
from launch.config.errors import UserError
from launch.config.schema import OPEN, check_values, defaults, flatten, unknown_key, with_text_keys


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
    return with_defaults(config, str(path))


def default_name(spec: str) -> str:
    """The name of a run of a config: "vae_mnist" for "configs/vae.py:mnist"."""
    path, _, variant = spec.partition(":")
    return Path(path).stem + (f"_{variant}" if variant else "")


def with_defaults(config: ConfigDict, where: str) -> ConfigDict:
    """A copy of a config with the defaults of the keys that it leaves out, locked.

    Args:
      config: keys that differ from the defaults.
      where: the file that holds the config, for messages.

    Raises:
      UserError: an unknown key, or a value of another type than its default.
    """
    whole = copy.deepcopy(config)
    with whole.unlocked():
        _fill(with_text_keys(whole), defaults(), "", where)
    return whole.lock()


def _fill(tree, default, prefix, where):
    for key in tree:
        if key not in default:
            raise UserError(f"{where}: unknown key {unknown_key(prefix + key)}")
    for key, value in default.items():
        path = prefix + key
        if key not in tree:
            tree[key] = value
        elif isinstance(value, ConfigDict):
            if not isinstance(tree[key], ConfigDict):
                raise UserError(f"{where}: {path} must be a mapping, got {tree[key]!r}")
            if path not in OPEN:
                _fill(tree[key], value, path + ".", where)
        elif not isinstance(tree[key], type(value)) and not (
            isinstance(value, list) and isinstance(tree[key], tuple)
        ):
            wanted = type(value).__name__
            raise UserError(f"{where}: {path} must be {wanted}, got {tree[key]!r}")


def override(config: ConfigDict, overrides: list[str], trained: bool = False) -> ConfigDict:
    """A copy of a config with other values; see `overrides.apply`.

    Args:
      config: a complete config, which stays as it is.
      overrides: "--config.KEY=VALUE" arguments; values take the types of the config's own.
      trained: whether the config is that of a trained run, and keys of training have no effect.

    Raises:
      UserError: an unknown key, a value of another type, one that cannot work, or one without
        effect.
    """
    standard = flatten((config if trained else defaults()).to_dict())
    config = copy.deepcopy(config)
    pairs = (item.split("config.", 1)[1].partition("=") for item in overrides)
    items = {key: text for key, _, text in pairs}
    if items:
        from launch.config import overrides as flags

        with config.unlocked():
            flags.apply(config, items)
    check_values(config)
    if trained:
        effects.check_trained(items)
    given = {key for key, text in items.items() if text}
    effects.check(flatten(config.to_dict()), standard, given)
    return config
