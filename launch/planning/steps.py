"""The part of a plan that the clock and the memory decide."""

import logging
import math
from typing import Any

import jax

from launch.config import schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments, memory
from launch.planning import footprint, timing
from launch.planning.draft import Draft

logger = logging.getLogger("segen")

# Seconds that a start takes beside compiling: imports, reading the folder, the first figures.
STARTING = 12.0
# Seconds of an evaluation beside its batches: figures, curves, a checkpoint.
REPORTING = 2.5
COMPILING = 0.4  # of the time that compiling a step takes: the programs of evaluations
EVALUATIONS, EVALUATED = 8, 0.1  # at most; and the share of the time that they may take
EVALUATING = 0.4  # of the time of a step with as many images
# Examples that lie on the device, at most, and steps of a dispatch then: on CPUs a tenth faster.
RESIDENT_MIB, DISPATCHED = 1024, 10
FIRST_STEPS = 1000  # of the config whose step is timed; the time does not depend on it


def plan_steps(draft: Draft, minutes: float, memory_mib: int) -> dict[str, Any]:
    """Decides how often to step, to evaluate and to save, by timing some steps.

    Args:
      draft: with all that a step depends on.
      minutes: for the whole training.
      memory_mib: of one device, on CPUs of the process; 0 for four fifths of what is free.

    Returns:
      All values of the draft.

    Raises:
      UserError: a time or a memory into which no training fits.
    """
    measured, spent = _timed(draft, memory_mib)
    held_out = batches.open_data(draft.config.data, draft.config.eval.split, "config.eval")
    parts = -(-held_out.split.size // draft.config.eval.batch_size)
    per_evaluation = REPORTING + EVALUATING * measured.step * parts
    compiling = measured.drawing + (_compilations(draft.config) + COMPILING) * measured.compiling
    left = 60 * minutes - STARTING - compiling - timing.SECONDS - spent
    stride = draft.config.train.steps_per_dispatch
    evaluations = max(1, min(EVALUATIONS, int(EVALUATED * 60 * minutes / per_evaluation)))
    fits = lambda count: count * (per_evaluation + stride * measured.step) <= left
    evaluations = next((count for count in range(evaluations, 1, -1) if fits(count)), 1)
    left -= evaluations * per_evaluation
    steps = int(left / measured.step) // stride * stride
    if steps < evaluations * stride:
        # A tenth of a step more than the least, so that rounding down leaves one.
        least = 60 * minutes - left + 1.1 * stride * measured.step
        raise UserError(
            f"config.plan.minutes={minutes:g}: too short. A step takes {measured.step:.2g} s and "
            f"compiling {compiling:.0f} s; {math.ceil(least / 6) / 10:g} minutes would do"
        )
    reason = (
        f"{minutes:g} minutes, {1e3 * measured.step:.0f} ms a step, {compiling:.0f} s compiling"
    )
    draft.settle("steps", reason, {"train.steps": steps})
    units = -(-draft.config.train.steps // (evaluations * stride))
    every = units * stride
    # About five lines of progress for an evaluation, each over as many steps as the others.
    log = every // next(count for count in (5, 4, 6, 3, 7, 2, 1) if units % count == 0)
    draft.settle(
        "evaluation",
        f"{per_evaluation:.1f} s each",
        {"log.every": log, "checkpoint.every": every, "eval.every": every},
        f"every {every} steps",
    )
    return draft.values


def _compilations(planned_config):
    """How often a step is compiled: once where the timed program is the training's too.

    See `launch.engine.rate_tables`; the number of frozen steps is a constant of the program.
    """
    values = planned_config.data.resident, planned_config.parallel, planned_config.train.remat
    once = values == (True, "jit", "nothing") and "frozen_steps" not in planned_config.optimizer
    return 1 if once else 2


def _timed(draft, memory_mib):
    """What a step costs, and seconds spent on larger batches that memory does not hold.

    Sets whether the data lies on the device; takes smaller batches until a step fits.
    """
    data = batches.open_data(draft.config.data, draft.config.data.split)
    size = sum(array.nbytes for array in (data.arrays or {}).values()) / 2**20
    small = data.arrays is not None and size <= RESIDENT_MIB
    small = small and draft.config.parallel == "jit"  # pmap takes batches from the host
    even = draft.config.train.steps % DISPATCHED == 0  # or 0, not yet planned
    stride = DISPATCHED if small and even else 1
    values = {"data.resident": small, "train.steps_per_dispatch": stride}
    where = "on the device" if small else "on the host"
    draft.settle("steps at once", f"the examples, {size:,.0f} MiB, lie {where}", values)
    limit, held, spent = memory_mib * 2**20, footprint.held(), 0.0
    limit = limit or held + 0.8 * min(memory.free_memory().values(), default=math.inf)
    while (measured := timing.measure(_ready(draft, data), data, limit)).memory > limit:
        _take_smaller_batch(draft, measured.memory, limit, held)
        spent += measured.drawing + measured.compiling
    what = "the process" if jax.default_backend() == "cpu" else "a step"
    allowed = "" if math.isinf(limit) else f", {limit / 2**20:,.0f} MiB are allowed"
    logger.info(f"plan: memory         {measured.memory / 2**20:,.0f} MiB  ({what}{allowed})")
    return measured, spent


def _ready(draft, data):
    """The config with any number of steps, so that a step can be timed."""
    ready = {key: 1 for key in schema.POSITIVE if not schema.value_at(draft.config, key)}
    for key in ("train.steps", "eval.every", "checkpoint.every", "log.every"):
        ready[key] = FIRST_STEPS
    return experiments.with_classes(schema.with_values(draft.config, ready), data.split)


def _take_smaller_batch(draft, needed, limit, held):
    """Halves the batch that the plan has chosen, again while it surely does not fit.

    Each try is compiled, which takes long: what a batch needs beside what the process holds is
    about in proportion to its size. Refuses where there is no smaller batch.
    """
    size = draft.config.data.batch_size
    needed, limit, held = (value / 2**20 for value in (needed, limit, held))
    reason = f"with {size} at a time training takes {needed:,.0f} MiB, {limit:,.0f} are allowed"
    if "data.batch_size" not in draft.values:
        raise UserError(f"config.data.batch_size={size}: {reason}")
    if size == 1:
        raise UserError(
            f"config.plan.memory_mib: {reason}; {math.ceil(needed)} would do, or a smaller "
            "--config.data.kwargs.scale"
        )
    smaller = size // 2
    if needed > held and limit > held:
        while smaller > 1 and smaller / size > (limit - held) / (needed - held):
            smaller //= 2
    draft.change("batch", reason, dict.fromkeys(("eval.batch_size", "data.batch_size"), smaller))
