"""Batches of a split that does not fit in memory: read ahead, by processes or by threads.

Decoding is the limit: an example is opened, decoded and scaled again in each epoch. Processes
decode as fast as the cores do. Threads do not: parts of the work, in Python, only one of them
can do at a time.
"""

import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np

from launch.data import cache, order
from launch.data.sources import Split, first_line
from launch.data.workers import Workers

logger = logging.getLogger("segen")

# Batches that Grain holds ready. Its default of 500 would be gigabytes of photos.
PREFETCH = 4
MOST_WORKERS = 16  # that are started unasked; each takes 100 MB
USED = 16  # batches that the loop and JAX may hold while others are read


@dataclasses.dataclass(frozen=True)
class StepBatches:
    """Random access to the batches of steps `start`, `start` + 1, ..., as Grain needs it.

    Attributes:
      size: of the split.
      read: reads examples, as `cache.read_rows` of the split does.
      batch_size: of the global batch.
      seed: decides the order.
      start: the step of item 0.
      process, processes: which block of rows each item holds, out of how many.
    """

    size: int
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    batch_size: int
    seed: int
    start: int
    process: int
    processes: int

    def __len__(self):
        return sys.maxsize

    def __getitem__(self, number):
        step = self.start + number
        rows = order.train_rows(step, self.batch_size, self.process, self.processes)
        index = order.examples_at(rows, self.seed, self.size)
        return self.read(index) | {"index": index, "mask": np.ones(len(index), np.bool_)}


def stream(
    split: Split, section, seed: int, start: int, process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of the global batches `start`, `start` + 1, ... without end.

    Args:
      split: the examples.
      section: `config.data`.
      seed: decides the order.
      start: the first step.
      process, processes: which block of rows, out of how many.

    Raises:
      UserError: data workers died again and again, or a record cannot be read.
    """
    import grain

    workers = _start_workers(split, section, processes)
    threads = readers(section)
    read = workers.read if workers else functools.partial(cache.read_rows, split)
    source = StepBatches(split.size, read, section.batch_size, seed, start, process, processes)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ready(section))
    try:
        yield from grain.MapDataset.source(source).to_iter_dataset(options)
    finally:
        if workers:
            workers.close()


def ready(section) -> int:
    """How many batches are held ready, by `config.data`."""
    return max(PREFETCH, readers(section))


def readers(section) -> int:
    """How many batches are read at once, by `config.data`."""
    return worker_count(section) or section.threads


def worker_count(section) -> int:
    """How many processes read, by `config.data`; 0 for threads in their place."""
    return section.workers if section.workers >= 0 else min(cores(), MOST_WORKERS)


def _start_workers(split, section, processes):
    """The data workers of a config; None for threads in their place."""
    count = worker_count(section)
    if not count:
        return None
    try:
        return Workers(split, section.batch_size // processes, count, ready(section) + USED)
    except Exception as error:  # pickle raises errors of many types
        logger.info(
            f"{split.title}: threads read it, as it cannot be sent to processes "
            f"({first_line(error)})"
        )
        return None


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
