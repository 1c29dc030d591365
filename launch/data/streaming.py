"""Batches of a split that does not fit in memory, streamed through Grain."""

import dataclasses
import logging
import sys
from collections.abc import Iterator

import numpy as np

from launch.config.errors import UserError
from launch.data import batches, order
from launch.data.sources import Split
from launch.distributed import child_process

logger = logging.getLogger("segen")

# Batches that Grain holds ready. Its default of 500 would be gigabytes of photos.
PREFETCH = 4
RESTARTS = 3  # of data workers, before a run gives up


@dataclasses.dataclass(frozen=True)
class StepBatches:
    """Random access to the batches of steps `start`, `start` + 1, ..., as Grain needs it.

    Attributes:
      split: the examples.
      batch_size: of the global batch.
      seed: decides the order.
      start: the step of item 0.
      process, processes: which block of rows each item holds, out of how many.
    """

    split: Split
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
        index = order.examples_at(rows, self.seed, self.split.size)
        return batches.read_rows(self.split, index) | {
            "index": index,
            "mask": np.ones(len(index), np.bool_),
        }


def stream(
    split: Split, section, seed: int, start: int, process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of the global batches `start`, `start` + 1, ... without end.

    Data workers are started again where one dies.

    Args:
      split: the examples.
      section: `config.data`.
      seed: decides the order.
      start: the first step.
      process, processes: which block of rows, out of how many.

    Raises:
      UserError: data workers died again and again, or a record cannot be read.
    """
    step, restarts = start, RESTARTS
    while True:
        try:
            for batch in _grain(split, section, seed, step, process, processes):
                yield batch
                step += 1
        except RuntimeError as error:  # Grain has no error class of its own for this
            if "terminated unexpectedly" not in str(error):
                raise
            if not restarts:
                raise UserError(
                    f"data workers died again and again, last at step {step}: {error}. Memory may "
                    f"be short: give a smaller config.data.workers than {section.workers}"
                )
            restarts -= 1
            logger.warning(f"a data worker died; starting data workers again from step {step}")


def _grain(split, section, seed, start, process, processes):
    import grain

    source = StepBatches(split, section.batch_size, seed, start, process, processes)
    options = grain.ReadOptions(
        num_threads=section.threads, prefetch_buffer_size=max(PREFETCH, section.threads)
    )
    dataset = grain.MapDataset.source(source).to_iter_dataset(options)
    if section.workers:
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=section.workers, per_worker_buffer_size=2),
            worker_init_fn=child_process.leave_signals_to_parent,
        )
    yield from dataset
