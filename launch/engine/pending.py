"""Steps that the device may still be computing, and the speed at which they complete.

The loop hands over the outputs of each dispatch and goes on. The host reads them a window
at a time, once they are ready.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from launch.config.errors import Diverged
from launch.engine.compiled_steps import StepOutputs, total

logger = logging.getLogger("segen")

# Dispatches that may wait behind the one that computes: enough to keep the device busy, few
# enough to bound the memory that waiting batches take.
AHEAD = 8
# A speed is measured over the last windows of so many seconds together, at least: where steps
# wait for the device, several windows are read at once, and each alone would seem far too fast.
RECENT = 5.0


def ahead(steps_per_dispatch: int) -> int:
    """How many dispatches may wait behind the one that computes.

    On CPUs each holds a block of temporaries, and where a dispatch is several steps, nothing is
    gained by the next one's waiting.
    """
    if jax.default_backend() != "cpu":
        return AHEAD
    return 0 if steps_per_dispatch > 1 else 1


class Window(NamedTuple):
    """Consecutive steps that are reported together.

    Attributes:
      step: the last of them.
      sums: the task's sums over all steps that were not skipped, float64; None where
        every step was skipped.
      learning_rates: those of the last step.
      skipped: steps that left the state as it was, because their outcome was not finite.
    """

    step: int
    sums: Any
    learning_rates: dict[str, float]
    skipped: list[int]

    def metrics(self, finish: Callable[[dict], dict[str, float]]) -> dict[str, float]:
        """The metrics of the window by the task's `finish`, and its learning rates."""
        values = {"loss": math.nan} if self.sums is None else finish(self.sums)
        return {name: float(value) for name, value in values.items()} | self.learning_rates


class PendingSteps:
    """Outputs of dispatched steps, in windows.

    Args:
      ahead: how many dispatches may wait behind the one that computes.
      at_fixed_steps: whether windows are read when the next one closes, and not as soon as
        they are ready. Several processes must find a loss that is not finite at the same
        step, and outputs may be ready in one process earlier than in another.
    """

    def __init__(self, ahead: int = AHEAD, at_fixed_steps: bool = False):
        self._at_fixed_steps = at_fixed_steps
        self._open: list[tuple[int, StepOutputs]] = []
        self._closed: deque[list[tuple[int, StepOutputs]]] = deque()
        self._flying: deque[Any] = deque(maxlen=ahead + 1)

    def add(self, step: int, outputs: StepOutputs) -> None:
        """Takes the outputs of a dispatch that ends at `step`; waits if too many are under way."""
        self._open.append((step, outputs))
        self._flying.append(outputs.sums)
        if len(self._flying) == self._flying.maxlen:
            jax.block_until_ready(self._flying[0])

    def idle(self) -> bool:
        """Whether something was dispatched, and all of it is done."""
        return bool(self._flying) and _ready(self._flying[-1])

    def completed(self) -> Iterator[Window]:
        """The windows whose outputs are ready; see `drain` for what it raises."""
        while not self._at_fixed_steps and self._closed and _ready(self._closed[0][-1][1].sums):
            yield _read(self._closed.popleft())

    def close_window(self) -> Iterator[Window]:
        """Ends the open window; gives the earlier ones where windows are read at fixed steps."""
        if self._at_fixed_steps:
            while self._closed:
                yield _read(self._closed.popleft())
        if self._open:
            self._closed.append(self._open)
            self._open = []

    def drain(self) -> Iterator[Window]:
        """Ends the open window and waits for all steps so far.

        Raises:
          Diverged: the sums of a step are not finite; names the first.
        """
        yield from self.close_window()
        while self._closed:
            yield _read(self._closed.popleft())
        self._flying.clear()


class Speed:
    """Images per second, and the share of the time in which the device waited for data.

    Args:
      batch_size: images per step.

    Attributes:
      seconds, waited, steps: totals of all windows, pauses left out.
    """

    def __init__(self, batch_size: int):
        self._batch_size, self._mark, self._last, self._waited = batch_size, None, 0, 0.0
        self._recent: deque[tuple[float, int]] = deque()  # (seconds, steps) of windows
        self.seconds, self.waited, self.steps = 0.0, 0.0, 0

    @property
    def started(self) -> bool:
        """Whether the first step is done."""
        return self._mark is not None

    def start(self, step: int, began: float | None = None) -> None:
        """Counts from here on: the first dispatch, which compiles, is over.

        Args:
          step: the steps done so far.
          began: the `time.perf_counter()` from which to time the first step, for the user.
        """
        self._mark, self._last = time.perf_counter(), step
        if began is not None:
            logger.info(f"first step after {self._mark - began:.1f} s")

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves the block, an evaluation or a save, out of the speed."""
        began = time.perf_counter()
        yield
        if self.started:
            self._mark += time.perf_counter() - began

    @contextmanager
    def waiting_for_data(self, pending: PendingSteps) -> Iterator[None]:
        """Times the block, and counts it if the device ran out of work meanwhile."""
        began = time.perf_counter()
        yield
        if pending.idle():
            self._waited += time.perf_counter() - began

    def window(self, step: int) -> dict[str, float]:
        """Ends a window at `step`: {"images_per_second": ..., "data_wait": share of 1}."""
        now = time.perf_counter()
        seconds, steps = now - self._mark, step - self._last
        if steps > 0 and seconds > 0:
            self._recent.append((seconds, steps))
            while sum(took for took, _ in self._recent) - self._recent[0][0] >= RECENT:
                self._recent.popleft()
            self.seconds += seconds
            self.waited += min(self._waited, seconds)
            self.steps += steps
        wait = min(1.0, self._waited / seconds) if seconds > 0 else 0.0
        self._mark, self._last, self._waited = now, step, 0.0
        spent = sum(took for took, _ in self._recent)
        rate = sum(done for _, done in self._recent) / spent if spent else math.nan
        return {"images_per_second": rate * self._batch_size, "data_wait": wait}


def _read(dispatches):
    """A window of dispatches as numbers of the host."""
    numbers = jax.device_get(dispatches)
    skipped, all_skipped = [], True
    for last, outputs in numbers:
        flags = np.zeros(1) if outputs.skipped is None else outputs.skipped
        skipped += [last - len(flags) + 1 + int(place) for place in np.flatnonzero(flags)]
        all_skipped &= bool(flags.all())
        _check_finite(last, outputs.sums)
    step, outputs = numbers[-1]
    sums = None if all_skipped else total(_over_steps(outputs.sums) for _, outputs in numbers)
    rates = {name: float(rate[-1]) for name, rate in outputs.learning_rates.items()}
    return Window(step, sums, rates, skipped)


def _over_steps(sums):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64).sum(0), sums)


def _check_finite(last, sums):
    leaves = jax.tree.leaves(sums)
    bad = ~np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in leaves], axis=0)
    if bad.any():
        step = last - len(bad) + 1 + int(np.argmax(bad))
        raise Diverged(f"the loss is not finite at step {step}", step)


def _ready(tree):
    return all(leaf.is_ready() for leaf in jax.tree.leaves(tree))
