"""Every key of a config with its default and meaning, and the rules for its values."""

import copy
import difflib
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from launch.config.errors import UserError

FLOAT32 = 3.4028234e38  # the largest number
# Sections whose keys are arguments of the objects they name, which check them.
OPEN = ("plan", "task", "model", "optimizer", "data.kwargs", "data.preprocess", "score.features")

# Numbers that must be at least 1. A 0 waits for the plan, where there is one.
POSITIVE = (
    "data.batch_size",
    "train.steps",
    "train.steps_per_dispatch",
    "train.accumulate",
    "eval.every",
    "eval.batch_size",
    "checkpoint.every",
    "checkpoint.keep",
    "log.every",
)

# Keys of an optimiser that are the engine's own: another optimiser keeps them.
ENGINE_KEYS = ("learning_rate", "clip_norm", "ema", "power_ema")

# Another value of one of these keys makes it another run. All others may change when a
# run continues: where it runs, how often it reports, and for how long. A schedule that
# refers to train.steps follows it.
IDENTITY = (
    "seed",
    "plan",
    "task",
    "model",
    "optimizer",
    "dtype",
    "init_from",
    "init_part",
    "encoder.weights",
    "data.name",
    "data.split",
    "data.fold",
    "data.batch_size",
    "data.kwargs",
    "data.preprocess",
    "data.augment",
    "train.accumulate",
)


