"""Trains the classifier whose features are the default for scores.

A classifier is trained once and kept in the user's cache folder. The name of its folder
holds a hash of what determines it: its config, and the content of the training split.
"""

import hashlib
import json
import logging
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from launch import checkpoints, storage
from launch.config import loading, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import training
from launch.storage import file_lock

logger = logging.getLogger("segen")

# The keys of a run's data section that say which images there are.
DATA_KEYS = ("name", "data_dir", "path", "split", "kwargs", "preprocess", "cache_mib")


class TrainedClassifier(NamedTuple):
    """A classifier whose training is done.

    Attributes:
      workdir: of its training.
      step: the last step.
      accuracy: on the evaluation split, from 0 to 1.
      config: of its training.
      data: its training split.
    """

    workdir: Path
    step: int
    accuracy: float
    config: ConfigDict
    data: batches.Data


def train_classifier(
    data: ConfigDict, eval_split: str, recipe: str, classes: int = 0
) -> TrainedClassifier:
    """Trains a classifier of a run's data, or finds the one that is already trained.

    An interrupted training continues the next time. If several processes need the same
    classifier, one trains it and the others wait.

    Args:
      data: the data section of the run that is scored.
      eval_split: the split that the accuracy is measured on.
      recipe: config file of the classifier's training; the run's data replace its own.
      classes: number of classes; 0 for the number that the data names or its labels show.

    Raises:
      UserError: the examples have no labels, or their classes cannot be counted.
    """
    opened = batches.open_data(data, data.split, "config.data")
    config = make_config(data, eval_split, recipe, count_classes(opened, classes))
    title = opened.split.title
    name = re.sub(r"[^A-Za-z0-9.]+", "-", title).strip("-")
    workdir = storage.cache_dir() / "classifiers" / f"{name}-{key(config, opened)}"
    steps = config.train.steps
    with _only_process(workdir):
        if _final_accuracy(workdir, steps) is None:
            logger.info(
                f"scores compare features of a classifier of {title}; training it once, in "
                f"{workdir}"
            )
            training.train(config, workdir)
    return TrainedClassifier(workdir, steps, _final_accuracy(workdir, steps), config, opened)


def count_classes(data: batches.Data, classes: int = 0) -> int:
    """The number of classes of the labels of a split.

    Args:
      data: the split; its `label` must be one integer an example.
      classes: the number if the user gives it, else 0.

    Raises:
      UserError: the examples have no such label, or the split streams and names no classes.
    """
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


def make_config(data: ConfigDict, eval_split: str, recipe: str, classes: int) -> ConfigDict:
    """The config of a classifier's training.

    Args:
      data: the data section of the run that is scored; its `DATA_KEYS` are taken over.
      eval_split: the split to evaluate on.
      recipe: config file with all the rest.
      classes: number of classes.

    Raises:
      UserError: there is no such recipe, or its values cannot work.
    """
    config = loading.load(recipe)
    config.task.classes = classes
    config.eval.split = eval_split
    with config.unlocked():
        config.data.update({name: data[name] for name in DATA_KEYS})
    # On one device: then the weights are the same on every machine, except for rounding.
    config.mesh.update(data=1, fsdp=1)
    schema.check_values(config)
    return config


def key(config: ConfigDict, data: batches.Data) -> str:
    """A hash of what determines a classifier, as 16 hex digits.

    Args:
      config: of its training; keys that do not change the result, such as how often it
        logs, do not count.
      data: its training split. A split that streams without a fingerprint is identified
        by its place, title and size.
    """
    identity = (*schema.IDENTITY, "train.steps", "eval.split")
    content = {
        name: value
        for name, value in schema.flatten(config.to_dict()).items()
        if schema.is_in(name, identity)
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    if data.split.fingerprint:
        digest.update(data.split.fingerprint.encode())
    elif data.arrays is not None:
        for name in sorted(data.arrays):
            digest.update(np.ascontiguousarray(data.arrays[name]).data)
    else:
        digest.update(f"{config.data.path} {data.split.title} {data.split.size}".encode())
    return digest.hexdigest()[:16]


def _final_accuracy(workdir: Path, steps: int) -> float | None:
    """The accuracy at step `steps`; None if the training has not reached it."""
    folder = workdir / "checkpoints"
    if not (workdir / "config.json").is_file() or checkpoints.newest_whole(folder) != steps:
        return None
    metrics = checkpoints.metrics(folder, steps)
    return float(metrics["accuracy"]) if metrics else None


def _only_process(workdir: Path) -> AbstractContextManager:
    """Waits until no other process trains the classifier in `workdir`; then locks it."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    return file_lock.held(
        workdir.with_name(workdir.name + ".lock"),
        lambda holder: logger.info(f"{holder} trains the classifier in {workdir}; waiting for it"),
    )
