"""Loads config files.

A config file holds `get_config(variant="")` and returns a ConfigDict with what
differs from `schema.defaults()`. Files are data only.
"""

import copy
import importlib.util
import inspect
import json
import traceback
from pathlib import Path

from ml_collections import ConfigDict, FrozenConfigDict

from launch.config import effects
from launch.config.errors import UserError
from launch.config.schema import (
    OPEN,
    check_values,
    defaults,
    flatten,
    unknown_key,
    with_text_keys,
    with_values,
)


def load(spec: str) -> ConfigDict:
    """Loads "path/to/file.py" or "path/to/file.py:variant", defaults filled in.

    A path that does not exist here is looked for among the installed configs, so
    `configs/vae.py` works outside a checkout too.

    Raises:
      UserError: no such file, no `get_config` in it, an unknown variant or key, or an error in
        the file: says on which line.
    """
    path_name, _, variant = spec.partition(":")
    path = Path(path_name)
    if not path.is_file():
        if path.is_dir():
            raise UserError(f"--config: {path_name} is a folder; give a .py file in it")
        installed = Path(__file__).resolve().parents[2] / path_name
        if not installed.is_file() or path.is_absolute():
            raise UserError(f"--config: no such file: {path_name}")
        path = installed
    try:
        config = _execute(path, variant)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # any code of the user's
        raise UserError(f"--config: {_place(path, error)}: {_reason(error)}")
    _check_plain(config.to_dict(), path)
    return with_defaults(config, str(path))


def _execute(path: Path, variant: str) -> ConfigDict:
    """What `get_config(variant)` of a file returns."""
    if path.suffix != ".py":
        raise UserError(f"--config: {path}: its name must end in .py")
    module_spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    function = getattr(module, "get_config", None)
    if not callable(function):
        raise UserError(f"--config: {path} has no function get_config(variant)")
    code = getattr(function, "__code__", None)
    place = f"{path}, line {code.co_firstlineno}" if code else path
    try:
        inspect.signature(function).bind(variant)
    except TypeError:
        fix = 'begin it with `def get_config(variant=""):`'
        raise UserError(f"--config: {place}: get_config takes no variant; {fix}")
    config = function(variant)
    if not isinstance(config, ConfigDict) or isinstance(config, FrozenConfigDict):
        kind = type(config).__name__
        raise UserError(f"--config: {place}: get_config returns {kind}, not a ConfigDict")
    return config


def _check_plain(keys: dict, path: Path) -> None:
    """Refuses values that config.json cannot hold."""
    for key, value in flatten(keys).items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise UserError(
                f"{path}: {key} = {value!r}: a config holds numbers, text, lists and dicts; give "
                "a function or a class by its name, as text"
            )


def _place(path: Path, error: BaseException) -> str:
    """The file and the line of an error: of the config file, or of a file with bad syntax."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or path}, line {error.lineno or 1}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    # A ValueError has words of the config's author, such as those for an unknown variant.
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


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

    Where `config.encoder.weights` is given to a net without an encoder, `config.encoder.net`
    first gives one; so the other values can be arguments of that.

    Args:
      config: a complete config, which stays as it is.
      overrides: "--config.KEY=VALUE" arguments; values take the types of the config's own.
      trained: whether the config is that of a trained run, and keys of training have no effect.

    Raises:
      UserError: an unknown key, a value of another type, one that cannot work, or one without
        effect.
    """
    standard = flatten((config if trained else defaults()).to_dict())
    pairs = (item.split("config.", 1)[1].partition("=") for item in overrides)
    items = {key: text for key, _, text in pairs}
    net = {} if trained else _net_values(config.encoder, config.model, items)
    config = with_values(config, net)
    if items:
        from launch.config import overrides as flags

        with config.unlocked():
            flags.apply(config, items)
    check_values(config)
    if trained:
        from launch.config import of_training

        of_training.check_trained(items)
    given = {key for key, text in items.items() if text}
    effects.check(flatten(config.to_dict()), standard, given)
    return config


def _net_values(encoder, model, items):
    """What `config.encoder.net` gives for the weights: {} without them, or for another net."""
    weights = items.get("encoder.weights", encoder.weights)
    function = items.get("encoder.net", encoder.net)
    chosen = {"model", "model.name", "model.encoder", "model.encoder.name"} & items.keys()
    if not weights or not function or chosen or model.get("encoder"):
        return {}
    from launch.config import by_name  # few configs have weights and no encoder

    return by_name.resolve(function, "config.encoder.net")(weights)
