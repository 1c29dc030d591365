"""Images by seed from a trained run, and their layout in a grid."""

import logging
import time
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from launch.config.errors import UserError
from launch.engine import sharding
from launch.engine.trained_runs import Restored

logger = logging.getLogger("segen")

# Seconds until the first estimate of how long the rest takes, and between two of them.
FIRST_ESTIMATE, NEXT_ESTIMATE = 3.0, 60.0


def sample_images(
    restored: Restored,
    seeds: list[int],
    label: int | None,
    batch_size: int,
    allocate: Callable = np.empty,
) -> np.ndarray:
    """Samples one image for each seed. Several processes call this together.

    Args:
      restored: a trained run.
      seeds: N seeds.
      label: the class of all images; None for seed modulo the number of classes.
      batch_size, allocate: see `run_by_seed`.

    Returns:
      float [N, H, W, C] in [0, 1].

    Raises:
      UserError: the task cannot sample, or has no such class.
    """
    compiled = restored.experiment.compiled
    if compiled.sample is None:
        raise UserError(f"{restored.config.task.name} has no sample()")
    columns = {"label": labels_by_seed(seeds, label, class_count(restored))}
    return run_by_seed(restored, compiled.sample, seeds, columns, batch_size, allocate)


def run_by_seed(
    restored: Restored,
    function: Callable,
    seeds: list[int],
    columns: dict[str, np.ndarray],
    batch_size: int,
    allocate: Callable = np.empty,
) -> np.ndarray:
    """Runs a compiled function on one row for each seed.

    Rows are computed in blocks aligned to multiples of the batch size, so that a seed is
    always the same row of the same compiled program. Its image is then bit-identical
    whatever other seeds are asked for, and equal within rounding for another batch size.
    Says how long the rest takes, if that is long.

    Args:
      restored: a trained run.
      function: its `compiled.sample`, `compiled.complete` or `compiled.interpolate`.
      seeds: N seeds; one that occurs twice is computed twice.
      columns: arrays [N, ...] of the batch beside `index`, a row for each seed.
      batch_size: rows of a block, rounded up to a multiple of the devices.
      allocate: (shape, dtype) -> the array for the results, in memory or on disk.

    Returns:
      What the function gives for the seeds, [N, ...].
    """
    size = sharding.round_up(batch_size, restored.experiment.mesh)
    seeds, results, progress = np.asarray(seeds), None, _Progress(len(seeds))
    for places in _blocks(seeds, size):
        block, rows = seeds[places[0]] // size, seeds[places] % size
        batch = {"index": np.arange(block * size, (block + 1) * size, dtype=np.int32)}
        for key, column in columns.items():
            batch[key] = np.zeros((size, *column.shape[1:]), column.dtype)
            batch[key][rows] = column[places]
        rows_here = sharding.own_rows(batch, restored.experiment.mesh)
        output = jax.device_get(
            function(restored.state, restored.experiment.compiled.put_batch(rows_here))
        )
        if results is None:
            results = allocate((len(seeds), *output.shape[1:]), output.dtype)
        results[places] = output[rows]
        progress.add(len(places))
    return results


def _blocks(seeds, size):
    """Places of seeds [N] that are rows of one block, block by block: a list of int [n].

    A seed that comes again is in another turn of its block.
    """
    _, groups, counts = np.unique(seeds, return_inverse=True, return_counts=True)
    turn = np.empty(len(seeds), np.int64)
    first = np.repeat(np.cumsum(counts) - counts, counts)  # in the order of the seeds
    turn[np.argsort(groups, kind="stable")] = np.arange(len(seeds)) - first
    block = seeds // size
    order = np.lexsort((turn, block))
    new = (np.diff(block[order]) != 0) | (np.diff(turn[order]) != 0)
    return np.split(order, np.flatnonzero(new) + 1)


class _Progress:
    """Says how long the rest takes, measured without the first block, which compiles."""

    def __init__(self, count):
        self._count, self._done, self._first, self._due = count, 0, None, 0.0

    def add(self, rows):
        now = time.perf_counter()
        self._done += rows
        if self._first is None:
            self._first, self._due = (self._done, now), now + FIRST_ESTIMATE
        elif now >= self._due and self._done < self._count:
            seconds = (now - self._first[1]) / (self._done - self._first[0])
            left = tqdm.format_interval(seconds * (self._count - self._done))
            logger.info(f"{self._done:,} of {self._count:,} images; the rest takes about {left}")
            self._due = now + NEXT_ESTIMATE


def class_count(restored: Restored) -> int:
    """Number of classes of a class-conditional model; 0 for other models.

    The classes of a model of label maps do not count: they belong to pixels.
    """
    return restored.config.task.get("classes", 0) if "label" in restored.experiment.example else 0


def labels_by_seed(seeds: list[int], label: int | None, classes: int) -> np.ndarray:
    """The class of each seed, int32 [N].

    Args:
      seeds: N seeds.
      label: the class of all; None for seed modulo the number of classes.
      classes: number of classes; 0 for none.

    Raises:
      UserError: there is no such class.
    """
    if label is not None and not 0 <= label < classes:
        known = f"{classes} classes, 0 to {classes - 1}" if classes else "no classes"
        raise UserError(f"--class={label}: the model has {known}")
    turns = np.asarray(seeds) % max(classes, 1)
    return (turns if label is None else np.full(len(seeds), label)).astype(np.int32)


def column_per_class(images: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Lays images out with a column for each class.

    Args:
      images: [N, H, W, C].
      labels: int [N].
      classes: number of classes.

    Returns:
      [rows, classes, H, W, C]; black where a class has fewer images than another.
    """
    counts = np.bincount(labels, minlength=classes)
    table = np.zeros((counts.max(), classes, *images.shape[1:]), images.dtype)
    for label in range(classes):
        table[: counts[label], label] = images[labels == label]
    return table


def side_by_side(given: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Lays out pairs of a given image and the image that was made from it.

    Args:
      given: [N, H, W, C], uint8 or float in [0, 1].
      images: [N, H, W, C], float in [0, 1].

    Returns:
      [rows, 2 pairs, H, W, C] in [0, 1]; `images` alone if the two differ in size.
    """
    if given.shape[1:3] != images.shape[1:3]:
        return images
    if given.dtype == np.uint8:
        given = given / np.float32(255.0)
    channels = max(given.shape[-1], images.shape[-1])
    pairs = np.stack([np.broadcast_to(x, (*x.shape[:3], channels)) for x in (given, images)], 1)
    across = int(np.ceil(np.sqrt(len(pairs) / 2)))
    blank = np.zeros((-len(pairs) % across, *pairs.shape[1:]), pairs.dtype)
    return np.concatenate([pairs, blank]).reshape(-1, 2 * across, *pairs.shape[2:])
