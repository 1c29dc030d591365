"""python -m launch.train --config=configs/vae.py --workdir=runs/vae

Trains what a config describes. Given a workdir that holds a run, goes on from its
newest whole checkpoint and ends with the very parameters of a run never stopped.
"""

import logging
import time

from launch.config import run_config, schema

BEGAN = time.perf_counter()  # before the imports, which a person waits for as well

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from launch import checkpoints, cli, distributed
from launch.checkpoints.writer import Writer
from launch.config import loading
from launch.config.errors import Diverged, UserError
from launch.data import batches
from launch.engine import collapse, experiments, loop, nonfinite, sharding
from launch.reporting.metrics_writer import MetricsWriter, Silent
from launch.scoring import features, sample_metrics
from launch.storage.workdir import Workdir

logger = logging.getLogger("segen")

# Seconds that processes wait for one that still decodes its data.
OPENING = 3600.0


def main(argv: list[str]) -> None:
    """Parses the command line and trains."""
    arguments = cli.parser("train", "Trains what a config describes, or goes on with it.")
    arguments.add_argument("--config", required=True, help="FILE.py or FILE.py:VARIANT")
    arguments.add_argument(
        "--workdir", type=cli.workdir, help="where the run lives (default: runs/NAME of the config)"
    )
    distributed.add_arguments(arguments)
    options, overrides = cli.parse(arguments, argv)
    config = cli.override(loading.load(options.config), overrides)
    workdir = options.workdir or cli.workdir(f"runs/{_name(options.config)}")
    sharding.setup()
    group = distributed.start(options)
    with group.abort_together():
        train(config, workdir, group=group)


def train(
    config: ConfigDict,
    workdir: Path,
    began: float = BEGAN,
    group: distributed.Group = distributed.ALONE,
) -> None:
    """Runs a whole training, from a config to the last checkpoint.

    Args:
      config: a complete, checked config.
      workdir: absolute; made if it is not there, gone on with if it is.
      began: `time.perf_counter()` from which the time to the first step counts.
      group: the processes that train together, each of which calls this.

    Raises:
      UserError, Diverged, Interrupted: see `launch.config.errors`.
    """
    sharding.setup()
    home = Workdir(workdir)
    with contextlib.ExitStack() as stack:
        group.on_process_zero("the workdir", lambda: stack.enter_context(home.open()))
        _train(config, home, began, group)


def _train(config, home, began, group):
    workdir = home.workdir
    group.check_shared(workdir)
    if group.processes > 1:
        sharding.keep_compiled(group.hosts, workdir)
    group.check_same("the config", _shared_keys(config))
    _claim(workdir, config)
    data, held_out = group.on_all("the data", partial(_open, config), OPENING)
    group.check_same("the data", batches.facts(data) | {"size": data.split.size})
    experiments.count_classes(config, data.split)
    experiment = experiments.build(config, data)
    score, scored = monitor(config, experiment, held_out)
    collapse.check(config, experiments.metric_names(experiment) | scored)
    if group.processes > 1:
        sharding.warm_up_collectives(experiment.mesh)
    start = _newest(config, workdir, group)
    if start >= config.train.steps:
        return logger.info(f"{workdir} is done: step {start:,} of {config.train.steps:,}")
    record = run_config.to_json(config, batches.facts(data))
    group.on_process_zero("config.json", partial(run_config.write, workdir, record))
    logger.info(
        f"{data.split.title}: {data.split.size:,} examples; {_describe(experiment.mesh, group)}"
    )
    rollbacks = checkpoints.record(workdir / "checkpoints", start).get("rollbacks", 0)
    while True:
        told = json.loads(record) | {"rollbacks": rollbacks}
        session = Session(config, home, group, data, held_out, experiment, score, told)
        try:
            session.go(start, began)
            break
        except Diverged as problem:
            if group.first and problem.step:
                nonfinite.keeper(config, home.folder, data, rollbacks)(problem.step)
            if config.nonfinite.action != "rollback" or rollbacks >= config.nonfinite.times:
                raise
            rollbacks, start = rollbacks + 1, _newest(config, workdir, group)
            logger.info(
                f"{problem}\ngoing back to step {start:,}, and on in order {rollbacks} of the data"
            )
    logger.info(f"done: {workdir} (figures/, metrics.jsonl, checkpoints/, tensorboard/)")


