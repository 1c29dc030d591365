"""A training, from a config to the last checkpoint."""

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from launch import checkpoints, distributed
from launch.checkpoints.writer import CheckpointWriter
from launch.config import run_config, schema
from launch.config.errors import Diverged, UserError
from launch.data import batches, order
from launch.engine import evaluation, experiments, sharding
from launch.engine.evaluation import Evaluator, Monitor
from launch.engine.loop import Schedule, run_loop
from launch.engine.pending import Speed
from launch.reporting.metrics_writer import MetricsWriter
from launch.reporting.sinks import standard_sinks
from launch.storage.workdir import Workdir, make_workdir

logger = logging.getLogger("segen")
ADVICE = "Try a lower learning rate or optimizer.clip_norm; labels that are no class do this too"


def train(
    config: ConfigDict,  # complete and checked; stays as it is
    workdir: Path,  # made if it is not there, continued if it holds this run
    *,
    group: distributed.Group = distributed.ALONE,  # the processes, each of which calls this
    began: float | None = None,  # the `time.perf_counter()` from which the first step is timed
    make_monitor: Callable[..., Monitor] | None = None,  # (experiment, held_out, *, classes)
    load_encoder: Callable | None = None,  # (state's template) -> (state -> state)
) -> None:
    """Runs a whole training, or continues the one in the workdir.

    A loss that is not finite ends an attempt. Where `config.nonfinite` allows it, the next
    attempt starts from the last checkpoint and takes the data in another order.

    Raises:
      UserError, Diverged, Collapsed, Interrupted: see `launch.config.errors`.
    """
    began = time.perf_counter() if began is None else began
    sharding.set_up_jax()
    place = make_workdir(workdir)
    with contextlib.ExitStack() as stack:
        group.on_process_zero("the workdir", lambda: stack.enter_context(place.open()))
        group.check_shared(workdir)
        group.share_compilation_cache(workdir)
        group.check_same("the config", run_config.shared_keys(config.to_dict()))
        config = run_config.check_continues(workdir, config)
        source = partial(experiments.check_source, config.init_from, workdir)
        group.on_process_zero("config.init_from", source)
        config = run_config.with_plan(config, group.on_process_zero)
        splits = config.data, config.eval.split, workdir, config.task
        open_splits = partial(batches.open_splits, *splits)
        data, held_out = group.on_all("the data", open_splits, distributed.DATA_SECONDS)
        group.check_same("the data", batches.facts(data) | {"size": data.split.size})
        config = experiments.with_classes(config, data.split)
        experiment = experiments.build(config, data)
        for key, value in (("score.samples", make_monitor), ("encoder.weights", load_encoder)):
            if schema.value_at(config, key) and not value:
                raise UserError(f"config.{key} is for launch.train alone; leave it out")
        classes = config.task.get("classes", 0)
        monitor = make_monitor(experiment, held_out, classes=classes) if make_monitor else Monitor()
        evaluation.check_rule(config.collapse.rule, experiment, monitor)
        sharding.warm_up_collectives(experiment.mesh, group.processes)
        start, counters = _newest(workdir, config.train.steps_per_dispatch, group)
        if start >= config.train.steps:
            logger.info(f"{workdir} is done: step {start:,} of {config.train.steps:,}")
            return
        if load_encoder and not start:
            load = partial(load_encoder, experiment.compiled.template)
            experiment = experiment._replace(pretrained=group.on_all("the encoder's weights", load))
        record = run_config.to_json(config, batches.facts(data))
        group.on_process_zero("config.json", partial(run_config.write, workdir, record))
        on = sharding.describe(experiment.mesh, group.processes)
        logger.info(f"{data.split.title}: {data.split.size:,} examples; {on}")
        rest = {"place": place, "monitor": monitor, "group": group, "began": began}
        attempt = partial(train_attempt, config, experiment, data, held_out, **rest)
        while True:
            try:
                attempt(start, counters, record=json.loads(record))
                break
            except Diverged as error:
                rollbacks = counters["rollbacks"] + 1
                if config.nonfinite.action != "rollback" or rollbacks > config.nonfinite.times:
                    raise
                start, counters = _newest(workdir, config.train.steps_per_dispatch, group)
                counters["rollbacks"] = rollbacks
                going = f"going back to step {start:,}, and on in order {rollbacks} of the data"
                logger.warning(f"{error}\n{going}")
        logger.info(f"done: {workdir} (figures/, metrics.jsonl, checkpoints/, tensorboard/)")


