"""Batches of a split that does not fit in memory: read ahead, by processes or by threads.

Decoding is the limit: an example is opened, decoded and scaled again in each epoch. Processes
decode as fast as the cores do. Threads do not: parts of the work, in Python, only one of them
can do at a time.
"""

import collections
import functools
import itertools
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from launch.data import cache, order
from launch.data.sources import Split, first_line
from launch.data.workers import Workers

logger = logging.getLogger("segen")

PREFETCH = 4  # least number of batches that are held ready
MOST_WORKERS = 16  # that are started unasked; each takes 100 MB
USED = 16  # batches that the loop and JAX may hold while others are read


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
    workers = _start_workers(split, section, processes)
    read = workers.read if workers else functools.partial(cache.read_rows, split)

    def batch_of(step):
        rows = order.train_rows(step, section.batch_size, process, processes)
        index = order.examples_at(rows, seed, split.size)
        return read(index) | {"index": index, "mask": np.ones(len(index), np.bool_)}

    # A thread waits for each worker, or reads. Grain's own threads do the same and measure
    # every batch, which took a tenth of the time of a batch of 8 photos.
    pool = ThreadPoolExecutor(readers(section), thread_name_prefix="input")
    try:
        steps = itertools.count(start)
        batches = collections.deque(
            pool.submit(batch_of, step) for step in itertools.islice(steps, ready(section))
        )
        while True:
            batch = batches.popleft().result()
            batches.append(pool.submit(batch_of, next(steps)))
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
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
