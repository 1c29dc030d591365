"""Objects that configs name: {"name": "package.module:attribute", **arguments}.

Nothing is registered. A user's own model, task or data set is named in the same
way as those of this project, from any module that Python can import.
"""

import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from launch.config.errors import UserError


def is_name(name: str) -> bool:
    """Whether a name is that of a Python object, "module:attribute", and not "mnist:3.0.1"."""
    return name.partition(":")[2].replace(".", "_").isidentifier()


def resolve(name: str, where: str) -> Any:
    """Imports the object "package.module:attribute".

    Args:
      name: module path, a colon, and an attribute path.
      where: the config key that holds the name, for messages.

    Raises:
      UserError: no such module or attribute, or one of Python's standard library.
    """
    module_name, _, path = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not module_name or not path:
        raise UserError(f'{where}: {name!r} is not a name of the form "package.module:attribute"')
    if _is_standard(module_name):
        raise _refusal(where, name)
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # The module itself may exist, and import one that does not.
        reason = "" if module_name.startswith(error.name or " ") else f" (it imports {error.name})"
        raise UserError(f"{where}: cannot import {module_name!r}{reason}; is it on PYTHONPATH?")
    for part in path.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{where}: {module_name!r} has no attribute {part!r}{hint}")
        found = getattr(found, part)
        origin = found.__name__ if inspect.ismodule(found) else getattr(found, "__module__", None)
        named = inspect.ismodule(found) or inspect.isclass(found) or inspect.isroutine(found)
        if named and _is_standard(origin or ""):
            raise _refusal(where, name)
    return found


def _is_standard(module):
    """Whether a module belongs to Python itself: it could run a program or delete files."""
    return module.partition(".")[0] in sys.stdlib_module_names


def _refusal(where, name):
    return UserError(
        f"{where}: {name!r} is of Python's standard library, which holds no part of a model; name "
        "a function of a package, or of your own"
    )


def instantiate(spec: Mapping, where: str, **extra: Any) -> Any:
    """Calls the object that a spec names, with the other keys and `extra` as arguments.

    Specs inside the spec are instantiated first; lists become tuples.

    Args:
      spec: a mapping with a "name".
      where: the config key that holds the spec, for messages.
      **extra: arguments that the caller supplies.

    Raises:
      UserError: no such object, an argument that it does not take or lacks, or a
        ValueError from the object itself.
    """
    target, kwargs = _resolve(spec, where, extra)
    if missing := _required(target) - kwargs.keys() - extra.keys():
        raise UserError(f"{where}: {spec['name']} needs an argument {min(missing)!r}")
    try:
        return target(**kwargs, **extra)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {spec['name']}: {error}")


def partial(spec: Mapping, where: str) -> Callable:
    """The function that a spec names, with the other keys of the spec as its arguments.

    Args:
      spec: a mapping with a "name".
      where: the config key that holds the spec, for messages.

    Raises:
      UserError: no such function, or an argument that it does not take.
    """
    target, kwargs = _resolve(spec, where, {})
    return functools.partial(target, **kwargs)


def accepts(name: str, argument: str, where: str) -> bool:
    """Whether the object called `name` takes a keyword argument.

    Args:
      name: "package.module:attribute".
      argument: the keyword.
      where: the config key that holds the name, for messages.
    """
    parameters = _parameters(resolve(name, where)).values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)


def arguments(name: str, where: str) -> list[str]:
    """The arguments that the object called `name` takes, in its order.

    Args:
      name: "package.module:attribute".
      where: the config key that holds the name, for messages.
    """
    # Flax adds `parent` and `name` to every module; they are not the user's.
    parameters = _parameters(resolve(name, where))
    return [key for key in parameters if key not in ("parent", "name", "args", "kwargs")]


def required(name: str, where: str) -> set[str]:
    """The arguments that the object called `name` needs.

    Args:
      name: "package.module:attribute".
      where: the config key that holds the name, for messages.
    """
    return _required(resolve(name, where))


def _value(value, where):
    if isinstance(value, Mapping) and "name" in value:
        return instantiate(value, where)
    if isinstance(value, Mapping):
        # In config.json, where keys are text, 100 is "100".
        number = lambda key: int(key) if str(key).isdecimal() else key
        return {number(key): _value(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_value(item, where) for item in value)
    return value


def _resolve(spec, where, extra):
    """The object of a spec, and its keyword arguments, checked against its signature."""
    spec = spec.to_dict() if isinstance(spec, ConfigDict) else spec
    if not isinstance(spec, Mapping) or not spec.get("name"):
        raise UserError(f'{where}: expected a mapping with a "name", got {spec!r}')
    target = resolve(spec["name"], f"{where}.name")
    kwargs = {key: _value(spec[key], f"{where}.{key}") for key in spec if key != "name"}
    parameters = _parameters(target)
    known = arguments(spec["name"], f"{where}.name")
    if parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in (kwargs | extra).keys() - set(known):
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(
                f"{where}.{key}: {spec['name']} takes no argument {key!r}{hint} "
                f"(it takes {', '.join(known)})"
            )
    return target, kwargs


def _parameters(target) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # some builtins have none; the call itself will tell
        return {}


def _required(target) -> set[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        key
        for key, parameter in _parameters(target).items()
        if parameter.default is parameter.empty and parameter.kind in named
    }
