"""A training, from a config to the last checkpoint."""

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from launch import checkpoints, distributed
from launch.checkpoints.writer import CheckpointWriter
from launch.config import run_config, schema
from launch.config.errors import Diverged, UserError
from launch.data import batches, order
from launch.engine import experiments, sharding
from launch.engine.evaluation import Evaluator, Monitor
from launch.engine.loop import Schedule, run_loop
from launch.engine.pending import Speed
from launch.reporting.metrics_writer import MetricsWriter
from launch.storage.workdir import Workdir, make_workdir

logger = logging.getLogger("segen")

DATA_SECONDS = 3600.0  # that processes wait for one that still decodes its data
ADVICE = "Try a lower learning rate or optimizer.clip_norm; labels that are no class do this too"


def train(
    config: ConfigDict,  # complete and checked; stays as it is
    workdir: Path,  # made if it is not there, continued if it holds this run
    *,
    group: distributed.Group = distributed.ALONE,  # the processes, each of which calls this
    began: float | None = None,  # the `time.perf_counter()` from which the first step is timed
    make_monitor: Callable[[experiments.Experiment, batches.Data], Monitor] | None = None,
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
        group.check_same("the config", _shared_keys(config))
        config = _continued_config(workdir, config)
        data, held_out = group.on_all("the data", partial(_open_data, config), DATA_SECONDS)
        group.check_same("the data", batches.facts(data) | {"size": data.split.size})
        config = experiments.with_classes(config, data.split)
        experiment = experiments.build(config, data)
        monitor = make_monitor(experiment, held_out) if make_monitor else Monitor()
        if config.collapse.rule:
            from launch.engine import recovery  # an option that few runs take

            names = experiments.metric_names(experiment) | monitor.names
            recovery.check_rule(config.collapse.rule, names)
        if group.processes > 1:
            sharding.warm_up_collectives(experiment.mesh)
        start = _newest_step(workdir, config.train.steps_per_dispatch, group)
        if start >= config.train.steps:
            logger.info(f"{workdir} is done: step {start:,} of {config.train.steps:,}")
            return
        record = run_config.to_json(config, batches.facts(data))
        group.on_process_zero("config.json", partial(run_config.write, workdir, record))
        title, size = data.split.title, data.split.size
        logger.info(f"{title}: {size:,} examples; {_describe(experiment.mesh, group)}")
        attempt = partial(
            train_attempt,
            config,
            experiment,
            data,
            held_out,
            place=place,
            monitor=monitor,
            group=group,
            record=json.loads(record),
            began=began,
        )
        counters = _saved_counters(workdir, start)
        while True:
            try:
                attempt(start, counters)
                break
            except Diverged as error:
                rollbacks = counters["rollbacks"] + 1
                if config.nonfinite.action != "rollback" or rollbacks > config.nonfinite.times:
                    raise
                start = _newest_step(workdir, config.train.steps_per_dispatch, group)
                counters = _saved_counters(workdir, start) | Counter(rollbacks=rollbacks)
                logger.warning(
                    f"{error}\ngoing back to step {start:,}, and on in order {rollbacks} of the "
                    "data"
                )
        logger.info(f"done: {workdir} (figures/, metrics.jsonl, checkpoints/, tensorboard/)")


def train_attempt(
    config: ConfigDict,
    experiment: experiments.Experiment,
    data: batches.Data,  # the training split
    held_out: batches.Data,  # the evaluation split
    start: int,  # the step to start from; 0 for a fresh state
    counters: Counter,  # how often the run recovered; counted up, saved in each checkpoint
    *,
    place: Workdir,
    monitor: Monitor,
    group: distributed.Group,
    record: dict,  # config, versions and facts, saved in each checkpoint
    began: float,
) -> None:
    """Trains from one step to the end: opens, restores, loops, closes.

    Raises:
      Diverged: a loss or a parameter is not finite; the batch of that step is kept.
      Collapsed, Interrupted, UserError: see `launch.config.errors`.
    """
    folder, compiled = place.path / "checkpoints", experiment.compiled
    seed = order.order_seed(config.seed, counters["rollbacks"])
    with contextlib.ExitStack() as stack:
        writer = CheckpointWriter(
            folder,
            config.checkpoint.keep,
            config.checkpoint.best,
            is_eligible=_eligibility(config.collapse.rule),
            before_commit=place.sync,
        )
        stack.enter_context(contextlib.closing(writer))
        state = compiled.load(_first_state(experiment, folder, start, config.init_from))
        sinks = ()
        if group.is_process_zero:
            from launch.reporting.sinks import standard_sinks

            steps, batch_size = config.train.steps, config.data.batch_size
            sinks = standard_sinks(place.local_path, start, steps, batch_size)
        metrics = MetricsWriter(sinks)
        stack.enter_context(contextlib.closing(metrics))
        keep_batch = partial(_keep_batch, data, config.data, seed, place.local_path, group)
        check_collapse = on_skipped = None
        if config.collapse.rule:
            from launch.engine.recovery import CollapseCheck

            check_collapse = CollapseCheck(
                config.collapse,
                best=config.checkpoint.best,
                folder=folder,
                template=compiled.template,
                recover=experiment.task.recover,
                counters=counters,
                checkpoint_writer=writer,
                metrics=metrics,
                group=group,
            )
        if config.nonfinite.action == "skip":
            from launch.engine.recovery import note_skipped

            on_skipped = partial(
                note_skipped,
                times=config.nonfinite.times,
                counters=counters,
                keep_batch=keep_batch,
                metrics=metrics,
            )
        evaluate = Evaluator(
            experiment,
            held_out,
            split=config.eval.split,
            batch_size=config.eval.batch_size,
            metrics=metrics,
            monitor=monitor,
            check_collapse=check_collapse,
        )
        try:
            run_loop(
                compiled,
                state,
                start,
                schedule=schedule_of(config),
                feed=feed_of(config, data, seed, start),
                finish=experiment.task.finish,
                evaluate=evaluate,
                checkpoints=writer,
                record=lambda: record | {"recovery": dict(counters)},
                metrics=metrics,
                speed=Speed(config.data.batch_size),
                on_first_step=lambda: logger.info(
                    f"first step after {time.perf_counter() - began:.1f} s"
                ),
                on_skipped=on_skipped,
                group=group,
            )
        except Diverged as error:
            writer.wait()
            keep_batch(error.step)
            raise Diverged(f"{error}; {_last_good(folder)}. {ADVICE}", error.step)


def schedule_of(config: ConfigDict) -> Schedule:
    """When a training logs, evaluates and saves."""
    return Schedule(
        steps=config.train.steps,
        steps_per_dispatch=config.train.steps_per_dispatch,
        log=config.log.every,
        evaluate=config.eval.every,
        save=config.checkpoint.every,
    )


def feed_of(config: ConfigDict, data: batches.Data, seed: int, start: int) -> Iterator[dict]:
    """This process's numpy batches from step `start` on, without end.

    Args:
      config: the config.
      data: the training split.
      seed: of the order of the data.
      start: steps done so far.
    """
    place = sharding.process_place()
    if config.data.resident:
        count = config.train.steps_per_dispatch
        return batches.index_batches(data, config.data, seed, start, count, *place)
    return batches.train_batches(data, config.data, seed, start, *place)


def _open_data(config):
    return (
        batches.open_data(config.data, config.data.split, "config.data"),
        batches.open_data(config.data, config.eval.split, "config.eval"),
    )


def _first_state(experiment, folder, start, init_from):
    """The state of the checkpoint to go on from, or a fresh one."""
    if not start:
        return experiments.initial_state(experiment, init_from)
    from launch.checkpoints import restoring  # which a fresh run does without

    logger.info(f"going on from step {start:,} of {folder}")
    return restoring.restore(folder, start, experiment.compiled.template)


def _shared_keys(config):
    """The keys that all processes must agree on: all but where each finds its data."""
    own = ("data.data_dir", "data.path", "data.threads", "data.workers")
    flat = schema.flatten(config.to_dict())
    return {key: value for key, value in flat.items() if key not in own}


def _continued_config(workdir, config):
    """The config, checked against the run that the workdir holds, if it holds one."""
    if not (workdir / "config.json").is_file():
        if checkpoints.steps(workdir / "checkpoints"):
            raise UserError(f"{workdir} has checkpoints but no config.json; take another --workdir")
        return config
    old = run_config.read_config(workdir)
    if config.task.get("classes") == -1:  # as many as the data had when the run began
        config = schema.with_values(config, {"task.classes": old.task.get("classes", -1)})
    changed = run_config.differences(old, config)
    if changed:
        raise UserError(
            f"{workdir} holds a run with another config:\n  "
            + "\n  ".join(changed)
            + "\nTake another --workdir (with --config.init_from to start from its parameters), "
            "or give the old values to go on with it."
        )
    return config


def _newest_step(workdir, steps_per_dispatch, group):
    """The newest whole step, 0 if there is none; a damaged newer one is set aside."""
    folder = workdir / "checkpoints"
    find = partial(checkpoints.newest_whole, folder, discard=True)
    start = group.on_process_zero("the newest checkpoint", find) or 0
    if start % steps_per_dispatch:
        raise UserError(
            f"{folder} stands at step {start}, which is not a multiple of "
            f"config.train.steps_per_dispatch={steps_per_dispatch}"
        )
    return start


def _saved_counters(workdir, step):
    """How often the run had recovered when a step was saved."""
    return Counter(checkpoints.record(workdir / "checkpoints", step).get("recovery", {}))


def _eligibility(rule):
    """(metrics) -> whether a step may become the best: one that passes the rule."""
    if not rule:
        return lambda metrics: True
    from launch.engine.recovery import passes_rule

    return partial(passes_rule, rule)


def _keep_batch(data, section, seed, folder, group, step):
    """Keeps the batch of a step whose loss was not finite, for inspection."""
    if not group.is_process_zero or not step:
        return
    from launch.engine.recovery import keep_batch

    keep_batch(folder, batches.batch_at(data, section, seed, step - 1), step)


def _last_good(folder):
    saved = checkpoints.steps(folder)
    return f"the last good checkpoint is step {saved[-1]}" if saved else "nothing was saved yet"


def _describe(mesh, group):
    axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1)
    kind = mesh.devices.flat[0].device_kind
    hosts = f", {group.processes} processes" if group.processes > 1 else ""
    return f"{mesh.size} x {kind}" + (f" ({axes})" if axes else "") + hosts
