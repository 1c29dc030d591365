"""Batches: arrays of one step's rows, a pure function of (seed, step).

Four ways to the same batches: gathered from arrays in memory or from the decoded
cache; streamed by threads or processes; or, for data that lives on the device, only the
indices, which the compiled step gathers by itself.
"""

import dataclasses
import itertools
import logging
import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from launch.config.errors import UserError
from launch.data import cache, levels_check, order
from launch.data.sources import DAMAGED, Split, open_split

logger = logging.getLogger("segen")


@dataclasses.dataclass(frozen=True)
class Data:
    """An open split: its examples, in memory where they fit.

    Attributes:
      split: random access to the examples.
      arrays: {key: [size, ...]}, or None for a split that streams.
      example: shape and dtype of each array of one example.
      reading: how files became examples, as JSON; {} for data that are no files.
      inventory: {file: a hash of its content}; {} for data that are no files.
      damaged: bool [size], the examples of `arrays` for which another stands in; None
        where all are whole.
      tally: a `damage.Tally` where `config.data.damaged` tolerates damaged records, else None.
    """

    split: Split
    arrays: dict[str, np.ndarray] | None
    example: dict[str, jax.ShapeDtypeStruct]
    reading: dict = dataclasses.field(default_factory=dict)
    inventory: dict = dataclasses.field(default_factory=dict)
    damaged: np.ndarray | None = None
    tally: Any = None


def open_data(section, split: str, where: str = "config.data") -> Data:
    """Opens a split and decodes it into arrays if it fits `section.cache_mib`.

    Args:
      section: `config.data`.
      split: the split expression.
      where: the config section it comes from, for messages.

    Raises:
      UserError: the split cannot be opened, read, or made into arrays.
    """
    opened, tally, damaged = open_split(section, split, where), None, None
    if section.damaged:
        from launch.data import damage  # an option that few runs take

        opened = damage.tolerate(opened)
        tally = damage.Tally(opened, section.damaged)
    arrays = cache.arrays_of(opened, section.cache_mib)
    if arrays is not None and DAMAGED in arrays:
        arrays = dict(arrays)
        damaged = arrays.pop(DAMAGED)
        tally.note(np.flatnonzero(damaged))
    one = opened[0] if arrays is None else {key: array[0] for key, array in arrays.items()}
    if taken := {"index", "mask"} & one.keys():
        raise UserError(
            f"{opened.title}: the engine adds {sorted(taken)} itself; rename these keys"
        )
    one = {key: leaf for key, leaf in one.items() if key != DAMAGED}
    example = {key: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for key, leaf in one.items()}
    records = opened.records
    while isinstance(inner := getattr(records, "split", None), Split):  # preprocessed, tolerant
        records = inner.records
    reading = getattr(records, "reading", None)
    reading = reading.to_json() if reading else {}
    inventory = getattr(records, "inventory", {})
    return Data(opened, arrays, example, reading, inventory, damaged, tally)


def open_splits(
    section, held_out: str, workdir: Path, task: Mapping = MappingProxyType({})
) -> tuple[Data, Data]:
    """Opens the training split and the evaluation split of a run, and checks that they suit it.

    Says what has changed in the files since the run in `workdir` last started.

    Args:
      section: `config.data`, with the training split.
      held_out: the evaluation split.
      workdir: the run's folder.
      task: `config.task`; its `ignore` is the id of pixels that neither train nor score.

    Raises:
      UserError: a split cannot be opened, its masks are void, or its images do not suit the task.
    """
    train = open_data(section, section.split, "config.data")
    if train.split.size < section.batch_size:
        logger.warning(
            f"{train.split.title}: {train.split.size:,} examples are fewer than "
            f"config.data.batch_size={section.batch_size}: every step takes some of them twice"
        )
    evaluation = open_data(section, held_out, "config.eval")
    if "segmentation" in train.example:
        from launch.data import labels_check  # of masks

        for data in (train, evaluation):
            labels_check.check_labels(data.split, data.arrays, task.get("ignore", 255))
    levels_check.check_levels(task, train.split, train.arrays)
    inventories = {section.split: train.inventory, held_out: evaluation.inventory}
    if any(inventories.values()) and jax.process_index() == 0:
        from launch.data import inventory  # of files

        inventory.tell_changes(workdir / "data.json", inventories)
    return train, evaluation


def facts(data: Data) -> dict:
    """What a record keeps of the data, so that a run can be used without it."""
    example = {key: [str(leaf.dtype), *leaf.shape] for key, leaf in data.example.items()}
    return {
        "example": example,
        "classes": list(data.split.classes),
        "reading": data.reading,
    }


