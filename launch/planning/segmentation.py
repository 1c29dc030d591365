"""The plan of a segmentation: `config.plan = {"name": "launch.planning.segmentation:plan"}`."""

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from launch.config import planned, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.data.bad_file import BadFile
from launch.data.folders import opening
from launch.data.folders.options import Options
from launch.engine import experiments, memory
from launch.planning import facts, timing
from launch.planning.facts import Facts

logger = logging.getLogger("segen")

MINUTES = {"cpu": 10.0, "gpu": 30.0, "tpu": 30.0}
# Seconds that a start takes beside compiling: imports, reading the folder, the first figures.
STARTING = 12.0
# Seconds of an evaluation beside its batches: figures, curves, a checkpoint.
REPORTING = 2.5
COMPILING = 0.4  # of the time that compiling a step takes: the programs of evaluations
EVALUATIONS, EVALUATED = 8, 0.1  # at most; and the share of the time that they may take
EVALUATING = 0.4  # of the time of a step with as many images
# Pixels a second that a training goes over at least, by kind of device; for a first guess of
# how far images have to be scaled down.
PIXELS_A_SECOND = {"cpu": 5e5, "gpu": 2e7, "tpu": 2e7}
SCALES = (1.0, 0.75, 0.5, 1 / 3, 0.25, 0.125)
EPOCHS = 15  # that should fit into the time
SMALLEST_CROP, WIDTHS = 128, 16  # pixels; how many widths of a class a crop spans
THINNEST = 2.5  # pixels that the lines of a class keep after scaling
# Examples that lie on the device, at most, and steps of a dispatch then: on CPUs a tenth faster.
RESIDENT_MIB, DISPATCHED = 1024, 10
LEAST_STD = 0.01  # of a channel: less would make noise of an empty one
FIRST_STEPS = 1000  # of the config whose step is timed; the time does not depend on it


@dataclasses.dataclass
class Draft:
    """A config while it is planned.

    Attributes:
      config: the config, in which more and more values are set.
      values: what the plan has set so far.
    """

    config: ConfigDict
    values: dict[str, Any] = dataclasses.field(default_factory=dict)

    def settle(self, what: str, reason: str, values: dict[str, Any], shown: str = "") -> None:
        """Sets the values of keys that wait, and says why; the user's own stay.

        Args:
          what: the decision in words.
          reason: why these values.
          values: {dotted key: value}.
          shown: the values in words; the last one unless given.
        """
        waiting = set(planned.unset(self.config))
        decided = {key: value for key, value in values.items() if key in waiting}
        self.values |= decided
        self.config = schema.with_values(self.config, decided)
        text = shown if decided and shown else str(schema.value_at(self.config, list(values)[-1]))
        logger.info(f"plan: {what:14} {text}  ({reason if decided else 'given'})")


def plan(config: ConfigDict, minutes: float = 0.0, memory_mib: int = 0) -> dict[str, Any]:
    """Fills in what `configs/segment.py` leaves open, and prints each decision with its reason.

    Args:
      config: a complete config; keys with 0 or None wait for a value.
      minutes: for the whole training; 0 for 10 on CPUs and 30 on GPUs and TPUs.
      memory_mib: of one device; 0 for four fifths of what is free.

    Returns:
      {dotted key: value}.

    Raises:
      UserError: too few images, a time or a memory into which no training fits.
    """
    if minutes < 0 or memory_mib < 0:
        raise UserError(f"config.plan: minutes={minutes} and memory_mib={memory_mib} must be >= 0")
    platform = jax.default_backend()
    minutes = minutes or MINUTES.get(platform, MINUTES["gpu"])
    opened = _open(config.data)
    try:
        found = facts.of_folder(opened, config.data.split, config.eval.split)
    except BadFile as bad:
        raise UserError(str(bad))
    draft = Draft(config)
    _say_facts(found)
    _plan_examples(draft, found, minutes, platform)
    _plan_channels(draft, found)
    _plan_net(draft, found)
    _plan_loss(draft, found)
    return _plan_steps(draft, minutes, memory_mib)


def _open(section):
    """The folder of `config.data`, without problems."""
    if section.name != "launch.data.folders:folder":
        raise UserError(f"config.plan plans for folders; config.data.name={section.name}")
    if not section.path:
        raise UserError("config.data.path is missing: the folder with images and masks")
    path = Path(section.path).expanduser()
    given = section.kwargs.to_dict().items()
    kwargs = {key: value for key, value in given if value is not None} | {"fold": section.fold}
    if isinstance(size := kwargs.get("size", (0, 0)), int):
        kwargs["size"] = (size, size)
    kwargs["size"] = tuple(kwargs.get("size", (0, 0)))
    try:
        opened = opening.usable(opening.open_folder(path, Options(**kwargs)))
        count = len(opening.select(opened.layout.splits, section.split, path))
    except ValueError as error:
        raise UserError(str(error))
    if count < 4:
        raise UserError(
            f"{path}: {count} images to train on; a plan needs 4 at least. Give it more, or set "
            "every value by hand (configs/unet.py:folder)"
        )
    return opened


