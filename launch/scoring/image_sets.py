"""The sets of images that scores compare, batch by batch: real, sampled and completed ones."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from launch.data import batches
from launch.engine import sharding
from launch.engine.experiments import Experiment


def real_images(
    experiment: Experiment, data: batches.Data, batch_size: int, count: int
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The first images of a split.

    Args:
      experiment: puts the batches on its devices.
      data: the split.
      batch_size: images at a time, rounded up to a multiple of the devices.
      count: number of images.

    Yields:
      Images uint8 [B, H, W, C], and a mask bool [B] of the rows that count.
    """
    for batch in _first_batches(experiment, data, batch_size, count):
        rows = {"image": batch["image"], "mask": batch["mask"]}
        rows = experiment.compiled.put_batch(rows)
        yield rows["image"], rows["mask"]


def sampled_images(
    experiment: Experiment, state: Any, classes: int, batch_size: int, count: int
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Samples of the seeds 0 to `count` - 1, the same as `launch.sample` draws.

    Args:
      experiment: of a task that samples.
      state: its state.
      classes: number of classes, which take turns; 0 for a model without classes.
      batch_size: images at a time, rounded up to a multiple of the devices.
      count: number of samples.

    Yields:
      Images float [B, H, W, C] in [0, 1], and a mask bool [B] of the rows that count.
    """
    size = sharding.round_up(batch_size, experiment.mesh)
    for start in range(0, count, size):
        index = np.arange(start, start + size, dtype=np.int32)
        seeds = {"index": index, "label": index % max(classes, 1), "mask": index < count}
        rows = experiment.compiled.put_batch(sharding.own_rows(seeds, experiment.mesh))
        mask = rows.pop("mask")
        yield experiment.compiled.sample(state, rows), mask


def completed_images(
    experiment: Experiment, state: Any, data: batches.Data, batch_size: int, count: int
) -> Iterator[tuple[jax.Array, dict[str, np.ndarray]]]:
    """The images that `complete` makes of the first examples of a split.

    Args:
      experiment: of a task that completes.
      state: its state.
      data: the split.
      batch_size: images at a time, rounded up to a multiple of the devices.
      count: number of examples.

    Yields:
      Images float [B, H, W, C] in [0, 1], and this process's rows of the batch that they were
      made of, with a `mask` bool [B / processes] of the rows that count.
    """
    given, compiled = experiment.task.given, experiment.compiled
    for batch in _first_batches(experiment, data, batch_size, count):
        label = batch.get("label", np.zeros_like(batch["index"]))
        rows = {given: batch[given], "index": batch["index"], "label": label}
        yield compiled.complete(state, compiled.put_batch(rows)), batch


def _first_batches(experiment, data, batch_size, count):
    """This process's rows of the batches of a split's first examples, others masked.

    All processes take the same number of batches, also where the last rows of one do not count.
    """
    size = sharding.round_up(batch_size, experiment.mesh)
    whole = batches.eval_batches(data, size, *sharding.process_place())
    for batch in itertools.islice(whole, -(-count // size)):
        yield batch | {"mask": batch["mask"] & (batch["index"] < count)}