def recorded(facts: dict) -> Data:
    """Data without examples, of the shapes that `facts` kept.

    Raises:
      UserError: a run from before its data was recorded, or the record is damaged.
    """
    if not facts:
        raise UserError("config.json says nothing of the data; train on for a step to record it")
    try:
        example = {
            key: jax.ShapeDtypeStruct(tuple(map(operator.index, shape)), np.dtype(dtype))
            for key, (dtype, *shape) in facts["example"].items()
        }
        split = Split((), 0, "recorded data", classes=tuple(map(str, facts["classes"])))
        return Data(split, None, example, dict(facts["reading"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"config.json is damaged in what it says of the data ({error})")


def batch_spec(example: dict, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch of such examples, `index` and `mask` included."""
    rows = {
        key: jax.ShapeDtypeStruct((batch_size, *leaf.shape), leaf.dtype)
        for key, leaf in example.items()
    }
    rows["index"] = jax.ShapeDtypeStruct((batch_size,), np.int32)
    rows["mask"] = jax.ShapeDtypeStruct((batch_size,), np.bool_)
    return rows


def feed(
    data: Data, section, seed: int, start: int, steps_per_dispatch: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """What this process feeds to training steps, from step `start` on, without end.

    Args:
      data: the training split.
      section: `config.data`.
      seed: decides the order.
      start: the first step.
      steps_per_dispatch: steps of one compiled program, for resident data.

    Returns:
      Batches, or indices where `section.resident` has the data on the device.
    """
    place = jax.process_index(), jax.process_count()
    if section.resident:
        return index_batches(data, section, seed, start, steps_per_dispatch, *place)
    return train_batches(data, section, seed, start, *place)


def train_batches(
    data: Data, section, seed: int, start: int = 0, process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of the global batches `start`, `start` + 1, ... for ever.

    Args:
      data: the training split.
      section: `config.data`.
      seed: decides the order.
      start: the first step.
      process, processes: which block of rows, out of how many.

    Yields:
      {key: [B / processes, ...]} with `index` and `mask`.
    """
    if data.arrays is None:
        from launch.data import streaming  # processes, which cached data do without

        for batch in streaming.stream(data.split, section, seed, start, process, processes):
            _take_damage_marks(data, batch)
            yield batch
        return
    for step in itertools.count(start):
        rows = order.train_rows(step, section.batch_size, process, processes)
        index = order.examples_at(rows, seed, data.split.size)
        yield _gather(data.arrays, index, np.ones(len(index), np.bool_))


def index_batches(
    data: Data,
    section,
    seed: int,
    start: int,
    count: int,
    process: int = 0,
    processes: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """The indices of global batches, for data that lies on the devices, without end.

    Args:
      data, section, seed, start, process, processes: as for `train_batches`.
      count: steps of one dispatch.

    Yields:
      {"index": int32 [count, B / processes]}.
    """
    while True:
        rows = [
            order.train_rows(step, section.batch_size, process, processes)
            for step in range(start, start + count)
        ]
        index = order.examples_at(np.concatenate(rows), seed, data.split.size)
        yield {"index": index.reshape(count, -1)}
        start += count


def eval_batches(
    data: Data, batch_size: int, process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of a whole split, each example once; the end is padded.

    Args:
      data: the split.
      batch_size: B, rows of the global batch.
      process, processes: which block of rows, out of how many.

    Yields:
      {key: [B / processes, ...]} with `index` and `mask`, False on rows that only pad.
    """
    for number in range(-(-data.split.size // batch_size)):
        index, mask = order.eval_rows(number, batch_size, data.split.size, process, processes)
        if data.arrays is None:
            batch = cache.read_rows(data.split, index) | {"index": index}
            yield batch | {"mask": mask & ~_take_damage_marks(data, batch)}
        else:
            whole = True if data.damaged is None else ~data.damaged[index]
            yield _gather(data.arrays, index, mask & whole)


def batch_at(data: Data, section, seed: int, step: int) -> dict[str, np.ndarray]:
    """The whole global batch of one step.

    Args:
      data: the training split.
      section: `config.data`.
      seed: decides the order.
      step: the step, from 0.

    Returns:
      {key: [B, ...]} with `index`.
    """
    rows = order.train_rows(step, section.batch_size)
    index = order.examples_at(rows, seed, data.split.size)
    if data.arrays is not None:
        return {key: array[index] for key, array in data.arrays.items()} | {"index": index}
    batch = cache.read_rows(data.split, index) | {"index": index}
    _take_damage_marks(data, batch)
    return batch


def _take_damage_marks(data, batch):
    """Takes the marks of damaged records out of a batch and counts them; bool [B]."""
    marks = batch.pop(DAMAGED, np.zeros(len(batch["index"]), np.bool_))
    if marks.any():
        data.tally.note(batch["index"][marks])
    return marks


def _gather(arrays, index, mask):
    return {key: array[index] for key, array in arrays.items()} | {"index": index, "mask": mask}
