"""Applies `--config.KEY=VALUE` to a config, and says what changes beside the keys given."""

import ast
import logging
from typing import Any

from ml_collections import ConfigDict, FieldReference

from launch.config import by_name
from launch.config.errors import UserError
from launch.config.schema import ENGINE_KEYS, OPEN, flatten, is_in, unknown_key, with_text_keys

logger = logging.getLogger("segen")

WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
KINDS = {int: "an integer", float: "a number"}
NUMBERS = {"none": None, "inf": float("inf"), "nan": float("nan")}  # which are no literals


def apply(tree: ConfigDict, items: dict[str, str]) -> None:
    """Sets keys of an unlocked config.

    A key among the arguments of an object may be new, if the object takes it. Another `name`
    of an object leaves the arguments of the old one out. A key that others follow (`get_ref`)
    changes these too, unless they are given as well; one that follows a key of the engine,
    and is given, follows no longer.

    Args:
      tree: a complete config, which is changed.
      items: {dotted key: text of the value}.

    Raises:
      UserError: an unknown key, or a value of another type.
    """
    before, references = flatten(tree.to_dict()), dict(_references(tree))
    leading = _leading_keys(references)
    is_name = lambda key: key.rpartition(".")[2] == "name"
    # An object comes before its arguments, and its name before the others of them.
    for key in sorted(items, key=lambda key: (key.count("."), not is_name(key))):
        parent, last = _parent(tree, key)
        old = parent.get(last)
        value = _read(key, items[key], old, last in parent)
        if last == "name" and old and value != old:
            _leave_out(parent, key, value)
        elif isinstance(old, ConfigDict) and old.get("name") and not isinstance(value, dict):
            logger.info(f"config.{key}={value!r} replaces {old.name}")
        if key in leading:
            logger.info(f"config.{key}={value!r} no longer follows config.{leading[key]}")
        if last in parent and (key in leading or type(old) is not type(value)):
            del parent[last]
        parent[last] = with_text_keys(ConfigDict(value)) if isinstance(value, dict) else value
    after = flatten(tree.to_dict())
    follows = [
        f"config.{key} ({value!r} -> {after[key]!r})"
        for key, value in before.items()
        if key in after and after[key] != value and not is_in(key, items)
    ]
    if follows:
        led = [f"config.{key}" for key in items if key in references and key not in leading]
        logger.info(f"{', '.join(led)} is followed by {', '.join(follows)}")


def _leading_keys(references):
    """{key of an open section: the key of the engine that it follows}, where both are equal."""
    engine = {id(ref): key for key, ref in references.items() if not is_in(key, OPEN)}
    followers = (key for key, ref in references.items() if is_in(key, OPEN) and id(ref) in engine)
    return {key: engine[id(references[key])] for key in followers}


def _references(tree, prefix=""):
    for key, value in tree.items(preserve_field_references=True):
        if isinstance(value, FieldReference):
            yield f"{prefix}{key}", value
        elif isinstance(value, ConfigDict):
            yield from _references(value, f"{prefix}{key}.")


def _parent(tree, key):
    """The mapping that holds a key, and the last part of the key."""
    data, (*parts, last) = tree.data.name, key.split(".")
    for depth, part in enumerate(parts, 1):
        path, child = ".".join(parts[:depth]), tree.get(part)
        if isinstance(child, list | tuple):
            raise UserError(
                f"--config.{key}: config.{path} is a list; give all of it, "
                f"--config.{path}={str(child)!r}, or () for none"
            )
        if not isinstance(child, ConfigDict):
            names_object = parts[depth:] == [] and last == "name" and is_in(path, OPEN)
            if not (names_object and (part in tree or _takes(data, tree, path))):
                raise _unknown(data, tree, key)
            if part in tree:
                del tree[part]
            tree[part] = ConfigDict()
        tree = tree[part]
    if last not in tree and not _takes(data, tree, key):
        raise _unknown(data, tree, key)
    return tree, last


def _owner(data, tree, section):
    """The name of the object whose arguments are in `tree`; "" for none. `data`: data.name."""
    owner = data if section == "data.kwargs" else tree.get("name", "")
    return owner if isinstance(owner, str) and by_name.is_name(owner) else ""


def _takes(data, tree, key):
    """Whether a key that is not there is an argument of the object with the arguments `tree`."""
    section, _, name = key.rpartition(".")
    if not is_in(section, OPEN):
        return False
    if name == "name":
        return not tree
    if section.startswith("optimizer") and name in ENGINE_KEYS:
        return True
    owner = _owner(data, tree, section)
    return bool(owner) and by_name.accepts(owner, name, f"config.{section}.name")


def _unknown(data, tree, key):
    section = key.rpartition(".")[0]
    owner = _owner(data, tree, section) if is_in(section, OPEN) else ""
    if not owner:
        return UserError(f"--config.{key}: unknown key {unknown_key(key)}")
    taken = ", ".join(by_name.arguments(owner, f"config.{section}.name"))
    return UserError(f"--config.{key}: {owner} takes no such argument (it takes {taken})")


def _leave_out(tree, key, name):
    """Leaves out the arguments of an object that another one replaces."""
    section = key.rpartition(".")[0]
    if section != "data" and not is_in(section, OPEN):
        return
    own, prefix = (tree.kwargs, "data.kwargs") if section == "data" else (tree, section)
    kept = ("name", *ENGINE_KEYS) if section.startswith("optimizer") else ("name",)
    left_out = [argument for argument in own if own is not tree or argument not in kept]
    for argument in left_out:
        del own[argument]
    if left_out:
        arguments = ", ".join(f"config.{prefix}.{argument}" for argument in left_out)
        logger.info(f"config.{key}={name} replaces {tree.name}; left out: {arguments}")


def _read(key: str, text: str, old: Any, known: bool) -> Any:
    """The value that a text gives in place of the old one, of which it takes the type."""
    argument = is_in(key, OPEN)  # of an object, which checks it
    if isinstance(old, str) or key.rpartition(".")[2] == "name":
        return text
    value = _literal(text)
    if isinstance(old, bool):
        value = WORDS.get(text.lower())
        fits, kind = value is not None, "true or false"
    elif isinstance(old, list | tuple):
        fits, kind = isinstance(value, list | tuple | None), "a list, or () for none"
        value = type(old)(value or ()) if fits else value
    elif key in OPEN:
        fits, kind = isinstance(value, dict | None), "a mapping, or {} for none"
        value = value or {}
    elif argument:
        fits = not known or old is None or not isinstance(value, str)
        kind = f"a number or a mapping (another object: --config.{key}.name=package.module:object)"
    elif isinstance(old, ConfigDict):
        fits, kind = False, f"given by its keys, as --config.{key}.{next(iter(old), 'KEY')}"
    else:
        numbers = isinstance(old, float) and type(value) in (int, float)
        fits, kind = numbers or type(value) is type(old), KINDS[type(old)]
    if not fits:
        raise UserError(f"--config.{key}={text}: it must be {kind}")
    return float(value) if isinstance(old, float) and type(value) is int else value


def _literal(text):
    """A Python literal, None, or the text itself."""
    if text.lower() in NUMBERS:
        return NUMBERS[text.lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
