"""The classifier that scores rest on: trained once on a run's own data, and kept."""

import hashlib
import json
import logging
import re
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from launch import checkpoints, storage
from launch.config import loading, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.storage import file_lock

logger = logging.getLogger("segen")

# Of the run that is scored, what says which images its classifier learns from.
SAME_DATA = ("name", "data_dir", "path", "split", "kwargs", "preprocess", "cache_mib")


class Trained(NamedTuple):
    """A classifier's run.

    Attributes:
      folder: its workdir.
      step: its last step.
      recipe: its config.
      data: its training split.
    """

    folder: Path
    step: int
    recipe: ConfigDict
    data: batches.Data


def trained(config: ConfigDict, recipe: str, classes: int = 0) -> Trained:
    """Trains a classifier of a run's data, unless one is kept already.

    Kept in the user's cache folder under what decides it: the recipe and the content of
    the training split. An interrupted training goes on the next time, and of several
    processes that want the same one trains while the others wait.

    Args:
      config: of the run that is scored.
      recipe: config of the classifier's training; its data become the run's own.
      classes: K; 0 for as many as the data names or its labels show.

    Raises:
      UserError: examples without labels.
    """
    from launch import train  # which scores samples itself, and so imports this module

    data = batches.open_data(config.data, config.data.split, "config.data")
    recipe = _recipe(config, recipe, _count_labels(data, classes))
    title = data.split.title
    name = re.sub(r"[^A-Za-z0-9.]+", "-", title).strip("-")
    folder = storage.cache_dir() / "classifiers" / f"{name}-{_key(recipe, data)}"
    with _alone(folder):
        if _finished(folder, recipe) is None:
            logger.info(
                f"scores compare features of a classifier of {title}; training it once, in {folder}"
            )
            train.train(recipe, folder, time.perf_counter())
    return Trained(folder, _finished(folder, recipe), recipe, data)


def _count_labels(data: batches.Data, classes: int) -> int:
    """How many classes the examples have labels of."""
    label, title = data.example.get("label"), data.split.title
    if label is None or label.shape or label.dtype.kind not in "iu":
        raise UserError(
            f"launch.scoring.features:classifier learns from an integer `label`; {title} has only "
            f"{', '.join(sorted(data.example))}. Compare by Inception, --inception=FILE of "
            "evaluate, or by a net with random weights, "
            "--config.score.features.name=launch.scoring.features:random"
        )
    if classes or data.split.classes:
        return classes or len(data.split.classes)
    if data.arrays is None:
        raise UserError(
            f"{title} streams and names no classes: give launch.scoring.features:classifier their "
            'number, config.score.features = {"name": ..., "classes": K}'
        )
    return int(np.max(data.arrays["label"])) + 1


def _recipe(config: ConfigDict, spec: str, classes: int) -> ConfigDict:
    """The config of the classifier's own training."""
    recipe = loading.load(spec)
    recipe.task.classes = classes
    recipe.eval.split = config.eval.split
    with recipe.unlocked():
        recipe.data.update({key: config.data[key] for key in SAME_DATA})
    # One device: the same weights wherever it is trained, but for rounding.
    recipe.mesh.update(data=1, fsdp=1)
    schema.check_values(recipe)
    return recipe


def _key(recipe: ConfigDict, data: batches.Data) -> str:
    """What tells one classifier from another: its recipe and what it has seen."""
    decides = (*schema.IDENTITY, "train.steps", "eval.split")
    content = {
        key: value
        for key, value in schema.flatten(recipe.to_dict()).items()
        if any(key == name or key.startswith(name + ".") for name in decides)
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    if data.split.fingerprint:
        digest.update(data.split.fingerprint.encode())
    elif data.arrays is not None:
        for key in sorted(data.arrays):
            digest.update(np.ascontiguousarray(data.arrays[key]).data)
    else:  # streamed, and of unknown content: by where it lies and how much there is
        digest.update(f"{recipe.data.path} {data.split.title} {data.split.size}".encode())
    return digest.hexdigest()[:16]


def _finished(folder: Path, recipe: ConfigDict) -> int | None:
    """The last step of a classifier that was trained to its end, else None."""
    if not (folder / "config.json").is_file():
        return None
    step = checkpoints.newest_whole(folder / "checkpoints")
    if step != recipe.train.steps or not checkpoints.metrics(folder / "checkpoints", step):
        return None
    return step


def _alone(folder: Path):
    """Waits until no other process trains the same classifier."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"trains the classifier in {folder}; waiting for it"
    return file_lock.held(
        folder.with_name(folder.name + ".lock"), lambda holder: logger.info(f"{holder} {waiting}")
    )