def _say_facts(found):
    height, width = found.size
    named = zip(found.classes, found.shares, strict=True)
    shares = ", ".join(f"{name} {100 * share:.3g} %" for name, share in named)
    logger.info(
        f"plan: {found.images:,} images to train on and {found.held_out:,} to check on, "
        f"{width} x {height} pixels (median); {timing.machine()}"
    )
    logger.info(f"plan: shares of the classes: {shares}")


def _plan_examples(draft, found: Facts, minutes, platform):
    """Scale, tiles, crops, batch and augmentation."""
    pixels = found.images * math.prod(found.size)
    budget = 60 * minutes * PIXELS_A_SECOND.get(platform, 2e7) / EPOCHS
    width = found.width or THINNEST
    fits, least = math.sqrt(min(1.0, budget / pixels)), min(1.0, THINNEST / width)
    scale = next((one for one in SCALES if one <= max(fits, least)), SCALES[-1])
    scale = float(f"{max(scale, least):.3g}")
    reason = f"{pixels / 1e6:,.0f} million pixels, classes are {width:.2g} pixels wide (median)"
    draft.settle("scale", reason, {"data.kwargs.scale": scale})
    scale = draft.config.data.kwargs.scale  # the user's, where one is given
    sides = [max(1, round(side * scale)) for side in found.largest]
    most = 256 if platform == "cpu" else 512
    field = _field(width * scale, most) if platform == "cpu" else most
    crop = tuple(min(field, -(-side // 32) * 32) for side in sides)
    whole = all(side <= 1.25 * most for side in sides)
    tile = tuple(side if whole else _tile(side, 2 * most) for side in sides)
    draft.settle(
        "examples",
        "whole images" if whole else "larger images are cut into tiles of this size",
        {"data.kwargs.size": tile},
        f"{tile[1]} x {tile[0]}",
    )
    size = draft.config.data.kwargs.size  # the user's, where one is given
    size = (size, size) if isinstance(size, int) else size
    crop = tuple(map(min, crop, size)) if any(size) else crop
    cropped = () if whole and len({found.size, found.largest}) == 1 else crop
    by_class = not draft.config.data.kwargs.get("target", "")
    upright = found.upright > 0.05
    warp = {
        "name": "jaxseg.augment:warp",
        "crop": cropped,
        "balance": 0.33 if cropped and by_class else 0.0,
        "scale": (0.7, 1.4),
        "rotate": 10.0 if upright else 180.0,
    }
    text = "whole"
    if cropped:
        text = f"crops of {cropped[1]} x {cropped[0]}" + ", a third around a rare class" * by_class
    turns = "turned by up to 10 degrees" if upright else "turned freely"
    draft.settle(
        "augmentation",
        f"upper and lower halves differ by {found.upright:.2f} in their classes",
        {"data.augment": [warp, {"name": "jaxseg.augment:colour"}]},
        f"{text}, mirrored, {turns}, scaled, colours changed",
    )
    batch = 8 if platform == "cpu" else 16
    reason = f"{'CPUs' if platform == 'cpu' else 'accelerators'} take as many at a time"
    draft.settle("batch", reason, {"data.batch_size": batch, "eval.batch_size": batch})


def _field(width, most):
    """The side of crops on a CPU: small ones, and so more steps, where objects are small."""
    return min(most, max(SMALLEST_CROP, -(-round(WIDTHS * width) // 32) * 32))


def _tile(side, most):
    """The side of tiles that divide an image evenly, at most `most`."""
    return -(-side // -(-side // most))


def _plan_channels(draft, found):
    """Mean 0 and deviation 1 of every channel; an encoder has the statistics of its images."""
    if "mean" not in draft.config.model:
        return
    mean, std = (tuple(float(f"{v:.3g}") for v in vs) for vs in (found.mean, found.std))
    std = tuple(max(v, LEAST_STD) for v in std)
    shown = "to mean 0, deviation 1 in each channel"
    reason = f"means {mean}, deviations {std} of 0 to 1"
    draft.settle("normalisation", reason, {"model.mean": mean, "model.std": std}, shown)


def _plan_net(draft, found):
    model = draft.config.model
    if "widths" not in model:
        return  # a net whose size is its encoder's
    scale = draft.config.data.kwargs.scale
    width = found.width * scale
    fine = 0 < width < 5
    widths = (16, 32, 64, 128, 192) if fine else (32, 64, 128, 192)
    reason = f"classes are {width:.2g} pixels wide there (median)"
    values = {"model.stem": 1 if fine else 2, "model.widths": widths}
    draft.settle("net", reason, values, f"widths {widths}, first stride {values['model.stem']}")


def _plan_loss(draft, found):
    """Weights of the classes: square roots of median share over share (Eigen and Fergus 2015)."""
    if "terms" not in draft.config.task.get("loss", {}):
        return  # a task whose loss is its own
    shares = np.array(found.shares)
    there = shares > 0
    weights = np.ones(len(shares))
    weights[there] = np.sqrt(np.median(shares[there]) / shares[there]).clip(0.3, 3.0)
    # Weights make outlines of a rare class too wide; of two classes Dice alone finds both.
    even = shares[there].max() < 4 * shares[there].min() or len(shares) == 2
    weights = np.ones(len(shares)) if even else weights
    terms = (
        {
            "name": "jaxseg.losses:cross_entropy",
            "class_weights": tuple(float(f"{w:.2g}") for w in weights),
        },
        {"name": "jaxseg.losses:dice"},
    )
    reason = f"shares of {100 * shares[there].min():.2g} to {100 * shares.max():.3g} %"
    shown = "cross-entropy + Dice, " + (
        "classes weigh alike" if even else f"classes weigh {min(weights):.2g} to {max(weights):.2g}"
    )
    draft.settle("loss", reason, {"task.loss.terms": terms}, shown)


def _plan_steps(draft, minutes, memory_mib):
    """Steps by the clock; refuses a step that memory does not hold."""
    measured = _timed(draft, memory_mib)
    held_out = batches.open_data(draft.config.data, draft.config.eval.split, "config.eval")
    parts = -(-held_out.split.size // draft.config.eval.batch_size)
    per_evaluation = REPORTING + EVALUATING * measured.step * parts
    compiling = measured.drawing + (_compilations(draft.config) + COMPILING) * measured.compiling
    left = 60 * minutes - STARTING - compiling - timing.SECONDS
    evaluations = max(1, min(EVALUATIONS, int(EVALUATED * 60 * minutes / per_evaluation)))
    left -= evaluations * per_evaluation
    stride = draft.config.train.steps_per_dispatch
    steps = int(left / measured.step) // stride * stride
    if steps < evaluations * stride:
        least = 60 * minutes - left + evaluations * stride * measured.step
        raise UserError(
            f"config.plan.minutes={minutes:g}: too short. A step takes {measured.step:.2g} s and "
            f"compiling {compiling:.0f} s; {math.ceil(least / 6) / 10:g} minutes would do"
        )
    reason = (
        f"{minutes:g} minutes, {1e3 * measured.step:.0f} ms a step, {compiling:.0f} s compiling"
    )
    draft.settle("steps", reason, {"train.steps": steps})
    units = -(-draft.config.train.steps // (evaluations * stride))
    every = units * stride
    # About five lines of progress for an evaluation, each over as many steps as the others.
    log = every // next(count for count in (5, 4, 6, 3, 7, 2, 1) if units % count == 0)
    draft.settle(
        "evaluation",
        f"{per_evaluation:.1f} s each",
        {"log.every": log, "checkpoint.every": every, "eval.every": every},
        f"every {every} steps",
    )
    return draft.values


def _compilations(planned_config):
    """How often a step is compiled: once where the timed program is the training's too.

    See `launch.engine.rate_tables`; the number of frozen steps is a constant of the program.
    """
    values = planned_config.data.resident, planned_config.parallel, planned_config.train.remat
    once = values == (True, "jit", "nothing") and "frozen_steps" not in planned_config.optimizer
    return 1 if once else 2


def _timed(draft, memory_mib):
    """What a step costs; sets whether the data lies on the device."""
    data = batches.open_data(draft.config.data, draft.config.data.split)
    size = sum(array.nbytes for array in (data.arrays or {}).values()) / 2**20
    small = data.arrays is not None and size <= RESIDENT_MIB
    small = small and draft.config.parallel == "jit"  # pmap takes batches from the host
    even = draft.config.train.steps % DISPATCHED == 0  # or 0, not yet planned
    stride = DISPATCHED if small and even else 1
    values = {"data.resident": small, "train.steps_per_dispatch": stride}
    where = "on the device" if small else "on the host"
    draft.settle("steps at once", f"the examples, {size:,.0f} MiB, lie {where}", values)
    ready = {key: 1 for key in schema.POSITIVE if not schema.value_at(draft.config, key)}
    ready["train.steps"] = FIRST_STEPS
    for key in ("eval.every", "checkpoint.every", "log.every"):
        ready[key] = FIRST_STEPS
    config = experiments.with_classes(schema.with_values(draft.config, ready), data.split)
    measured = timing.measure(config, data)
    limit = memory_mib * 2**20 or 0.8 * min(memory.free_memory().values(), default=math.inf)
    if measured.memory > limit:
        raise UserError(
            f"config.plan.memory_mib: a step needs {measured.memory / 2**20:,.0f} MiB, "
            f"{limit / 2**20:,.0f} are allowed; give --config.data.batch_size="
            f"{max(1, draft.config.data.batch_size // 2)}"
        )
    return measured