def defaults() -> ConfigDict:
    """Every key of a configuration with its default."""
    return ConfigDict(
        {
            # Of initial parameters, order of the data, and all noise.
            "seed": 0,
            # {"name": "pkg.mod:function", **kwargs}: fills in the values that the config leaves
            # open, from the data and the machine; see launch.planning.
            "plan": {},
            # {"name": "pkg.mod:factory", **kwargs}; see jaxgen.task.Task.
            "task": {"name": ""},
            # One net {"name": ..., **kwargs}, given to the task as `model`; or
            # several, {"encoder": {...}, ...}, given by their keys.
            "model": {},
            # {"name": "optax:...", "learning_rate": number or a schedule, ...} and
            # the engine's own clip_norm (0: off), ema (decay, or several; 0: off) and
            # power_ema (widths of averages that can be mixed later, see docs/generation.md).
            "optimizer": {},
            # The dtype that nets compute in: float32 or bfloat16. Parameters stay float32.
            "dtype": "float32",
            # Workdir (or WORKDIR:STEP) whose parameters this run starts from. Those of other
            # shapes, as of another number of classes, start fresh, and each is named.
            "init_from": "",
            # The start of the names of parameters to take, such as "encoder/"; "" for all.
            "init_part": "",
            # Pretrained weights of the net's encoder: a .safetensors, .npz or .pth file, or
            # the name of a package that holds them (see launch.weights.encoders).
            # net: a function "pkg.mod:attr" that gives a config without an encoder the one that
            # the weights fit, as {dotted key: value}; see launch.planning.pretrained.
            "encoder": {"weights": "", "net": ""},
            "data": {
                # TFDS name "mnist:3.0.1", or a function "my_pkg.mod:attr".
                "name": "digits",
                # Where TFDS data lies; "" for TFDS's own default.
                "data_dir": "",
                # Where the user's own files lie; given to the user's function as `path`.
                "path": "",
                "split": "train",
                # "2/5": train and val are divided anew into five parts, and the second is val;
                # given to the user's function as `fold`. "" for the split as it is.
                "fold": "",
                "batch_size": 128,
                # Arguments of the user's own function.
                "kwargs": {},
                # {"name": ..., **kwargs}: a function example -> example on numpy arrays,
                # run when an example is decoded; see launch.data.transforms.
                "preprocess": {},
                # List of {"name": ..., **kwargs}: functions (example, rng) -> example on
                # jax arrays, run in the compiled step; see jaxgen.augmentations.geometric.
                "augment": [],
                # A split up to this size is decoded once into uint8 arrays beside
                # the data set; a larger one streams.
                "cache_mib": 2048,
                # Whether the training split lives on the device, and up to what size.
                "resident": False,
                "resident_mib": 2048,
                # Share of the records that may be damaged: they are named and left out.
                "damaged": 0.0,
                # Processes that read a split that streams; -1: one for each core, at most 16.
                "workers": -1,
                # Threads of this process that read it, where there are no workers.
                "threads": 4,
            },
            "train": {
                "steps": 1000,
                # Steps per compiled program; needs data.resident when above 1.
                "steps_per_dispatch": 1,
                # Micro-batches that each batch is cut into.
                "accumulate": 1,
                # What the backward pass computes again, for less memory and more time: nothing,
                # blocks (the inside of each block of a net), or all (the inside of layers too).
                "remat": "nothing",
            },
            # Of this section and the next two: `every` counts steps.
            "eval": {"split": "test", "every": 1000, "batch_size": 128},
            # best: a metric of the evaluation to keep the best checkpoint by, "" for
            # none; "-name" where larger is better.
            "checkpoint": {"every": 1000, "keep": 2, "best": ""},
            "log": {"every": 100},
            # A rule that evaluations must pass from step `after` on, such as
            # "class_coverage >= 0.9 and fid <= 50"; "" for none. An evaluation that breaks it
            # stops the run, or takes it back to the best checkpoint ("rollback"), at most
            # `times` times.
            "collapse": {"rule": "", "action": "stop", "after": 0, "times": 3},
            # The answer to a loss that is not finite: "stop"; "skip" the batch; or "rollback"
            # to the last checkpoint and on from there in another order of the data; at most
            # `times` times in a run. The batch is kept in the workdir.
            "nonfinite": {"action": "stop", "times": 3},
            # How samples are scored: the features (see launch.scoring.features), and how many
            # samples at every evaluation of a training (0: none; launch.evaluate has --samples).
            "score": {"features": {"name": "launch.scoring.features:classifier"}, "samples": 0},
            # Of launch.predict, for tasks that predict.
            "predict": {
                # Side of the windows that a large image is cut into, in pixels that the
                # net sees; 0 for the size of the training examples.
                "window": 0,
                # Share of a window that the next one covers again.
                "overlap": 0.5,
                # Images are enlarged by this factor for the net; 0.0: as in training.
                "scale": 0.0,
                # List of {"name": ..., **kwargs}: functions (image, probability) ->
                # probability, and functions labels -> labels, in this order.
                "refine": [],
                "postprocess": [],
            },
            # "jit" (NamedSharding over the mesh) or "pmap" (data parallel only).
            "parallel": "jit",
            # Devices along each axis; data -1 takes all that are left.
            "mesh": {"data": -1, "fsdp": 1},
        }
    )


def unknown_key(key: str) -> str:
    """An unknown key for a message, with the known key that it most resembles."""
    close = difflib.get_close_matches(key, list(flatten(defaults().to_dict())), 1)
    return f"{key!r}; did you mean {close[0]!r}?" if close else repr(key)


