"""The training loop: one function that drives any task."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

from launch import distributed
from launch.config.errors import Diverged, Interrupted
from launch.cpu import heap
from launch.engine.experiments import Experiment
from launch.engine.pending import PendingSteps, Speed, Window, ahead
from launch.engine.preemption import interruptions
from launch.reporting.metrics_writer import MetricsWriter


class Schedule(NamedTuple):
    """The steps at which the loop does what.

    Attributes:
      steps: the last step.
      steps_per_dispatch: steps of one compiled program; divides all the others.
      log, evaluate, save: every how many steps.
    """

    steps: int
    steps_per_dispatch: int
    log: int
    evaluate: int
    save: int


def run_loop(
    experiment: Experiment,  # what is trained
    state: Any,  # as `compiled.load` returned it
    start: int,  # steps done so far
    *,
    schedule: Schedule,  # when to log, evaluate and save
    feed: Iterator[dict],  # numpy batches from step `start` on
    evaluate: Callable[[Any, int], tuple[dict, Any]],  # (state, step) -> metrics, replacement
    checkpoint_writer: Any,  # a CheckpointWriter
    record: Callable[[], dict],  # what a checkpoint records beside the state
    metrics: MetricsWriter,  # takes the metrics of training
    speed: Speed,  # measures the images per second
    began: float | None = None,  # the `time.perf_counter()` from which to time the first step
    on_skipped: Callable[[int], None] | None = None,  # a step that was not finite
    group: distributed.Group = distributed.ALONE,  # the processes, each of which calls this
) -> None:
    """Trains from step `start` to the end of the schedule.

    A finished step is numbered from 1. Its batch and its noise depend on the seed and on the
    number of steps before it, so a run that starts from the checkpoint of any step goes the
    way of the run that never stopped. Where `evaluate` returns a replacement
    for the state, the loop goes on with that one and saves it.

    Raises:
      Diverged: a loss or a parameter is not finite; no such state was saved.
      Interrupted: SIGTERM, SIGHUP or Ctrl-C; the step reached was saved.
    """
    compiled, stride = experiment.compiled, schedule.steps_per_dispatch
    pending = PendingSteps(ahead(stride), at_fixed_steps=group.processes > 1)

    def report(windows: Iterable[Window]) -> None:
        for window in windows:
            for skipped in window.skipped if on_skipped else ():
                on_skipped(skipped)
            values = window.metrics(experiment.task.finish)
            metrics.write(window.step, "train", values | speed.window(window.step))

    with interruptions(group) as interrupted:
        ends = range(start + stride, schedule.steps + 1, stride)
        for turn, step in enumerate(ends, start=1):
            with speed.waiting_for_data(pending):
                batch = compiled.put_feed(next(feed))
            state, outputs = compiled.train(state, batch, step - stride)
            if not speed.started:
                jax.block_until_ready(outputs.sums)
                speed.start(step, began)
            pending.add(step, outputs)
            last, signal = step == schedule.steps, interrupted(turn)
            values = replacement = None
            if step % schedule.log == 0:
                report(pending.close_window())
            report(pending.completed())
            if step % schedule.evaluate == 0 or last:
                report(pending.drain())
                with speed.pause():
                    values, replacement = evaluate(compiled.unreplicate(state), step)
                    heap.give_back()  # small blocks now lie where the steps' large ones were
                state = state if replacement is None else compiled.load(replacement)
            if step % schedule.save == 0 or last or signal or replacement is not None:
                report(pending.drain())  # raises if a step so far was not finite
                with speed.pause():
                    metrics.flush()
                    whole = compiled.unreplicate(state)
                    if not compiled.all_finite(whole):
                        problem = f"parameters are not finite after step {step}, though the loss is"
                        raise Diverged(problem, step)
                    checkpoint_writer.save(step, whole, record(), values)
                    del whole  # a copy of the state under pmap
            if signal and not last:
                checkpoint_writer.wait()
                raise Interrupted(
                    f"{signal}: saved step {step}; the same command goes on from there"
                )
            checkpoint_writer.poll()
        checkpoint_writer.wait()
