"""What a run does when its model collapses or a loss is not finite.

`config.collapse.rule` says what an evaluation of a healthy model looks like, such as
"class_coverage >= 0.9 and feature_variance >= 0.3". Where it is broken the run stops, or
goes on from the parameters of the best checkpoint that passed; the step count, and so data
and noise, goes on unchanged.

`config.nonfinite.action` says what a loss that is not finite does: the run stops; the batch
is skipped; or the run goes back to the last checkpoint and on in another order of the data.

How often each has happened is counted in the record of each checkpoint, so a resumed run
takes the same way as one that was never stopped.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from launch import checkpoints, distributed
from launch.checkpoints import restoring
from launch.config.errors import Collapsed, Diverged, UserError
from launch.engine.experiments import Experiment
from launch.reporting.metrics_writer import MetricsWriter
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

FOLDER = "nonfinite"  # of a run, for batches whose loss was not finite


class Bound(NamedTuple):
    """One comparison of a metric with a number.

    Attributes:
      metric: the name of the metric.
      at_least: whether the metric must be at least the value, else at most.
      value: the number.
    """

    metric: str
    at_least: bool
    value: float

    def passes(self, metrics: dict) -> bool:
        """Whether these metrics keep the bound; a missing metric and NaN do not."""
        value = metrics.get(self.metric)  # a checkpoint may be older than the rule
        if value is None:
            return False
        return value >= self.value if self.at_least else value <= self.value


def parse_rule(rule: str) -> tuple[Bound, ...]:
    """Reads "metric >= number and metric <= number"; "" has no bounds.

    Raises:
      UserError: the rule has another form.
    """
    bounds = []
    for part in filter(None, re.split(r"\s+and\s+", rule.strip())):
        match = re.fullmatch(r"\s*(\S+)\s*(>=|<=)\s*(\S+)\s*", part)
        try:
            bounds.append(Bound(match[1], match[2] == ">=", float(match[3])))
        except (TypeError, ValueError):
            raise UserError(
                f"config.collapse.rule: {part!r} is not of the form METRIC >= NUMBER or "
                "METRIC <= NUMBER; join several by ' and '"
            )
    return tuple(bounds)


def check_rule(rule: str, known: Iterable[str]) -> None:
    """Refuses a rule that cannot work, before anything compiles.

    Args:
      rule: `config.collapse.rule`.
      known: names of the metrics that an evaluation gives.

    Raises:
      UserError: names the metric that is missing, and those that there are.
    """
    known = sorted(known)
    for bound in parse_rule(rule):
        if bound.metric not in known:
            raise UserError(
                f"config.collapse.rule: the evaluation gives no {bound.metric!r}; it gives "
                f"{', '.join(known)} (config.score.samples adds scores of samples)"
            )


def passes_rule(rule: str, metrics: dict) -> bool:
    """Whether an evaluation's metrics pass a rule."""
    return all(bound.passes(metrics) for bound in parse_rule(rule))


def best_step(folder: Path, rule: str, best: str) -> int | None:
    """Of the saved steps that passed a rule the best, or the newest where `best` is "".

    Args:
      folder: a run's checkpoints folder.
      rule: what an evaluation must pass.
      best: `config.checkpoint.best`.

    Returns:
      The step; None if none passed.
    """
    passed = {}
    for step in checkpoints.steps(folder):
        metrics = checkpoints.metrics(folder, step)
        if metrics is not None and passes_rule(rule, metrics):
            passed[step] = (checkpoints.goodness(metrics, best), step)
    return max(passed, key=passed.get) if passed else None