def check_values(config: ConfigDict) -> None:
    """Refuses values that cannot work, before anything is read or compiled.

    Raises:
      UserError: names the key, its value, and what would do.
    """
    for key, value in flatten(config.to_dict()).items():
        if not _is_finite(value):
            raise UserError(f"config.{key} must be finite, got {value} (numbers have 32 bits)")
    for key in POSITIVE:
        least = 0 if config.plan else 1
        if value_at(config, key) < least:
            raise UserError(f"config.{key} must be at least 1, got {value_at(config, key)}")
    if config.data.workers < -1:
        raise UserError(f"config.data.workers must be -1 or more, got {config.data.workers}")
    if config.score.samples < 0:
        raise UserError(f"config.score.samples must be 0 or more, got {config.score.samples}")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"config.seed must be in [0, 2^31), got {config.seed}")
    if config.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.dtype must be float32 or bfloat16, got {config.dtype!r}")
    if config.data.fold:
        from launch.config import fold  # few runs leave a part of the data out

        fold.parse(config.data.fold)
    if not 0 <= config.data.damaged < 1:
        raise UserError(f"config.data.damaged is a share in [0, 1), got {config.data.damaged}")
    if config.nonfinite.action not in ("stop", "skip", "rollback"):
        raise UserError(
            f"config.nonfinite.action must be stop, skip or rollback, "
            f"got {config.nonfinite.action!r}"
        )
    if config.collapse.action not in ("stop", "rollback"):
        raise UserError(
            f"config.collapse.action must be stop or rollback, got {config.collapse.action!r}"
        )
    if config.collapse.rule and config.collapse.action == "rollback" and not config.checkpoint.best:
        raise UserError(
            "config.collapse.action=rollback goes back to the best: give config.checkpoint.best"
        )
    if config.parallel not in ("jit", "pmap"):
        raise UserError(f"config.parallel must be jit or pmap, got {config.parallel!r}")
    if config.train.remat not in ("nothing", "blocks", "all"):
        raise UserError(
            f"config.train.remat must be nothing, blocks or all, got {config.train.remat!r}"
        )
    if any(value_at(config, key) == 0 for key in POSITIVE):
        return  # which wait for the plan; then all is checked
    if config.data.batch_size % config.train.accumulate:
        raise UserError(
            f"config.train.accumulate={config.train.accumulate} does not divide "
            f"config.data.batch_size={config.data.batch_size}"
        )
    if config.checkpoint.best and config.checkpoint.every % config.eval.every:
        raise UserError(
            f"config.checkpoint.best needs an evaluation at each save: checkpoint.every="
            f"{config.checkpoint.every} is not a multiple of eval.every={config.eval.every}"
        )
    _check_dispatch(flatten(config.to_dict()))


def _is_finite(value):
    """Whether no number in a value is NaN, or infinite as a float of 32 bits."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or abs(value) <= FLOAT32


def _check_dispatch(flat):
    steps, resident = flat["train.steps_per_dispatch"], flat["data.resident"]
    if steps > 1 and not resident:
        raise UserError("config.train.steps_per_dispatch > 1 needs config.data.resident = True")
    for key in ("train.steps", "eval.every", "checkpoint.every", "log.every"):
        if flat[key] % steps:
            raise UserError(
                f"config.{key}={flat[key]} is not a multiple of "
                f"config.train.steps_per_dispatch={steps}"
            )
    if flat["parallel"] == "pmap" and (
        resident or flat["mesh.fsdp"] != 1 or flat["train.remat"] != "nothing"
    ):
        raise UserError(
            'config.parallel="pmap" takes neither data.resident, mesh.fsdp nor train.remat; '
            'use "jit"'
        )


def with_values(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    """A copy of a config with other values.

    Args:
      config: a locked config, which stays as it is.
      values: {dotted key: value}; keys of open sections may be new.
    """
    copied = copy.deepcopy(config)  # keeps keys that follow others, as a schedule its steps
    with copied.unlocked():
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            (value_at(copied, section) if section else copied)[name] = value
    return copied


def is_in(key: str, sections: Iterable[str]) -> bool:
    """Whether a dotted key is one of some keys, or lies below one."""
    return any(key == section or key.startswith(section + ".") for section in sections)


def with_text_keys(tree: ConfigDict) -> ConfigDict:
    """The same mapping, in which numbers as keys are text, as they are in config.json."""
    items = [(str(key), value) for key, value in tree.items()]
    if any(not isinstance(key, str) for key in list(tree)):
        for key in list(tree):
            del tree[key]
        tree.update(dict(items))
    for _, value in items:
        if isinstance(value, ConfigDict):
            with_text_keys(value)
    return tree


def value_at(tree: ConfigDict, key: str) -> Any:
    """The value at a dotted key such as "train.steps"."""
    for part in key.split("."):
        tree = tree[part]
    return tree


def flatten(tree: dict, prefix: str = "") -> dict:
    """Nested dict -> {"dotted.key": leaf}; an empty dict is a leaf."""
    flat = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