def train_attempt(
    config: ConfigDict,  # complete and checked
    experiment: experiments.Experiment,  # what the config describes
    data: batches.Data,  # the training split
    held_out: batches.Data,  # the evaluation split
    start: int,  # the step to start from; 0 for a fresh state
    counters: Counter,  # how often the run recovered; counted up, saved in each checkpoint
    *,
    record: dict,  # config, versions and facts, saved in each checkpoint
    place: Workdir,  # the run's folder, held by this run
    monitor: Monitor,  # adds scores to the evaluations
    group: distributed.Group,  # the processes of the run
    began: float,  # the time from which the first step is timed
) -> None:
    """Trains from one step to the end: opens, restores, loops, closes.

    Raises:
      Diverged: a loss or a parameter is not finite; the batch of that step is kept.
      Collapsed, Interrupted, UserError: see `launch.config.errors`.
    """
    folder, rule, best = place.path / "checkpoints", config.collapse.rule, config.checkpoint.best
    seed = order.order_seed(config.seed, counters["rollbacks"])
    steps, stride = config.train.steps, config.train.steps_per_dispatch
    first = partial(experiments.first_state, experiment, folder, start)
    every, checks = (config.log.every, config.eval.every, config.checkpoint.every), {}

    def keep_batch(step: int | None) -> None:
        if group.is_process_zero and step:
            from launch.engine import recovery

            kept = batches.batch_at(data, config.data, seed, step - 1)
            recovery.keep_batch(place.local_path, kept, step)

    with contextlib.ExitStack() as stack:
        keep, good = config.checkpoint.keep, partial(evaluation.passes, rule)
        writer = CheckpointWriter(folder, keep, best, good, place.check_held, place.sync)
        stack.enter_context(contextlib.closing(writer))
        batch, before = config.data.batch_size, checkpoints.record(folder, start)
        sinks = partial(standard_sinks, place.local_path, start, steps, batch, before, best)
        metrics = MetricsWriter(sinks() if group.is_process_zero else ())
        stack.enter_context(contextlib.closing(metrics))
        if rule or config.nonfinite.action == "skip":
            from launch.engine import recovery

            checks = recovery.make_checks(
                config.collapse,
                config.nonfinite,
                experiment,
                best=best,
                checkpoint_writer=writer,
                keep_batch=keep_batch,
                counters=counters,
                metrics=metrics,
                group=group,
            )
        evaluate = Evaluator(
            experiment,
            held_out,
            split=config.eval.split,
            batch_size=config.eval.batch_size,
            metrics=metrics,
            monitor=monitor,
            check_collapse=checks.get("check_collapse"),
        )
        try:
            run_loop(
                experiment,
                experiment.compiled.load(first(config.init_from, config.init_part)),
                start,
                schedule=Schedule(steps, stride, *every),
                feed=batches.feed(data, config.data, seed, start, stride),
                evaluate=evaluate,
                checkpoint_writer=writer,
                record=lambda: record | {"recovery": dict(counters)} | metrics.facts(),
                metrics=metrics,
                speed=Speed(config.data.batch_size),
                began=began,
                on_skipped=checks.get("on_skipped"),
                group=group,
            )
        except Diverged as error:
            writer.wait()
            keep_batch(error.step)
            kept = group.on_process_zero("the last good checkpoint", writer.last_good)
            raise Diverged(f"{error}; {kept}. {ADVICE}", error.step)


def _newest(workdir, steps_per_dispatch, group):
    """The newest whole step, 0 if there is none, and its counters; sets damaged ones aside."""
    folder = workdir / "checkpoints"
    find = partial(checkpoints.newest_whole, folder, discard=True)
    start = group.on_process_zero("the newest checkpoint", find) or 0
    if start % steps_per_dispatch:
        raise UserError(
            f"{folder} stands at step {start}, which is not a multiple of "
            f"config.train.steps_per_dispatch={steps_per_dispatch}"
        )
    return start, Counter(checkpoints.record(folder, start).get("recovery", {}))
