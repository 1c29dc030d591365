"""The plan of a segmentation: `config.plan = {"name": "launch.planning.segmentation:plan"}`."""

import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from launch.config.errors import UserError
from launch.data.bad_file import BadFile
from launch.data.folders import opening
from launch.data.folders.options import Options
from launch.planning import facts, steps, timing
from launch.planning.draft import Draft
from launch.planning.facts import Facts

logger = logging.getLogger("segen")

MINUTES = {"cpu": 10.0, "gpu": 30.0, "tpu": 30.0}
# Pixels a second that a training goes over at least, by kind of device; for a first guess of
# how far images have to be scaled down.
PIXELS_A_SECOND = {"cpu": 5e5, "gpu": 2e7, "tpu": 2e7}
SCALES = (1.0, 0.75, 0.5, 1 / 3, 0.25, 0.125)
EPOCHS = 15  # that should fit into the time
SMALLEST_CROP, WIDTHS = 128, 16  # pixels; how many widths of a class a crop spans
THINNEST = 2.5  # pixels that the lines of a class keep after scaling
# Where training goes over the images more often than this, a share is scaled, rotated and
# recoloured, and images without up and down are turned by right angles. Before, that costs more
# than it gives: resampling blurs, and there is more to learn. Without up and down it pays sooner,
# in most plans that do not end within a few minutes (CHASE_DB1: docs/own-data.md).
OFTEN, OFTEN_TURNED, SHARE = 50, 15, 0.2
LEAST_STD = 0.01  # of a channel: less would make noise of an empty one


def plan(config: ConfigDict, minutes: float = 0.0, memory_mib: int = 0) -> dict[str, Any]:
    """Fills in what `configs/segment.py` leaves open, and prints each decision with its reason.

    Args:
      config: a complete config; keys with 0 or None wait for a value.
      minutes: for the whole training; 0 for 10 on CPUs and 30 on GPUs and TPUs.
      memory_mib: of one device, on CPUs of the process; 0 for four fifths of what is free.

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
    return steps.plan_steps(draft, minutes, memory_mib)


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
    if scale <= 0:
        raise UserError(
            f"config.data.kwargs.scale={scale:g} fits each image to a canvas by its own scale, and "
            "a plan needs one for all: give a scale above 0, or leave it out"
        )
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
    _say_windows(draft.config.predict.window, size)
    crop = tuple(map(min, crop, size)) if any(size) else crop
    cropped = () if whole and len({found.size, found.largest}) == 1 else crop
    by_class = not draft.config.data.kwargs.get("target", "")
    batch, given = 8 if platform == "cpu" else 16, draft.config.train.steps
    epochs, why = budget * EPOCHS / (pixels * scale**2), "there is time, at a first guess,"
    if given:
        seen = (draft.config.data.batch_size or batch) * math.prod(cropped or tile)
        epochs, why = given * seen / (pixels * scale**2), f"{given:,} steps are enough"
    _plan_augmentation(draft, found, cropped, by_class, epochs, why)
    reason = f"{'CPUs' if platform == 'cpu' else 'accelerators'} take as many at a time"
    draft.settle("batch", reason, {"data.batch_size": batch, "eval.batch_size": batch})


def _say_windows(side, size):
    """The windows of prediction, which nothing in the data changes."""
    window, why = ((side, side), "given") if side else (size, "the size of the examples")
    logger.info(f"plan: windows        {window[1]} x {window[0]} at prediction  ({why})")


def _plan_augmentation(draft, found, cropped, by_class, epochs, why):
    """Mirrored always; all else where the images are seen often."""
    upright = found.upright > 0.05
    often = epochs > (OFTEN if upright else OFTEN_TURNED)
    square = bool(cropped) and cropped[0] == cropped[1]
    warp = {
        "name": "jaxseg.augment:warp",
        "crop": cropped,
        "balance": 0.33 if cropped and by_class else 0.0,
        "turns": 1 if upright or not often else 4 if square else 2,
    }
    steps, text = [warp], "whole"
    if cropped:
        text = f"crops of {cropped[1]} x {cropped[0]}" + ", a third around a rare class" * by_class
    text += ", mirrored" + (f", turned in {warp['turns']} ways" if warp["turns"] > 1 else "")
    if often:
        warp |= {"scale": (0.7, 1.4), "rotate": 10.0 if upright else 180.0, "share": SHARE}
        steps.append({"name": "jaxseg.augment:colour", "share": SHARE})
        text += f", {100 * SHARE:.0f} % scaled and rotated, {100 * SHARE:.0f} % recoloured"
    draft.settle(
        "augmentation",
        f"upper and lower halves differ by {found.upright:.2f} in their classes; {why} to go over "
        f"the images about {epochs:.0f} times",
        {"data.augment": steps},
        text,
    )


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