class Session(NamedTuple):
    """What a training rests on from its start, or a going back, to its end.

    Attributes:
      config, group: as of `train`.
      home: the workdir, held.
      data, held_out: the training and the evaluation split.
      experiment: the assembled run.
      score: (state) -> scores of samples.
      record: what each checkpoint says of the run; `rollbacks` is how often it went back.
    """

    config: ConfigDict
    home: Workdir
    group: distributed.Group
    data: batches.Data
    held_out: batches.Data
    experiment: experiments.Experiment
    score: Callable
    record: dict

    def go(self, start: int, began: float) -> None:
        """Trains from step `start` to the end; see `loop.train` for what it raises."""
        config, experiment, group, home = self.config, self.experiment, self.group, self.home
        folder = home.workdir / "checkpoints"
        keep, best, rollbacks = (
            config.checkpoint.keep,
            config.checkpoint.best,
            self.record["rollbacks"],
        )
        sound = partial(collapse.passes_rule, config)
        writer = Writer(folder, keep, best, sound, home.publish)
        with contextlib.closing(writer):
            state = experiment.compiled.load(_state(config, experiment, folder, start))
            journal = self.journal(
                start, began, nonfinite.keeper(config, home.folder, self.data, rollbacks)
            )
            recover = getattr(experiment.task, "recover", None)
            judge = collapse.make_collapse_check(
                config,
                recover,
                experiment.compiled.template,
                folder,
                home.folder,
                writer,
                journal.note,
                group,
            )
            judged = evaluator(config, experiment, self.held_out, journal, self.score, judge)
            batches_from = feed(config, self.data, start, rollbacks)
            with contextlib.closing(journal):
                loop.train(
                    experiment.compiled,
                    plan(config),
                    batches_from,
                    state,
                    start,
                    judged,
                    writer,
                    self.record,
                    journal,
                    group,
                )

    def journal(self, start: int, began: float, keep: Callable) -> MetricsWriter:
        """What this process reports; batches that are left out are noted there."""
        kind = MetricsWriter if self.group.first else Silent
        config, group, finish = self.config, self.group, self.experiment.task.finish
        made = kind(
            self.home.folder,
            finish,
            config.train.steps,
            config.data.batch_size,
            start,
            began,
            group.processes,
        )
        if config.nonfinite.action == "skip":
            made.skip = nonfinite.skipper(config, self.home.folder, keep, made.note, group)
        return made


def _newest(config, workdir, group):
    """The newest whole step, 0 if there is none; a damaged newer one is set aside."""
    folder = workdir / "checkpoints"
    find = partial(checkpoints.newest_whole, folder, discard=True)
    start = group.on_process_zero("the newest checkpoint", find) or 0
    if start % config.train.steps_per_dispatch:
        raise UserError(
            f"{folder} stands at step {start}, which is not a multiple of "
            f"config.train.steps_per_dispatch={config.train.steps_per_dispatch}"
        )
    return start


def plan(config: ConfigDict) -> loop.Schedule:
    """When to log, evaluate and save."""
    return loop.Schedule(
        steps=config.train.steps,
        stride=config.train.steps_per_dispatch,
        log=config.log.every,
        evaluate=config.eval.every,
        save=config.checkpoint.every,
    )


def feed(config: ConfigDict, data: batches.Data, start: int, rollbacks: int = 0):
    """This process's numpy batches from step `start` on, for ever."""
    place, seed = sharding.process_place(), nonfinite.order_seed(config.seed, rollbacks)
    if config.data.resident:
        count = config.train.steps_per_dispatch
        return batches.index_batches(data, config.data, seed, start, count, *place)
    return batches.train_batches(data, config.data, seed, start, *place)