class CollapseCheck:
    """Compares each evaluation with the rule; goes back to the best checkpoint.

    Args:
      settings: `config.collapse`: rule, action, after and times.
      best: `config.checkpoint.best`.
      template: the state as ShapeDtypeStructs with shardings.
      recover: the task's own (state) -> state after going back; None for as saved.
      counters: of the run; `collapses` is counted up.
      checkpoint_writer: saves the checkpoints; its last save is waited for.
      metrics: takes a line for each time the run goes back.
      group: the processes of the run; process 0 looks at the files for all.
    """

    def __init__(
        self,
        settings: Any,
        *,
        best: str,
        template: Any,
        recover: Callable | None,
        counters: Counter,
        checkpoint_writer: Any,
        metrics: MetricsWriter,
        group: distributed.Group = distributed.ALONE,
    ):
        self._settings, self._bounds = settings, parse_rule(settings.rule)
        self._best, self._folder, self._template = best, checkpoint_writer.folder, template
        self._recover, self._counters, self._group = recover, counters, group
        self._checkpoint_writer, self._metrics = checkpoint_writer, metrics

    def __call__(self, metrics: dict, step: int) -> Any:
        """The state to go on with in place of the current one; None where the rule is passed.

        Raises:
          Collapsed: the rule is broken and the run is to stop, has nothing to go back to,
            or went back `config.collapse.times` times already.
        """
        settings, counters = self._settings, self._counters
        broken = [bound for bound in self._bounds if not bound.passes(metrics)]
        if step < settings.after or not broken:
            return None
        values = ", ".join(f"{bound.metric} {metrics[bound.metric]:.4g}" for bound in broken)
        problem = f"the model collapsed at step {step:,}: {values}, against {settings.rule}"
        self._checkpoint_writer.wait()
        find = lambda: best_step(self._folder, settings.rule, self._best)
        best = self._group.on_process_zero("the best checkpoint", find)
        if settings.action == "stop":
            kept = "no checkpoint passed" if best is None else f"step {best:,} passed"
            raise Collapsed(f"{problem}; {kept}. `--step` of evaluate and sample picks one")
        if best is None or counters["collapses"] >= settings.times:
            times = counters["collapses"]
            tried = f"it went back {times} times already" if times else "no checkpoint passed"
            raise Collapsed(f"{problem}; {tried}. Try lower learning rates or a regulariser")
        counters["collapses"] += 1
        logger.warning(f"{problem}; going back to the parameters of step {best:,}")
        self._metrics.write(step, "collapse", {"rollback_to": best})
        state = restoring.restore(self._folder, best, self._template)
        return self._recover(state) if self._recover else state


def make_checks(
    collapse: Any,
    nonfinite: Any,
    experiment: Experiment,
    *,
    keep_batch: Callable[[int], None],
    counters: Counter,
    metrics: MetricsWriter,
    **rest: Any,
) -> dict[str, Callable]:
    """What the evaluator and the loop call, as far as the config asks for it.

    Args:
      collapse, nonfinite: these sections of the config.
      experiment: what is trained.
      keep_batch: (step) -> None, keeps the batch of a step.
      counters, metrics, **rest: as for `CollapseCheck`.

    Returns:
      `check_collapse` and `on_skipped`; each is there only where it is asked for.
    """
    checks = {}
    if collapse.rule:
        checks["check_collapse"] = CollapseCheck(
            collapse,
            template=experiment.compiled.template,
            recover=experiment.task.recover,
            counters=counters,
            metrics=metrics,
            **rest,
        )
    if nonfinite.action == "skip":
        checks["on_skipped"] = partial(
            note_skipped,
            times=nonfinite.times,
            counters=counters,
            keep_batch=keep_batch,
            metrics=metrics,
        )
    return checks


def note_skipped(
    step: int,
    *,
    times: int,
    counters: Counter,
    keep_batch: Callable[[int], None],
    metrics: MetricsWriter,
) -> None:
    """Counts a step whose batch was skipped, keeps the batch and reports both.

    Args:
      step: the step.
      times: `config.nonfinite.times`, the most batches to skip.
      counters: of the run; `skipped` is counted up.
      keep_batch: (step) -> None, keeps the batch of a step.
      metrics: takes a line for the step.

    Raises:
      Diverged: more batches were skipped than allowed.
    """
    counters["skipped"] += 1
    if counters["skipped"] > times:
        raise Diverged(
            f"the loss is not finite at step {step}, after {counters['skipped'] - 1} batches were "
            "skipped as config.nonfinite.times allows",
            step,
        )
    metrics.write(step, "nonfinite", {"skipped": 1})
    logger.warning(f"the loss was not finite at step {step:,}; its batch is skipped")
    keep_batch(step)


def keep_batch(folder: Path, batch: dict[str, np.ndarray], step: int) -> None:
    """Writes the batch of a step to nonfinite/step-STEP.npz.

    Args:
      folder: the run's folder on this machine.
      batch: {key: [B, ...]}, whole, with `index`, the examples' places in their split.
      step: the step that took this batch: the first is 1.
    """
    path = folder / FOLDER / f"step-{step:08d}.npz"
    with replacing(path) as working, working.open("wb") as stream:
        np.savez_compressed(stream, **batch)
    logger.warning(f"the batch of step {step:,} is kept in {path}")
