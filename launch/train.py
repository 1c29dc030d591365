"""python -m launch.train --config=configs/vae.py --workdir=runs/vae

Trains what a config describes. Given a workdir that holds a run, goes on from its
newest whole checkpoint and ends with the very parameters of a run never stopped.
"""

import time

BEGAN = time.perf_counter()  # before the imports, which a person waits for as well

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from launch import checkpoints, cli, devices, features, guard, lock, loop, scores
from launch import config as configs
from launch import run as runs
from launch.data import batches
from launch.errors import Mistake
from launch.journal import Journal


def main(argv: list[str]) -> None:
    """Parses the command line and trains."""
    arguments = cli.parser("train", "Trains what a config describes, or goes on with it.")
    arguments.add_argument("--config", required=True, help="FILE.py or FILE.py:VARIANT")
    arguments.add_argument("--workdir", type=cli.workdir, help="where the run lives (default: "
                           "runs/NAME of the config)")  # fmt: skip
    options, overrides = cli.parse(arguments, argv)
    config = cli.override(configs.load(options.config), overrides)
    workdir = options.workdir or cli.workdir(f"runs/{_name(options.config)}")
    train(config, workdir)


def train(config: ConfigDict, workdir: Path, began: float = BEGAN) -> None:
    """Runs a whole training, from a config to the last checkpoint.

    Args:
      config: a complete, checked config.
      workdir: absolute; made if it is not there, gone on with if it is.
      began: `time.perf_counter()` from which the time to the first step counts.

    Raises:
      Mistake, Diverged, Interrupted: see `launch.errors`.
    """
    devices.setup()
    workdir.mkdir(parents=True, exist_ok=True)
    with lock.held(workdir / lock.NAME, partial(_in_use, workdir)):
        _train(config, workdir, began)


def _train(config, workdir, began):
    _claim(workdir, config)
    data = batches.open_data(config.data, config.data.split, "config.data", cli.say)
    held_out = batches.open_data(config.data, config.eval.split, "config.eval", cli.say)
    runs.count_classes(config, data.split)
    run = runs.assemble(config, data)
    score, scored = monitor(config, run, held_out)
    guard.check(config, runs.metric_names(run) | scored)
    folder = workdir / "checkpoints"
    start = checkpoints.newest_whole(folder, cli.say, discard=True) or 0
    if start % config.train.steps_per_dispatch:
        raise Mistake(
            f"{folder} stands at step {start}, which is not a multiple of "
            f"config.train.steps_per_dispatch={config.train.steps_per_dispatch}"
        )
    if start >= config.train.steps:
        return cli.say(f"{workdir} is done: step {start:,} of {config.train.steps:,}")
    record = configs.to_json(config, batches.facts(data))
    configs.write(workdir, record)
    keep, best = config.checkpoint.keep, config.checkpoint.best
    recover = getattr(run.task, "recover", None)
    watch = partial(guard.watch, config, recover, run.program.template, workdir)
    sound = partial(guard.sound, config)
    with contextlib.closing(checkpoints.Writer(folder, keep, best, sound)) as writer:
        state = _state(config, run, folder, start)
        cli.say(f"{data.split.title}: {data.split.size:,} examples; {_describe(run.mesh)}")
        steps, batch_size = config.train.steps, config.data.batch_size
        journal = Journal(workdir, run.task.finish, steps, batch_size, start, began)
        with contextlib.closing(journal):
            loop.train(
                run.program,
                plan(config),
                feed(config, data, start),
                run.program.load(state),
                start,
                evaluator(config, run, held_out, journal, score, watch(writer, journal.note)),
                writer,
                json.loads(record),
                journal,
            )
    cli.say(f"done: {workdir} (figures/, metrics.jsonl, checkpoints/, tensorboard/)")


def plan(config: ConfigDict) -> loop.Plan:
    """When to log, evaluate and save."""
    return loop.Plan(
        steps=config.train.steps,
        stride=config.train.steps_per_dispatch,
        log=config.log.every,
        evaluate=config.eval.every,
        save=config.checkpoint.every,
    )


def feed(config: ConfigDict, data: batches.Data, start: int):
    """This process's numpy batches from step `start` on, for ever."""
    place = (jax.process_index(), jax.process_count())
    if config.data.resident:
        count = config.train.steps_per_dispatch
        return batches.index_batches(data, config.data, config.seed, start, count, *place)
    return batches.train_batches(data, config.data, config.seed, start, *place)


def monitor(config: ConfigDict, run: runs.Run, data: batches.Data) -> tuple[Callable, set[str]]:
    """(state) -> scores of `config.score.samples` samples, and the names of these scores."""
    count = config.score.samples
    if not count:
        return lambda state: {}, set()
    known = features.build(config)
    classes = config.task.get("classes", 0)
    score = scores.monitor(run, data, known, config.eval.batch_size, count, classes)
    return score, scores.monitored(known)


def evaluator(
    config: ConfigDict,
    run: runs.Run,
    data: batches.Data,
    journal: Journal,
    score: Callable = lambda state: {},
    judge: Callable = lambda metrics, step: None,
) -> Callable:
    """(state, step) -> metrics of the evaluation split, and what `judge` makes of them.

    Writes the metrics, with those that `score` gives of the state, and the figures. Where
    `judge` gives another state to go on with, the metrics are that one's.
    """
    rows = -(-min(config.eval.batch_size, 64) // run.mesh.size) * run.mesh.size
    shown = next(batches.eval_batches(data, rows))

    def report(state, step):
        metrics = runs.evaluate(run, state, data, config.eval.batch_size, run.program.eval_step)
        metrics |= score(state)
        journal.evaluation(step, config.eval.split, metrics)
        images = run.program.figures(state, run.program.put_batch(shown))
        journal.figures(step, jax.device_get(images))
        return metrics

    def evaluate(state, step):
        metrics = report(state, step)
        other = judge(metrics, step)
        return (metrics, None) if other is None else (report(other, step), other)

    return evaluate


def _in_use(workdir, holder):
    raise Mistake(f"{workdir} is in use by {holder}; let it end, or take another --workdir")


def _claim(workdir, config):
    """Checks that the workdir is new or holds this very run."""
    if not (workdir / "config.json").is_file():
        if checkpoints.steps(workdir / "checkpoints"):
            raise Mistake(f"{workdir} has checkpoints but no config.json; take another --workdir")
        return
    old = configs.read(workdir)
    if config.task.get("classes") == -1:  # as many as the data had when the run began
        config.task.classes = old.task.get("classes", -1)
    changed = configs.differences(old, config)
    if changed:
        raise Mistake(
            f"{workdir} holds a run with another config:\n  "
            + "\n  ".join(changed)
            + "\nTake another --workdir (with --config.init_from to start from its parameters), "
            "or give the old values to go on with it."
        )


def _state(config, run, folder, start):
    """A fresh state, or that of the checkpoint to go on from."""
    if not start:
        return runs.initial_state(config, run)
    cli.say(f"going on from step {start:,} of {folder}")
    return checkpoints.restore(folder, start, run.program.template)


def _describe(mesh):
    axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1)
    kind = mesh.devices.flat[0].device_kind
    return f"{mesh.size} x {kind}" + (f" ({axes})" if axes else "")


def _name(spec):
    path, _, variant = spec.partition(":")
    return Path(path).stem + (f"_{variant}" if variant else "")


if __name__ == "__main__":
    cli.run(main)
