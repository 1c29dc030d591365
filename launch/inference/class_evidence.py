"""log p(image | class) of every class by a generative model, where it is estimated by draws too.

The noise of a draw belongs to the example, so it is the same for all classes, and differences
between classes vary far less than the estimates themselves. A class that falls clearly behind
gets no further draws.
"""

import logging
import time
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from launch.config.errors import UserError

logger = logging.getLogger("segen")

LEAST = 8  # draws, before a class is dropped
BEHIND = 3.0  # standard errors of the difference to the best class
PROGRESS_SECONDS = 10.0


def collect(
    estimate: Callable, count: int, classes: int, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates log p(image | class) of every example and class.

    Args:
      estimate: (examples int [P], classes int [P], number of the draw) -> [P] in nats; one value
        of each pair.
      count: N, the number of examples.
      classes: K.
      draws: of each pair, at most.

    Returns:
      Means [N, K], and how many draws each has, int [N, K]. Of a class that was dropped, the
      difference to the best class is the mean over the draws that both got: draws differ by
      far more than classes do.

    Raises:
      UserError: a likelihood that is not finite.
    """
    values = np.full((draws, count, classes), np.nan)
    alive, progress = np.ones((count, classes), bool), _Progress(draws)
    for number in range(draws):
        examples, labels = np.nonzero(alive)
        found = estimate(examples, labels, number)
        if (bad := ~np.isfinite(found)).any():  # nothing compares with it
            raise UserError(
                f"the likelihood of {bad.sum():,} of {len(found):,} pairs of an image and a class "
                f"is not finite, first of image {examples[bad][0]} and class "
                f"{labels[bad][0]}; is the run trained? See its loss in metrics.jsonl"
            )
        values[number, examples, labels] = found
        if number + 1 >= LEAST:
            alive &= ~_behind(values[: number + 1], alive)
            alive &= alive.sum(1, keepdims=True) > 1  # the last one needs no more
            if not alive.any():
                break
        progress.add(number + 1)
    taken = np.sum(~np.isnan(values), axis=0)
    means = np.nanmean(values, axis=0)
    best = np.where(taken == taken.max(1, keepdims=True), means, -np.inf).argmax(1)
    rows = np.arange(count)
    lead = np.nanmean(values[:, rows, best][..., None] - values, axis=0)
    return means[rows, best][:, None] - lead, taken


def _behind(values, alive):
    """Which classes of those that are left are clearly less likely than the best: bool [N, K]."""
    means = np.where(alive, np.nan_to_num(values).mean(0), -np.inf)
    best = means.argmax(1)
    lead = values[:, np.arange(len(best)), best][..., None] - values
    error = np.nan_to_num(lead).std(0, ddof=1) / np.sqrt(len(values))
    return alive & (np.nan_to_num(lead).mean(0) > BEHIND * error)


class _Progress:
    """A line every ten seconds."""

    def __init__(self, draws):
        self._draws, self._start = draws, time.perf_counter()
        self._due = self._start + PROGRESS_SECONDS

    def add(self, done):
        now = time.perf_counter()
        if now >= self._due and done < self._draws:
            left = (now - self._start) / done * (self._draws - done)
            text = tqdm.format_interval(left)
            logger.info(f"{done} of {self._draws} draws; the rest takes at most {text}")
            self._due = now + PROGRESS_SECONDS
