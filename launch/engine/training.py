"""A training, from a config to the last checkpoint."""

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
            train_attempt, config, experiment, data, held_out, place=place, monitor=monitor,
            group=group, record=json.loads(record), began=began,
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
                    f"{error}\ngoing back to step {start:,}, and on in order {rollbacks} of the data"
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
            keep=config.checkpoint.keep,
            best=config.checkpoint.best,
            is_eligible=_eligibility(config.collapse.rule),
            before_commit=place.sync,
        )
        stack.enter_context(contextlib.closing(writer))
        if start:
            logger.info(f"going on from step {start:,} of {folder}")
            state = checkpoints.restore(folder, start, compiled.template)
        else:
            state = experiments.initial_state(experiment, config.init_from)
        metrics = MetricsWriter(_sinks(config, place, start) if group.first else ())
        stack.enter_context(contextlib.closing(metrics))
        keep_batch = partial(_keep_batch, config, data, seed, place.local_path, group)
        run_loop(
            ...
        )
