"""Flips single bits of the files of a run; no flip may change a number without a word.

python -m tests.tools.flips --flips=300 --seed=1
"""

import argparse
import collections
import contextlib
import functools
import io
import json
import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from launch import evaluate, train
from launch.config.errors import CommandExit
from launch.data import batches
from launch.engine import experiments, training
from launch.reporting import metrics_damage, metrics_file
from launch.reporting.sinks import JsonlSink
from tests.tools import runs

CONFIG = "--config=tests/tools/small.py:vae"
SAVED, END = 10, 12  # steps of the run, and of the run that goes on
CLOCKS = ("images_per_second", "data_wait")


def train_run(workdir: Path, steps: int) -> None:
    """Trains the small run, or goes on with it."""
    every = [f"--config.{key}.every={SAVED // 2}" for key in ("eval", "checkpoint")]
    steps = [f"--config.train.steps={steps}", "--config.train.steps_per_dispatch=1"]
    train.main([CONFIG, *every, *steps, f"--workdir={workdir}"])


def scores(workdir: Path) -> dict:
    """What `launch.evaluate` prints of a run."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluate.main([f"--workdir={workdir}"])
    return json.loads(printed.getvalue())


def resumed(workdir: Path) -> tuple:
    """Goes on with a run: the hash of its last state, and its metrics without the clocks."""
    train_run(workdir, END)
    lines = metrics_file.read(workdir / "metrics.jsonl").lines
    lines = [{key: line[key] for key in line.keys() - {*CLOCKS}} for line in lines]
    return runs.state_hash(workdir, END), lines


def flip(file: Path, chance: random.Random) -> None:
    """Flips one bit of a file."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Compiles once for each config, and draws no figures, while the block runs."""

    def once(function: Callable) -> Callable:
        made = {}

        @functools.wraps(function)
        def call(config, *arguments, **options):
            key = repr((config.to_dict(), [a for a in arguments if isinstance(a, str)], options))
            if key not in made:
                made[key] = function(config, *arguments, **options)
            return made[key]

        return call

    def sinks(folder, start, steps, batch_size, saved, best):
        if "metrics" in saved:
            metrics_damage.check(folder / "metrics.jsonl", saved["metrics"])
        return (JsonlSink(folder, start),)

    with contextlib.ExitStack() as stack:
        for module, name in ((experiments, "build"), (batches, "open_data")):
            one = once(getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, one))
        stack.enter_context(mock.patch.object(training, "standard_sinks", sinks))
        yield


def outcome(action: Callable[[Path], object], workdir: Path, expected: object) -> str:
    """Runs a command on a run: "refused", "said", "same" numbers, or "silent": other numbers."""
    logger, handler, warnings = logging.getLogger("segen"), logging.Handler(logging.WARNING), []
    handler.emit = lambda record: warnings.append(record.getMessage())
    handlers = mock.patch.object(logger, "handlers", [handler])
    with handlers, contextlib.redirect_stderr(io.StringIO()):
        try:
            found = action(workdir)
        except CommandExit:
            return "refused"
    if warnings:
        return "said"
    return "same" if found == expected else "silent"


def storm(folder: Path, flips: int, seed: int) -> dict:
    """Flips one bit at a time of a copy of a run, and evaluates the copy or goes on with it.

    Args:
      folder: an empty folder.
      flips: how many, by turns of all files.
      seed: of the bits.

    Returns:
      How many commands refused the run, said that it is damaged, gave the same numbers, or
      silently other ones; and the files of those.
    """
    chance, count, silent = random.Random(seed), collections.Counter(), []
    whole, copy = folder / "run", folder / "copy"
    with quick():
        train_run(whole, SAVED)
        expected = {}
        for action in (scores, resumed):
            shutil.copytree(whole, copy)
            expected[action] = action(copy)
            shutil.rmtree(copy)
        files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
        files = [name for name in files if (whole / name).stat().st_size]
        for number in range(flips):
            name = files[number % len(files)]
            action = (scores, resumed)[(number + number // len(files)) % 2]
            shutil.copytree(whole, copy)
            flip(copy / name, chance)
            result = outcome(action, copy, expected[action])
            count[result] += 1
            silent += [f"{action.__name__}: {name}"] if result == "silent" else []
            shutil.rmtree(copy)
    return {key: count[key] for key in ("refused", "said", "same", "silent")} | {"files": silent}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(storm(Path(place), options.flips, options.seed)))
