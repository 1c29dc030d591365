"""Losses that are not finite: what is kept of their batch, and how many a run puts up with."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from launch import distributed
from launch.config.errors import Diverged
from launch.data import batches

logger = logging.getLogger("segen")

FOLDER = "nonfinite"


def order_seed(seed: int, rollbacks: int) -> int:
    """The seed of the data's order after so many goings back; 0 rollbacks leave the run's own."""
    return seed + (rollbacks << 32)


def keep_batch(workdir: Path, batch: dict[str, np.ndarray], step: int) -> Path:
    """Writes the batch of a step to nonfinite/step-STEP.npz; returns the file.

    Args:
      workdir: the run's folder.
      batch: whole, with `index`, the examples' places in their split.
      step: the step that took this batch: the first is 1.
    """
    path = workdir / FOLDER / f"step-{step:08d}.npz"
    path.parent.mkdir(exist_ok=True)
    working = path.with_suffix(".tmp")
    with working.open("wb") as stream:
        np.savez_compressed(stream, **batch)
    working.replace(path)
    return path


def keeper(config: ConfigDict, workdir: Path, data: batches.Data, rollbacks: int) -> Callable:
    """(step) -> None, which keeps that step's batch in the workdir, and says where."""
    seed = order_seed(config.seed, rollbacks)

    def keep(step):
        batch = batches.batch_at(data, config.data, seed, step - 1)
        logger.info(f"the batch of step {step:,} is kept in {keep_batch(workdir, batch, step)}")

    return keep


def skipper(
    config: ConfigDict, workdir: Path, keep: Callable, note: Callable, group: distributed.Group
) -> Callable[[int], None]:
    """(step) -> None, for a step whose batch was left out: noted, kept, and counted.

    Args:
      config: the whole config.
      workdir: the run's folder; its metrics.jsonl tells how many there were before.
      keep: of `keeper`; for the first `config.nonfinite.times` of them.
      note: called with a line for metrics.jsonl.
      group: the processes of the run.

    The function raises Diverged at the first step beyond `config.nonfinite.times`.
    """
    count = group.on_process_zero("earlier faults", lambda: _skipped(workdir / "metrics.jsonl"))

    def skip(step):
        nonlocal count
        count += 1
        if count > config.nonfinite.times:
            raise Diverged(
                f"the loss is not finite at step {step}, after {count - 1} batches were left out "
                f"as config.nonfinite allows",
                step,
            )
        note({"step": step, "split": "fault", "skipped": 1})
        logger.info(f"the loss was not finite at step {step:,}; its batch is left out")
        if group.is_process_zero:
            keep(step)

    return skip


def _skipped(path):
    return sum("skipped" in json.loads(line) for line in path.read_text().splitlines())
