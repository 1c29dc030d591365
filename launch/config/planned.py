"""Values of a config that a plan fills in: None in arguments, 0 for numbers of the engine."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from launch.config import by_name
from launch.config.errors import UserError
from launch.config.schema import OPEN, POSITIVE, check_values, flatten, is_in, with_values

# A plan that sets the second key may set the first, which has no value that waits.
FOLLOWERS = {"data.resident": "train.steps_per_dispatch"}


def unset(config: ConfigDict) -> list[str]:
    """The keys that wait for the plan.

    Args:
      config: a complete config.

    Returns:
      Dotted keys; none of a config without a plan.
    """
    if not config.plan:
        return []
    flat = flatten(config.to_dict())
    waiting = [key for key, value in flat.items() if _waits(key, value)]
    return waiting + [key for key, leader in FOLLOWERS.items() if leader in waiting]


def values(config: ConfigDict) -> dict[str, Any]:
    """What the plan gives for the keys that wait: {dotted key: value}, {} where none do.

    Args:
      config: a complete config.

    Raises:
      UserError: the plan fails.
    """
    return by_name.partial(config.plan, "config.plan")(config) if unset(config) else {}


def filled(config: ConfigDict, given: Mapping[str, Any]) -> ConfigDict:
    """The config with values in place of those that wait.

    Args:
      config: a complete config, which stays as it is.
      given: {dotted key: value}; of other keys than `unset` lists, nothing is taken.

    Raises:
      UserError: a key still waits, or a value cannot work.
    """
    if not (waiting := set(unset(config))):
        return config
    config = with_values(config, {key: given[key] for key in given if key in waiting})
    if left := unset(config):
        raise UserError(
            f"config.{left[0]} has no value, and config.plan ({config.plan.get('name')}) gives it "
            f"none; give --config.{left[0]}=VALUE"
        )
    check_values(config)
    return config


def _waits(key, value):
    if key in POSITIVE:
        return value == 0
    if is_in(key, OPEN) and not is_in(key, ("plan",)):
        return _has_none(value)
    return key == "data.augment" and _has_none(value)


def _has_none(value):
    if isinstance(value, Mapping):
        return any(map(_has_none, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_none, value))
    return value is None
