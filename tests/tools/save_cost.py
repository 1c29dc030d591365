"""Measures how long a save delays the training, and how long a restore takes.

python -m tests.tools.save_cost --pairs=8

Trains a U-Net of 29 million parameters (a state of 464 MB, with Adam's moments and the average
of the weights) on this machine's cores. Windows of steps that begin with a save alternate with
windows without one. The cost of a save is the difference of the two, in the foreground or in the
background; a save ends within its window. The first pair is left out, because `all_finite`
compiles in it.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import jax

from launch import checkpoints, cli
from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config import loading
from launch.data import batches
from launch.engine import experiments, sharding

WIDTHS = (64, 128, 256, 512, 1024)


def measure(pairs: int, steps: int) -> dict:
    """Seconds of a save and of a restore; see the docstring of the module."""
    config = loading.load("configs/unet.py")
    config.model.widths, config.data.batch_size = WIDTHS, 8
    data = batches.open_data(config.data, "train")
    config = experiments.with_classes(config, data.split)
    experiment = experiments.build(config, data)
    state = experiment.compiled.load(experiments.initial_state(experiment))
    feed = batches.feed(data, config.data, config.seed, 0)

    def train(state):
        began = time.perf_counter()
        for step in range(steps):
            state, outputs = experiment.compiled.train(
                state, experiment.compiled.put_feed(next(feed)), step
            )
            jax.block_until_ready(outputs.sums)
        return state, time.perf_counter() - began

    plain, saved, blocked = [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "checkpoints"
        writer = CheckpointWriter(folder, keep=2, best="")
        for pair in range(pairs + 1):
            state, seconds = train(state)
            plain.append(seconds)
            began = time.perf_counter()
            assert experiment.compiled.all_finite(experiment.compiled.unreplicate(state))
            writer.save(pair + 1, experiment.compiled.unreplicate(state), {}, None)
            blocked.append(time.perf_counter() - began)
            state, seconds = train(state)
            saved.append(blocked[-1] + seconds)
            writer.wait()
            print(f"{plain[-1]:.2f} s, with a save {saved[-1]:.2f} s", flush=True)
        writer.close()
        began = time.perf_counter()
        step = checkpoints.newest_whole(folder)
        checked = time.perf_counter()
        jax.block_until_ready(restoring.restore(folder, step, experiment.compiled.template))
        restored = time.perf_counter()
    costs = [after - before for before, after in zip(plain[1:], saved[1:], strict=True)]
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "state_mb": sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6,
        "save_seconds": statistics.mean(costs),
        "save_seconds_each": [round(cost, 2) for cost in costs],
        "blocking_seconds": statistics.mean(blocked[1:]),
        "share_of_a_minute": statistics.mean(costs) / 60,
        "check_seconds": checked - began,
        "restore_seconds": restored - checked,
    }


def main() -> None:
    """Parses the command line, measures, and prints JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pairs", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=6, help="of a window (default: 6)")
    options = arguments.parse_args()
    cli.quiet()
    sharding.set_up_jax()
    print(json.dumps(measure(options.pairs, options.steps), indent=2))


if __name__ == "__main__":
    main()
