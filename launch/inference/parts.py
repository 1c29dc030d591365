"""Trained runs as parts of other runs' configs, which name a run and a step: "DIR:STEP"."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

from launch import checkpoints
from launch.config.errors import UserError
from launch.engine import trained_runs


class Part(NamedTuple):
    """A kind of part.

    Attributes:
      field: of a task, (state) -> the part.
      key: the config key that names the run.
      example: DIR:STEP, for messages.
      missing: what to do where no run is named.
      unfit: why a task without the field is none, and what to do.
      unread: what to do where the run cannot be opened; "" where its error says all.
    """

    field: str
    key: str
    example: str
    missing: str
    unfit: str
    unread: str = ""


def part_of(part: Part, run: str) -> Any:
    """The part that a trained run is of another one.

    Args:
      part: the kind of part.
      run: WORKDIR:STEP. The step is needed, so that a training that goes on does so with the same
        parameters.

    Raises:
      UserError: no such run or step, or one of a task that has no such part.
    """
    if not run:
        raise UserError(f"{part.key}: {part.missing}")
    workdir, step = trained_runs.place(run)
    if not isinstance(step, int):
        newest = checkpoints.steps(workdir / "checkpoints")[-1:]
        example = f"{workdir}:{newest[0]}" if newest else part.example
        raise UserError(f"{part.key}={run}: give the step too, as {example}")
    return opened(part, workdir, step)


@functools.cache  # a task is made several times
def opened(part: Part, workdir: Path, step: int) -> Any:
    """As `part_of`, for a folder and a step; the same object at every call.

    Raises:
      UserError: as `part_of`.
    """
    try:
        restored = trained_runs.restore(workdir, [], step, None, local=True)
    except UserError as error:
        reason = trained_runs.without_flags(error)
        raise UserError(f"{part.key}={workdir}:{step}: {reason}{part.unread}")
    make = getattr(restored.experiment.task, part.field)
    if make is None:
        raise UserError(f"{part.key}={workdir}:{step}: {restored.config.task.name} {part.unfit}")
    return make(restored.state)
