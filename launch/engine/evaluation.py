"""The evaluation of a run during its training."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from launch.data import batches
from launch.engine import compiled_steps, experiments, sharding
from launch.reporting.metrics_writer import MetricsWriter

SHOWN = 64  # at most so many examples are given to the task's `figures`
EXAMPLE_SCORES = "example_scores"  # of the sums of `eval_step`: {name: [N, 2]}, see jaxseg.task


class Monitor(NamedTuple):
    """Scores that a command adds to every evaluation; by default none.

    Attributes:
      names: of the scores.
      scores: (state) -> {name: float}.
    """

    names: frozenset[str] = frozenset()
    scores: Callable[[Any], dict[str, float]] = lambda state: {}


def passes(rule: str, metrics: dict[str, float]) -> bool:
    """Whether a step with these metrics may become the best: `config.collapse.rule` holds."""
    if not rule:
        return True
    from launch.engine.recovery import passes_rule  # an option that few runs take

    return passes_rule(rule, metrics)


def check_rule(rule: str, experiment: experiments.Experiment, monitor: Monitor) -> None:
    """Refuses a `config.collapse.rule` that asks for metrics that no evaluation gives.

    Args:
      rule: the rule; "" for none.
      experiment: what is trained.
      monitor: what adds scores to its evaluations.

    Raises:
      UserError: names the metric that is missing.
    """
    if rule:
        from launch.engine import recovery

        recovery.check_rule(rule, experiments.metric_names(experiment) | monitor.names)


class Evaluator:
    """Evaluates a state on a whole split, and writes metrics and figures.

    Args:
      experiment: what is trained.
      data: the evaluation split.
      split: the name of the split.
      batch_size: examples at a time.
      metrics: takes the metrics and the figures.
      monitor: adds scores to the metrics.
      check_collapse: (metrics, step) -> None, or a state to go on with instead.
    """

    def __init__(
        self,
        experiment: experiments.Experiment,
        data: batches.Data,
        *,
        split: str,
        batch_size: int,
        metrics: MetricsWriter,
        monitor: Monitor = Monitor(),  # noqa: B008 - a NamedTuple does not change
        check_collapse: Callable[[dict, int], Any] | None = None,
    ):
        self._experiment, self._data, self._split = experiment, data, split
        self._batch_size, self._metrics, self._monitor = batch_size, metrics, monitor
        self._check_collapse = check_collapse

    def __call__(self, state: Any, step: int) -> tuple[dict[str, float], Any]:
        """Evaluates and reports.

        Args:
          state: what `compiled.unreplicate` returned.
          step: the steps done so far.

        Returns:
          The metrics, and None or a state to go on with instead, whose metrics these are.
        """
        values = self._report(state, step)
        replacement = self._check_collapse(values, step) if self._check_collapse else None
        if replacement is None:
            return values, None
        return self._report(replacement, step), replacement

    def _report(self, state, step):
        experiment, parts = self._experiment, []

        def eval_step(state, batch):
            sums = experiment.compiled.eval_step(state, batch)
            parts.append(sums.get(EXAMPLE_SCORES))
            return sums

        values = experiments.evaluate(experiment, state, self._data, self._batch_size, eval_step)
        values |= self._monitor.scores(state)
        self._metrics.write(step, self._split, values)
        self._metrics.write_images(step, self._figures(state, step, values, parts))
        return values

    def _figures(self, state, step, values, parts):
        """The figures of the examples that scores choose, or of the first ones without scores."""
        compiled, chosen, batch = self._experiment.compiled, [], None
        if parts[0]:
            from launch.engine import chosen_examples  # which few tasks have

            ((score, table),) = compiled_steps.total(jax.device_get(parts)).items()
            mesh = self._experiment.mesh
            chosen, batch = chosen_examples.choose(self._data, table, score, mesh)
        batch = self._first if batch is None else batch
        images = jax.device_get(compiled.figures(state, compiled.put_batch(batch)))
        if any("/" in name for name in images):
            from launch.engine import chosen_examples

            heading = f"step {step:,}, {self._split}"
            images = chosen_examples.draw(images, chosen, self._data, values, heading)
        return images

    @functools.cached_property
    def _first(self):
        """This process's rows of the first examples."""
        rows = min(self._batch_size, SHOWN, self._data.split.size)
        rows = sharding.round_up(rows, self._experiment.mesh)
        return next(batches.eval_batches(self._data, rows, *sharding.process_place()))
