"""python -m launch.classify --workdir=runs/flow_conditional

Classifies images by a class-conditional generator: the class C with the largest
P(image | C) P(C). Prints accuracies as JSON.
"""

import argparse
import json
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxseg.bayes.prior_shift import estimate_prior
from launch import cli
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import sharding, trained_runs
from launch.inference import class_evidence, flags, sampling
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

DRAWS = 32


def main(argv: list[str]) -> None:
    """Classifies a split.

    Args:
      argv: arguments of the command line, without the command's own name.

    Raises:
      UserError: options that cannot work with this run.
    """
    options, overrides = cli.parse(_arguments(), argv)
    for name in ("draws", "examples", "batch_size"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    sharding.set_up_jax()
    restored = trained_runs.restore(options.workdir, overrides, options.step, options.split)
    result = classify(restored, options)
    print(json.dumps(result), flush=True)
    given = ("split", "examples", "draws", "priors")
    asked = {key: getattr(options, key) for key in given}
    asked = {key: value for key, value in asked.items() if value not in (None, "", "uniform")}
    if any(override.startswith("--config.task.likelihood") for override in overrides):
        asked["likelihood"] = result["likelihood"]
    stem = f"classify-{restored.step:08d}{flags.asked_for(asked)}"
    with replacing(options.workdir / "scores" / f"{stem}.json") as working:
        working.write_text(json.dumps(result, indent=2) + "\n")


def classify(restored: trained_runs.Restored, options: argparse.Namespace) -> dict[str, Any]:
    """Classifies the examples of the run's open split.

    Args:
      restored: a run.
      options: with `draws`, `examples`, `batch_size` and `priors`.

    Returns:
      Scores and what they depend on.

    Raises:
      UserError: a model without classes, or one that gives no likelihood.
    """
    task, classes = restored.experiment.task, sampling.class_count(restored)
    function = task.log_prob or task.evidence
    if not classes:
        raise UserError(f"{restored.config.task.name} of this run has no classes")
    if function is None:
        raise UserError(f"{restored.config.task.name} gives no likelihood of an image")
    if task.log_prob and options.draws:
        raise UserError("--draws has no effect: the likelihood of this model is exact")
    draws = 1 if task.log_prob else options.draws or DRAWS
    split = restored.data.split
    count = min(options.examples or split.size, split.size)
    images, truth = (_column(restored.data, key, count) for key in ("image", "label"))
    if truth.min() < 0 or truth.max() >= classes:
        raise UserError(
            f"{split.title} has labels {truth.min()} to {truth.max()}; the model has classes 0 to "
            f"{classes - 1}"
        )
    priors = _priors(restored, options.priors, classes)
    estimate = _estimate(restored, function, images, options.batch_size)
    means, taken = class_evidence.collect(estimate, count, classes, draws)
    if options.priors == "estimate":
        posterior = jax.nn.softmax(means - means.max(1, keepdims=True))
        priors = np.asarray(estimate_prior(posterior, priors), np.float64)
    guess = np.argmax(means + np.log(np.maximum(priors, 1e-300)), axis=1)
    name = (restored.config.task.get("likelihood") or {}).get("name", "")
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (truth, guess), 1)
    return {
        "step": restored.step,
        "split": split.title,
        "examples": count,
        "accuracy": float(np.mean(guess == truth)),
        "priors": [round(float(p), 6) for p in priors],
        "likelihood": name.rpartition(":")[2] or None,  # None: the task's own bound
        "draws": draws,
        "mean_draws": round(float(taken.mean()), 2),
        "confusion": confusion.tolist(),
    }


def _arguments() -> argparse.ArgumentParser:
    arguments = cli.parser("classify", "Classifies images by a class-conditional generator.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run of a class-conditional model")
    flags.add_step(add)
    add("--split", default="", help="split (default: config.eval.split)")
    add("--examples", type=int, help="take the first N of the split (default: all)")
    add(
        "--draws",
        type=int,
        help=f"of noise for each image and class, of an estimated likelihood (default: {DRAWS})",
    )
    add(
        "--priors",
        default="uniform",
        help="P(C): uniform (default), training (its shares), estimate (by EM from the images), or "
        "numbers, as 0.7,0.2,0.1",
    )
    add("--batch_size", type=int, default=500, help="images at a time (default: 500)")
    return arguments


def _column(data: batches.Data, key: str, count: int) -> np.ndarray:
    if data.arrays is not None:
        return np.asarray(data.arrays[key][:count])
    return np.stack([data.split[row][key] for row in range(count)])


def _estimate(restored, function, images, batch_size) -> Callable:
    """(examples, classes, number of the draw) -> log p(image | class), see `class_evidence`."""
    experiment = restored.experiment
    run, size = jax.jit(function), sharding.round_up(batch_size, experiment.mesh)

    def estimate(examples, labels, number):
        found = []
        for start in range(0, len(examples), size):
            rows = np.resize(np.arange(start, min(start + size, len(examples))), size)
            batch = {
                "image": images[examples[rows]],
                "index": examples[rows].astype(np.int32),
                "label": labels[rows].astype(np.int32),
                "draw": np.full(size, number, np.int32),
                "mask": np.ones(size, bool),
            }
            values = run(
                restored.state, experiment.compiled.put_batch(batch), jax.random.key(number)
            )
            found.append(np.asarray(values, np.float64)[: len(examples) - start])
        return np.concatenate(found)

    return estimate


def _priors(restored, asked, classes) -> np.ndarray:
    """P(C) [K]; uniform, too, where it is to be estimated."""
    if asked in ("uniform", "estimate"):
        return np.full(classes, 1.0 / classes)
    if asked == "training":
        data = batches.open_data(restored.config.data, restored.config.data.split)
        counts = np.bincount(_column(data, "label", data.split.size), minlength=classes)
        return counts / counts.sum()
    try:
        given = np.array([float(part) for part in asked.split(",")])
    except ValueError:
        raise UserError(
            f"--priors={asked}: write uniform, training, estimate, or {classes} numbers"
        )
    if len(given) != classes or not given.min() >= 0 or not 0 < given.sum() < np.inf:
        raise UserError(f"--priors={asked}: give {classes} numbers, none negative, not all 0")
    return given / given.sum()


if __name__ == "__main__":
    cli.run(main)
