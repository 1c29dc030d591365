"""Which example stands where: a pure function of (seed, position).

Training never ends: position p is place p % n of epoch p // n, and each epoch is
its own permutation of the n examples. Batch t holds positions [t B, (t + 1) B).
Nothing is carried from one batch to the next, so a run resumes from its step.
"""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of one epoch: int32 [size], read-only.

    Philox is keyed by (seed, epoch), so epochs need not be drawn in turn.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = generator.permutation(size).astype(np.int32)
    order.setflags(write=False)
    return order


def order_seed(seed: int, rollbacks: int) -> int:
    """The seed of the order after so many rollbacks of a run; after none the run's own."""
    return seed + (rollbacks << 32)


def examples_at(positions: np.ndarray, seed: int, size: int) -> np.ndarray:
    """Example indices, int32, at these positions of the endless stream."""
    epochs, places = np.divmod(positions, size)
    indices = np.empty(len(positions), np.int32)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        indices[chosen] = permutation(seed, int(epoch), size)[places[chosen]]
    return indices


def train_rows(step: int, batch_size: int, process: int = 0, processes: int = 1) -> np.ndarray:
    """Positions of the rows that this process holds of batch `step`.

    Process p of P holds a contiguous block, so the global batch is the same array,
    row by row, for any P.

    Args:
      step: the number of the batch, from 0.
      batch_size: B, rows of the global batch.
      process, processes: which block of rows, out of how many.

    Returns:
      int [B / processes], places in the endless stream.
    """
    local = batch_size // processes
    first = step * batch_size + process * local
    return np.arange(first, first + local)


def eval_rows(number: int, batch_size: int, size: int, process: int = 0, processes: int = 1):
    """Indices and mask of this process's rows of evaluation batch `number`.

    Each example appears exactly once with mask True; rows past the end repeat the
    last example with mask False.

    Args:
      number: of the batch, from 0.
      batch_size: B, rows of the global batch.
      size: number of examples.
      process, processes: which block of rows, out of how many.

    Returns:
      int32 [B / processes] and bool [B / processes].
    """
    rows = train_rows(number, batch_size, process, processes)
    return np.minimum(rows, size - 1).astype(np.int32), rows < size
