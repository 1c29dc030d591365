"""python -m launch.benchmarks.first_steps --config=configs/vae.py

Takes the first steps of a training, one by one, without a workdir: prints every loss and a hash
of the state after the last step as one line of JSON to stdout. Two machines, or two runs on one
machine, are compared by it.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from launch import cli
from launch.config import loading, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments, sharding

STEPS = 20


def main(argv: list[str]) -> None:
    """Parses the command line and takes the steps.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments or in the data.
    """
    arguments = cli.parser("benchmarks.first_steps", "Losses of the first steps of a training.")
    add = arguments.add_argument
    add("--config", required=True, help="FILE.py or FILE.py:VARIANT")
    add("--steps", type=int, default=STEPS, help=f"how many (default: {STEPS})")
    options, overrides = cli.parse(arguments, argv)
    if options.steps < 1:
        raise UserError(f"--steps must be at least 1, got {options.steps}")
    config = loading.override(loading.load(options.config), overrides)
    sharding.set_up_jax()
    config = schema.with_values(config, {"data.resident": False, "train.steps_per_dispatch": 1})
    data = batches.open_data(config.data, config.data.split, "config.data")
    experiment = experiments.build(experiments.with_classes(config, data.split), data)
    feed = itertools.islice(batches.feed(data, config.data, config.seed, 0), options.steps)
    print(json.dumps(measure(experiment, feed)))


def measure(experiment: experiments.Experiment, feed: Iterable[dict]) -> dict:
    """Takes a step from a fresh state with each batch.

    Args:
      experiment: what is trained, one step in a program.
      feed: numpy batches from the host, {key: [B, ...]}.

    Returns:
      `losses`, one for each step, in the task's units; `sha256` of all arrays of the state;
      `device`, how many of which kind.
    """
    compiled, losses = experiment.compiled, []
    state = compiled.load(experiments.initial_state(experiment))
    for step, batch in enumerate(feed):
        state, outputs = compiled.train(state, compiled.put_feed(batch), step)
        sums = jax.tree.map(lambda leaf: np.float64(leaf[0]), jax.device_get(outputs.sums))
        losses.append(float(experiment.task.finish(sums)["loss"]))
    return {
        "losses": losses,
        "sha256": digest(jax.device_get(compiled.unreplicate(state))),
        "device": sharding.describe(experiment.mesh),
    }


def digest(state: Any) -> str:
    """SHA-256 over the names and the bytes of all arrays of a tree on the host."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    cli.run(main)
