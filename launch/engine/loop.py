"""The training loop: one function that drives any task."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from launch import distributed
from launch.checkpoints.writer import CheckpointWriter
from launch.config.errors import Diverged, Interrupted
from launch.engine import preemption
from launch.engine.compiled_steps import CompiledSteps
from launch.reporting.metrics_writer import MetricsWriter


class Schedule(NamedTuple):
    """When what happens, in steps.

    Attributes:
      steps: the last step.
      stride: steps per dispatch; divides all the others.
      log, evaluate, save: every how many steps.
    """

    steps: int
    stride: int
    log: int
    evaluate: int
    save: int


def train(
    program: CompiledSteps,
    plan: Schedule,
    feed: Iterator[dict],
    state: Any,
    start: int,
    evaluate: Callable[[Any, int], tuple[dict[str, float], Any]],
    writer: CheckpointWriter,
    record: dict,
    journal: MetricsWriter,
    group: distributed.Group = distributed.ALONE,
) -> None:
    """Trains from step `start` to the end of the plan.

    Step t takes the state after t - 1 steps to the state after t. Its batch and its
    noise depend on (seed, t) alone, so a run that starts from the checkpoint of any
    step goes the way of the run that never stopped.

    Args:
      program: the compiled task.
      plan: when to log, evaluate and save.
      feed: numpy batches from step `start` on.
      state: what `compiled.load` returned.
      start: steps done so far.
      evaluate: (state, step) -> (metrics, None or a state to go on with instead); also
        draws the figures.
      writer: saves checkpoints.
      record: config and versions, saved with each checkpoint.
      journal: takes the sums and reports.
      group: the processes that train together, each of which calls this.

    Raises:
      Diverged: a loss or a parameter is not finite; nothing bad was saved.
      Interrupted: SIGTERM or Ctrl-C; the step reached was saved.
    """
    saved = start

    def save(step, metrics):
        nonlocal saved
        journal.flush()  # raises if a step so far was not finite
        if not program.all_finite(program.unreplicate(state)):
            problem = f"parameters are not finite after step {step}, though the loss is"
            raise Diverged(problem, step)
        writer.save(step, program.unreplicate(state), record, metrics)
        saved = step

    try:
        with preemption.interruptions(group) as interrupted:
            ends = range(start + plan.stride, plan.steps + 1, plan.stride)
            for turn, step in enumerate(ends, start=1):
                with journal.waiting_for_data():
                    batch = program.put_feed(next(feed))
                state, sums, rates = program.train(state, batch, step - plan.stride)
                journal.record(step, sums, rates)

                last, signalled = step == plan.steps, interrupted(turn)
                metrics = other = None
                if step % plan.log == 0:
                    journal.close_window()
                if step % plan.evaluate == 0 or last:
                    journal.flush()
                    with journal.pause():
                        metrics, other = evaluate(program.unreplicate(state), step)
                    state = state if other is None else program.load(other)
                if step % plan.save == 0 or last or signalled or other is not None:
                    with journal.pause():
                        save(step, metrics)
                if signalled and not last:
                    writer.wait()
                    raise Interrupted(
                        f"{signalled}: saved step {step}; the same command goes on from there"
                    )
                writer.poll()
            writer.wait()
    except Diverged as problem:
        writer.wait()
        kept = f"the last good checkpoint is step {saved}" if saved else "nothing was saved yet"
        advice = (
            "Try a lower learning rate or optimizer.clip_norm; labels that are no class do this too"
        )
        raise Diverged(f"{problem}; {kept}. {advice}", problem.step)
