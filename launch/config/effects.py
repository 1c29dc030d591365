"""Refuses keys that are given and have no effect, before anything compiles."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from launch.config.by_name import is_name
from launch.config.errors import UserError
from launch.config.schema import is_in


class Facts(NamedTuple):
    """What is known once the data is open and the task is built; None where it is not.

    Attributes:
      streams: whether the training split streams.
      decodes: whether examples are decoded, and not in memory from the start.
      predicts: whether the task has `predict`.
    """

    streams: bool | None = None
    decodes: bool | None = None
    predicts: bool | None = None


UNKNOWN = Facts()


class Rule(NamedTuple):
    """When some keys have an effect.

    Attributes:
      keys: keys, or sections.
      acts: (values, facts) -> whether they have an effect; None for not known yet.
      reason: why they have none, and what to do.
      flags_alone: whether only flags are refused: a config file may hold the keys for its other
        variants.
    """

    keys: tuple[str, ...]
    acts: Callable[[dict[str, Any], Facts], bool | None]
    reason: str
    flags_alone: bool = False


RULES = (
    Rule(
        ("encoder.weights",),
        lambda values, facts: "model.name" in values and "model.encoder.name" in values,
        "config.model has no encoder. Take configs/segment.py, which takes the one that the "
        "weights fit, or give config.model.encoder",
    ),
    Rule(
        ("init_part",),
        lambda values, facts: bool(values["init_from"]),
        "There is no config.init_from to take parameters from",
    ),
    Rule(
        ("data.path",),
        lambda values, facts: is_name(values["data.name"]),
        "config.data.name={data} reads no folder of yours. Take a config that does, as "
        "configs/unet.py:folder, or name a function of yours in config.data.name",
    ),
    Rule(
        ("data.fold",),
        lambda values, facts: is_name(values["data.name"]),
        "config.data.name={data} is a TFDS data set, whose parts are named by config.data.split "
        "and config.eval.split, as train[20%:] and train[:20%]",
    ),
    Rule(
        ("data.data_dir",),
        lambda values, facts: not is_name(values["data.name"]),
        "it is for TFDS data sets, and config.data.name={data} is a function; give the folder "
        "by config.data.path",
    ),
    Rule(
        ("data.kwargs",),
        lambda values, facts: is_name(values["data.name"]),
        "config.data.name={data} is a TFDS data set, and only functions take arguments",
    ),
    Rule(
        ("data.resident_mib",),
        lambda values, facts: values["data.resident"],
        "config.data.resident is False",
    ),
    Rule(
        ("collapse.action", "collapse.after", "collapse.times"),
        lambda values, facts: bool(values["collapse.rule"]),
        "there is no config.collapse.rule",
    ),
    Rule(
        ("collapse.times",),
        lambda values, facts: values["collapse.action"] == "rollback",
        "config.collapse.action is stop, at the first time",
    ),
    Rule(
        ("nonfinite.times",),
        lambda values, facts: values["nonfinite.action"] != "stop",
        "config.nonfinite.action is stop, at the first time",
    ),
    Rule(
        ("data.threads", "data.workers"),
        lambda values, facts: facts.streams,
        "the training split is decoded into arrays and does not stream; config.data.cache_mib=0 "
        "would have it stream",
    ),
    Rule(
        ("data.threads",),
        lambda values, facts: values["data.workers"] == 0,
        "processes read a split that streams; config.data.workers=0 would have threads read it",
    ),
    Rule(
        ("data.cache_mib", "data.damaged"),
        lambda values, facts: facts.decodes,
        "config.data.name={data} returns arrays, which are in memory already",
    ),
    Rule(
        ("predict",),
        lambda values, facts: facts.predicts,
        "config.task.name={task} has no predict()",
    ),
)


def check(
    values: dict[str, Any],
    standard: dict[str, Any],
    given: Collection[str] = (),
    facts: Facts = UNKNOWN,
) -> None:
    """Refuses keys without effect that are given by flags, or whose values are the user's.

    Args:
      values: {dotted key: value} of a whole config.
      standard: the values that are not the user's: the defaults, or those of a trained run.
      given: the keys given by flags.
      facts: what is known of the data and the task; then only the rules that ask for it apply,
        as the others were applied to the command line.

    Raises:
      UserError: names the key, its value, why it has no effect, and what to do.
    """
    rules = RULES
    if values["task.name"] in ("jaxgen.flow:flow", "jaxgen.autoencoder:autoencoder"):
        from launch.config import effects_of_flows

        rules += effects_of_flows.RULES[values["task.name"]]
    for rule in rules:
        decided = rule.acts(values, UNKNOWN) is not None
        if rule.acts(values, facts) is not False or (decided and facts != UNKNOWN):
            continue
        for key, value in values.items():
            default = standard.get(key)
            differs = value != default if default else bool(value)
            differs = differs and not rule.flags_alone
            if is_in(key, rule.keys) and (differs or key in given):
                reason = rule.reason.format(data=values["data.name"], task=values.get("task.name"))
                raise UserError(f"config.{key}={value!r} has no effect: {reason}")
