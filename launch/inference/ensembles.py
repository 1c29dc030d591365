"""Several trained runs as one predictor: their maps are averaged (deep ensembles, 2017).

Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles". The runs need not have one architecture, window or scale, but they must name the
same classes and read images of the same kind.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import entr

from launch.config import run_config
from launch.config.errors import UserError

logger = logging.getLogger("segen")

# Keys of the config by which maps become results; the members of an ensemble share them.
SHARED = (
    *("task.thresholds", "task.threshold", "task.seed", "task.min_size"),
    *("task.levels", "predict.refine", "predict.postprocess"),
)


def find_runs(workdirs: list[Path]) -> list[Path]:
    """Lists the runs that --workdir names.

    Args:
      workdirs: each a run, or a folder of runs WORKDIR/fold1, WORKDIR/fold2, ...

    Returns:
      The folders of the runs; those of folds in the order of their numbers.

    Raises:
      UserError: a run is named twice.
    """
    runs = []
    for workdir in workdirs:
        folds = [] if (workdir / "config.json").is_file() else list(workdir.glob("fold*"))
        folds = [fold for fold in folds if (fold / "config.json").is_file()]
        if folds:
            folds.sort(key=_number_and_name)
            logger.info(f"{workdir}: {', '.join(fold.name for fold in folds)}")
        runs += folds or [workdir]
    for number, run in enumerate(runs):
        if run in runs[:number]:
            raise UserError(f"--workdir: {run} is given twice")
    return runs


def check_alike(runs: list[Path]) -> None:
    """Refuses runs that cannot be averaged, by their config.json alone.

    Args:
      runs: the folders of the runs.

    Raises:
      UserError: a folder is no run; or names two runs and what differs in them.
    """
    first, *others = [_facts(run_config.read(run)[0]) for run in runs]
    for run, facts in zip(runs[1:], others, strict=True):
        for key, value in facts.items():
            if value != first[key]:
                raise UserError(
                    f"--workdir: {run} and {runs[0]} cannot be averaged: {key} {_shown(value)} "
                    f"there, {_shown(first[key])} here"
                )


def mean_strips(streams: list[Iterator[dict]]) -> Iterator[dict[str, np.ndarray]]:
    """Averages the maps of several predictions of one image, strip by strip.

    Args:
      streams: of each member, {name: [n, W, ...]} from the top down; n may differ.

    Yields:
      The mean of each map. Of class probabilities P, also `entropy`, that of the mean, and
      `information`, the mutual information of label and net in nats: the entropy of the mean
      less the mean of the entropies (and of dropout samples, of their entropies).
    """
    for parts in _equal_rows(streams):
        names = dict.fromkeys(name for part in parts for name in part)
        # A member without dropout samples has no information, which is 0.
        result = {name: sum(part.get(name, 0.0) for part in parts) / len(parts) for name in names}
        if "entropy" in result:
            whole = entr(result["probability"]).sum(-1)
            within = result["entropy"] - result.get("information", 0.0)
            result |= {"entropy": whole, "information": np.maximum(whole - within, 0.0)}
        yield result


def _equal_rows(streams):
    """Cuts strips so that those of all streams have the same rows."""
    parts = [next(stream, None) for stream in streams]
    while parts[0] is not None:
        count = min(len(next(iter(part.values()))) for part in parts)
        yield [{name: leaf[:count] for name, leaf in part.items()} for part in parts]
        rest = [{name: leaf[count:] for name, leaf in part.items()} for part in parts]
        parts = [
            part if len(next(iter(part.values()))) else next(stream, None)
            for part, stream in zip(rest, streams, strict=True)
        ]


def _facts(record) -> dict[str, Any]:
    """What the members of an ensemble share, {words of a message: value}."""
    config, data = record.get("config", {}), record.get("data", {})
    task, how = config.get("task", {}), data.get("reading", {})
    image = data.get("example", {}).get("image", [None])
    facts = {
        "config.task.name is": task.get("name"),
        "it has the classes": task.get("names") or data.get("classes") or task.get("classes"),
        "it sees channels": image[-1],
        "it sees values of": how.get("dtype", image[0]),
        "it sees depth": "depth" in data.get("example", {}),
    }
    for key in SHARED:
        section, _, name = key.partition(".")
        facts[f"config.{key} is"] = config.get(section, {}).get(name)
    return facts


def _shown(value):
    return ", ".join(map(str, value)) if isinstance(value, list) and value else repr(value)


def _number_and_name(path):
    digits = re.search(r"\d+", path.name)
    return int(digits[0]) if digits else 0, path.name