def monitor(
    config: ConfigDict, experiment: experiments.Experiment, data: batches.Data
) -> tuple[Callable, set[str]]:
    """(state) -> scores of `config.score.samples` samples, and the names of these scores."""
    count = config.score.samples
    if not count:
        return lambda state: {}, set()
    sample_metrics.check_one_process(count)
    net = features.build(config.score.features, config.data, config.eval.split)
    classes = config.task.get("classes", 0)
    score = sample_metrics.make_monitor(
        experiment, data, net, config.eval.batch_size, count, classes
    )
    return score, sample_metrics.monitor_names(net)


def evaluator(
    config: ConfigDict,
    experiment: experiments.Experiment,
    data: batches.Data,
    journal: MetricsWriter,
    score: Callable = lambda state: {},
    judge: Callable = lambda metrics, step: None,
) -> Callable:
    """(state, step) -> metrics of the evaluation split, and what `judge` makes of them.

    Writes the metrics, with those that `score` gives of the state, and the figures. Where
    `judge` gives another state to go on with, the metrics are that one's.
    """
    rows = -(-min(config.eval.batch_size, 64) // experiment.mesh.size) * experiment.mesh.size
    shown = next(batches.eval_batches(data, rows, *sharding.process_place()))

    def report(state, step):
        metrics = experiments.evaluate(
            experiment, state, data, config.eval.batch_size, experiment.compiled.eval_step
        )
        metrics |= score(state)
        journal.evaluation(step, config.eval.split, metrics)
        images = experiment.compiled.figures(state, experiment.compiled.put_batch(shown))
        journal.figures(step, jax.device_get(images))
        return metrics

    def evaluate(state, step):
        metrics = report(state, step)
        other = judge(metrics, step)
        return (metrics, None) if other is None else (report(other, step), other)

    return evaluate


def _open(config):
    split = config.data.split, config.eval.split
    sections = "config.data", "config.eval"
    return tuple(
        batches.open_data(config.data, *which) for which in zip(split, sections, strict=True)
    )


def _shared_keys(config):
    """What all processes must agree on: all but where each finds its data."""
    own = ("data.data_dir", "data.path", "data.threads", "data.workers")
    flat = schema.flatten(config.to_dict())
    return {key: value for key, value in flat.items() if key not in own}


def _claim(workdir, config):
    """Checks that the workdir is new or holds this very run."""
    if not (workdir / "config.json").is_file():
        if checkpoints.steps(workdir / "checkpoints"):
            raise UserError(f"{workdir} has checkpoints but no config.json; take another --workdir")
        return
    old = run_config.read_config(workdir)
    if config.task.get("classes") == -1:  # as many as the data had when the run began
        config.task.classes = old.task.get("classes", -1)
    changed = run_config.differences(old, config)
    if changed:
        raise UserError(
            f"{workdir} holds a run with another config:\n  "
            + "\n  ".join(changed)
            + "\nTake another --workdir (with --config.init_from to start from its parameters), "
            "or give the old values to go on with it."
        )


def _state(config, experiment, folder, start):
    """A fresh state, or that of the checkpoint to go on from."""
    if not start:
        return experiments.initial_state(config, experiment)
    logger.info(f"going on from step {start:,} of {folder}")
    return checkpoints.restore(folder, start, experiment.compiled.template)


def _describe(mesh, group):
    axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1)
    kind = mesh.devices.flat[0].device_kind
    hosts = f", {group.processes} processes" if group.processes > 1 else ""
    return f"{mesh.size} x {kind}" + (f" ({axes})" if axes else "") + hosts


def _name(spec):
    path, _, variant = spec.partition(":")
    return Path(path).stem + (f"_{variant}" if variant else "")


if __name__ == "__main__":
    cli.run(main)
