"""A watch on a training's evaluations, for models that can collapse.

`config.collapse.rule` says what a sound model's evaluation looks like, such as
"class_coverage >= 0.9 and feature_variance >= 0.3". Where it is broken the run stops,
or goes back to the best checkpoint that kept it and on from there with the step count,
and so the data and the noise, of now.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from launch import checkpoints, distributed
from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config.errors import Collapsed, UserError

logger = logging.getLogger("segen")


class Bound(NamedTuple):
    """One comparison of a metric with a number; `least` tells which way."""

    metric: str
    least: bool
    value: float

    def kept(self, metrics: dict) -> bool:
        """Whether these metrics keep the bound; none, or one that is no number, does not."""
        value = metrics.get(self.metric)  # a checkpoint may be older than the rule
        if value is None:
            return False
        return value >= self.value if self.least else value <= self.value


def parse(rule: str) -> tuple[Bound, ...]:
    """Reads "metric >= number and metric <= number"; "" is no bound.

    Raises:
      UserError: anything else.
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


def check(config: ConfigDict, known: Iterable[str]) -> None:
    """Refuses a guard that cannot work, before anything compiles.

    Args:
      config: the whole config.
      known: names of the metrics that an evaluation gives.

    Raises:
      UserError: names the key, its value, and what would do.
    """
    guard, known = config.collapse, sorted(known)
    for bound in parse(guard.rule):
        if bound.metric not in known:
            raise UserError(
                f"config.collapse.rule: the evaluation gives no {bound.metric!r}; it gives "
                f"{', '.join(known)} (config.score.samples adds scores of samples)"
            )
    if guard.action not in ("stop", "rollback"):
        raise UserError(f"config.collapse.action must be stop or rollback, got {guard.action!r}")
    if guard.rule and guard.action == "rollback" and not config.checkpoint.best:
        raise UserError(
            "config.collapse.action=rollback goes to the best: give config.checkpoint.best"
        )


def make_collapse_check(
    config: ConfigDict,
    recover: Callable | None,
    template: Any,
    folder: Path,
    journal: Path,
    writer: CheckpointWriter,
    note: Callable,
    group: distributed.Group = distributed.ALONE,
) -> Callable:
    """Builds (metrics, step) -> None, or the state to go on with instead.

    Args:
      config: the whole config, checked.
      recover: the task's own (state) -> state after going back; None for as saved.
      template: the state as ShapeDtypeStructs with shardings.
      folder: the run's checkpoints folder.
      journal: the folder of its metrics.jsonl, which tells how often it went back.
      writer: saves checkpoints; waited for before the best is looked up.
      note: called with the line of metrics.jsonl that tells of a going back.
      group: the processes of the run; the first looks at the files for all.

    The function raises Collapsed where the rule is broken and the run is to stop, has
    nothing to go back to, or went back `config.collapse.times` times already.
    """
    bounds, guard = parse(config.collapse.rule), config.collapse

    def judge(metrics, step):
        broken = [bound for bound in bounds if not bound.kept(metrics)]
        if step < guard.after or not broken:
            return None
        found = ", ".join(f"{bound.metric} {metrics[bound.metric]:.4g}" for bound in broken)
        problem = f"the model collapsed at step {step:,}: {found}, against {guard.rule}"
        writer.wait()
        look = lambda: (best_step(folder, bounds, config.checkpoint.best), _times(journal))
        best, times = group.on_process_zero("the best checkpoint", look)
        if guard.action == "stop":
            kept = "no checkpoint kept the rule" if best is None else f"step {best:,} kept it"
            raise Collapsed(f"{problem}; {kept}. `--step` of evaluate and sample picks one")
        if best is None or times >= guard.times:
            tried = f"it went back {times} times already" if times else "no checkpoint kept it"
            raise Collapsed(f"{problem}; {tried}. Try lower learning rates or a regulariser")
        logger.info(f"{problem}; going back to the parameters of step {best:,}")
        note({"step": step, "split": "guard", "rollback_to": best})
        state = restoring.restore(folder, best, template)
        return recover(state) if recover else state

    return judge


def passes_rule(config: ConfigDict, metrics: dict) -> bool:
    """Whether an evaluation's metrics keep the rule."""
    return all(bound.kept(metrics) for bound in parse(config.collapse.rule))


def best_step(folder: Path, bounds: tuple[Bound, ...], best: str) -> int | None:
    """The best saved step whose evaluation kept all bounds; the newest if none is best.

    Args:
      folder: a run's checkpoints folder.
      bounds: what an evaluation must keep.
      best: `config.checkpoint.best`.
    """
    found = {}
    for step in checkpoints.steps(folder):
        metrics = checkpoints.metrics(folder, step)
        if metrics is not None and all(bound.kept(metrics) for bound in bounds):
            found[step] = (checkpoints.goodness(metrics, best), step)
    return max(found, key=found.get) if found else None


def _times(journal):
    lines = (journal / "metrics.jsonl").read_text().splitlines()
    return sum("rollback_to" in json.loads(line) for line in lines)
