"""Lists the checkpoints of a run, checks that they are whole, and reads their facts.

A run's `checkpoints/STEP/` holds the item `state`, the item `run` (config and versions), the
evaluation's `metrics`, and a manifest of checksums that is committed with the step. A step
that does not agree with its manifest is never loaded. The folder may lie in a bucket.
"""

import json
import logging
import math
import re
from pathlib import Path

from launch import storage
from launch.checkpoints import state_files
from launch.config.errors import UserError

logger = logging.getLogger("segen")

# The name that Orbax gives to the folder of a step until the step is committed.
UNFINISHED = "*.orbax-checkpoint-tmp*"
# In a bucket a folder cannot be renamed: there Orbax writes this file into a committed step.
COMMITTED = "commit_success.txt"


def steps(folder: Path) -> list[int]:
    """The committed steps in a checkpoints folder, ascending."""
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if re.fullmatch(r"0|[1-9][0-9]*", path.name)]
    found = [path for path in named if path.is_dir()]
    if storage.is_bucket(folder):
        found = [path for path in found if (path / COMMITTED).exists()]
    return sorted(int(path.name) for path in found)


def unfinished(folder: Path) -> list[Path]:
    """Folders of steps that are being saved, or that a killed process left half written."""
    if not storage.is_bucket(folder):
        return sorted(folder.glob(UNFINISHED))
    committed = {str(step) for step in steps(folder)}
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.name.isdigit() and path.name not in committed)


def newest_whole(folder: Path, discard: bool = False) -> int | None:
    """Finds the newest step without damage.

    Args:
      folder: a run's checkpoints folder.
      discard: check all steps, and move damaged ones to `damaged/` beside the folder, so that
        the run can save these steps again.

    Returns:
      The step, or None if the run has saved none.

    Raises:
      UserError: there are steps, but all are damaged. A run never starts over by itself.
    """
    newest, checked, damaged = None, set(), {}
    while remaining := [step for step in steps(folder) if step not in checked]:
        step = remaining[-1]
        damage = state_files.find_damage(folder / str(step))
        if step not in steps(folder):  # a run that trains has removed it; newer ones are there
            continue
        checked.add(step)
        if damage is not None:
            damaged[step] = damage
            action = "going back to the step before" if newest is None else "it is set aside"
            logger.warning(f"checkpoint {step} is damaged: {damage}; {action}")
        elif newest is None:
            newest = step
            if not discard:  # Orbax reads the metrics of all steps, to find the best one
                break
    if newest is not None or not damaged:
        if discard:
            _set_aside(folder, damaged)
        return newest
    listed = "; ".join(f"step {step}: {damage}" for step, damage in damaged.items())
    raise UserError(
        f"no whole checkpoint in {folder} ({listed}). To start over, move the folder away; "
        "the damaged files are left as they are"
    )


def _set_aside(folder, damaged):
    """Moves steps to `damaged/`, under a new name where one was moved there before."""
    for step in damaged:
        target = folder.parent / "damaged" / str(step)
        while target.exists():
            target = target.with_name(target.name + "+")
        storage.move(folder / str(step), target)


def check_whole(folder: Path, step: int) -> None:
    """Refuses a step that does not exist or is damaged.

    Raises:
      UserError: says which steps there are, or what is damaged.
    """
    damage = state_files.find_damage(folder / str(step))
    if step not in steps(folder):
        raise UserError(f"--step={step}: {folder} has steps {steps(folder)}")
    if damage:
        raise UserError(f"checkpoint {step} in {folder} is damaged: {damage}")


def metrics(folder: Path, step: int) -> dict | None:
    """The evaluation's metrics that were saved with a step; None if there are none."""
    return _json(folder / str(step) / "metrics" / "metrics")


def record(folder: Path, step: int) -> dict:
    """The record that was saved with a step: config, versions, counters.

    Returns:
      The argument `run` of `CheckpointWriter.save`; {} for a step that does not exist.
    """
    return _json(folder / str(step) / "run" / "metadata") or {}


def _json(path):
    """The content of a JSON file; None if there is none, or a run has just removed it."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def goodness(metrics: dict, best: str) -> float:
    """A number that is largest for the best checkpoint.

    Args:
      metrics: the metrics of an evaluation.
      best: `config.checkpoint.best`: the name of a metric, "-name" if larger is better; ""
        for none.

    Returns:
      0 if `best` is ""; -inf if the metric is not finite or is missing, as in checkpoints
      that were saved before `best` was changed.
    """
    if not best:
        return 0.0
    value = metrics.get(best.removeprefix("-"))
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if best.startswith("-") else -value
