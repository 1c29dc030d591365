"""From a config to a compiled task: what train, evaluate, sample and bench share."""

import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from launch import checkpoints, cli, storage
from launch.checkpoints import restoring
from launch.config import by_name, run_config
from launch.config.errors import UserError
from launch.data import batches, sources
from launch.engine import compiled_steps, optimizer, sharding, validate

logger = logging.getLogger("segen")


class Experiment(NamedTuple):
    """Everything that a config stands for.

    Attributes:
      task: the task's pure functions.
      compiled: the same, compiled.
      mesh: the devices.
      example: shape and dtype of each array of one example.
    """

    task: Any
    compiled: compiled_steps.CompiledSteps
    mesh: Mesh
    example: dict[str, jax.ShapeDtypeStruct]


def build(config: ConfigDict, data: batches.Data, training: bool = True) -> Experiment:
    """Builds nets, optimiser and task, checks the contract, and prepares to compile.

    Args:
      config: a complete, checked config.
      data: the split that says what an example looks like; the training split if
        `training`.
      training: whether training steps are wanted; if so the batch must fit the
        devices, and resident data is put there.

    Raises:
      UserError: anything in the config that cannot work.
    """
    if config.parallel == "pmap" and jax.process_count() > 1:
        raise UserError('config.parallel="pmap" is for one process; use "jit" with several')
    mesh = sharding.make_mesh(config)
    if training:
        sharding.check_batch(config.data.batch_size, config.train.accumulate, mesh)
    classes = data.split.classes
    task, schedules = make_task(config, data.example, classes)
    name = config.task.name
    if config.train.accumulate > 1 and not getattr(task, "accumulates", True):
        raise UserError(
            f"config.train.accumulate={config.train.accumulate}: a step of {name} is not that of "
            "its micro-batches added up; give 1 and a smaller config.data.batch_size"
        )
    spec = batches.batch_spec(data.example, config.data.batch_size)
    # The pmap optimiser averages over an axis that exists only inside pmap.
    plain = task
    if config.parallel == "pmap":
        plain, _ = make_task(config, data.example, classes, mapped=False)
    state = validate.validate_task(plain, spec, name)
    if config.parallel == "pmap" and training:  # each device takes a step on its own rows
        part = batches.batch_spec(data.example, config.data.batch_size // mesh.size)
        rng = jax.eval_shape(lambda: jax.random.key(0))
        validate.trace(name, "train_step", plain.train_step, state, part, rng)
    augment = tuple(
        by_name.partial(item, f"config.data.augment[{number}]")
        for number, item in enumerate(config.data.augment)
    )
    if augment and training:
        function = partial(compiled_steps.augmented, augment)
        rng = jax.eval_shape(lambda: jax.random.key(0))
        validate.trace("config.data.augment", "augment", function, spec, rng)
    resident = _resident(config, data) if training and config.data.resident else None
    built = compiled_steps.compile_task(task, state, config, mesh, schedules, augment, resident)
    return Experiment(task, built, mesh, data.example)


def make_task(
    config: ConfigDict, example: dict, classes: tuple[str, ...] = (), mapped: bool = True
) -> tuple[Any, dict]:
    """Builds the task; returns it and its learning rates by step.

    Args:
      config: the whole config.
      example: shape and dtype of each array of one example.
      classes: names of the data's classes, for tasks that take `names`.
      mapped: whether the step will run inside pmap where the config says so.
    """
    axis = "devices" if mapped and config.parallel == "pmap" else None
    optimizers, schedules = optimizer.build(config, axis)
    nets = {"model": config.model} if "name" in config.model else config.model
    models = {key: make_net(config, nets[key], key) for key in nets}
    extra = models | optimizers | {"example": example}
    wanted = "names" not in config.task and len(classes) == config.task.get("classes")
    if wanted and by_name.accepts(config.task.name, "names", "config.task"):
        extra["names"] = classes
    return by_name.instantiate(config.task, "config.task", **extra), schedules


def count_classes(config: ConfigDict, split: sources.Split) -> None:
    """Replaces `config.task.classes` = -1 by the number of the data's classes.

    Raises:
      UserError: the data names no classes.
    """
    count, named = config.task.get("classes", 0), len(split.classes)
    if count > 0 and named and count != named:
        raise UserError(f"config.task.classes={count}, but {split.title} names {named} classes")
    if count != -1:
        return
    if not split.classes:
        raise UserError(
            f"config.task.classes=-1 asks the data, but {split.title} names no classes; "
            "give their number"
        )
    config.task.classes = len(split.classes)


def make_net(config: ConfigDict, spec: Any, key: str) -> Any:
    """Builds one net, told to compute in `config.dtype`."""
    where = "config.model" if key == "model" else f"config.model.{key}"
    if config.dtype == "float32":
        return by_name.instantiate(spec, where)
    if not by_name.accepts(spec["name"], "dtype", where):
        raise UserError(f"config.dtype={config.dtype}: {spec['name']} takes no argument `dtype`")
    return by_name.instantiate(spec, where, dtype=jnp.dtype(config.dtype))


def _resident(config, data):
    if data.arrays is None:
        raise UserError(
            f"config.data.resident: {data.split.title} is larger than "
            f"config.data.cache_mib={config.data.cache_mib}, so it streams; give "
            "--config.data.resident=False"
        )
    size = sum(array.nbytes for array in data.arrays.values()) / 2**20
    if size > config.data.resident_mib:
        raise UserError(
            f"config.data.resident: {data.split.title} takes {size:.0f} MiB on each device, "
            f"more than config.data.resident_mib={config.data.resident_mib}"
        )
    return data.arrays


def metric_names(experiment: Experiment) -> set[str]:
    """Names of the metrics that an evaluation during training gives."""
    batch = batches.batch_spec(experiment.example, experiment.mesh.size)
    rng = jax.eval_shape(lambda: jax.random.key(0))
    sums = jax.eval_shape(experiment.task.eval_step, experiment.compiled.template, batch, rng)
    return set(experiment.task.finish(jax.tree.map(lambda leaf: np.ones(leaf.shape), sums)))


def initial_state(config: ConfigDict, experiment: Experiment) -> Any:
    """A fresh state, with the parameters of another run if `config.init_from` says so."""
    blank = {
        key: jnp.zeros(leaf.shape, leaf.dtype)
        for key, leaf in batches.batch_spec(experiment.example, experiment.mesh.size).items()
    }
    # Ready before anything else is dispatched: on CPU, programs that wait for this one
    # would hold the threads that its decompositions need.
    state = jax.block_until_ready(experiment.compiled.init(blank))
    if not config.init_from:
        return state
    folder, step = _source(config.init_from)
    template = getattr(experiment.compiled.template, "params", None)
    if template is None:
        raise UserError("config.init_from needs a task whose state has a field `params`")
    logger.info(f"parameters from step {step} of {folder.parent}")
    return state._replace(params=restoring.restore_params(folder, step, template))


def _source(value):
    """Splits WORKDIR or WORKDIR:STEP; returns the checkpoints folder and a whole step."""
    path, _, step = value.rpartition(":")
    if not path or not step.isdigit():
        path, step = value, ""
    folder = storage.path(path) / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"config.init_from: no checkpoints in {path}")
    if step:
        checkpoints.check_whole(folder, int(step))
        return folder, int(step)
    found = checkpoints.newest_whole(folder)
    if found is None:
        raise UserError(f"config.init_from: no checkpoints in {path}")
    return folder, found


class Restored(NamedTuple):
    """A trained run, ready to be evaluated or sampled.

    Attributes:
      config: its config, overrides applied.
      data: the split that was asked for.
      experiment: the assembled run.
      state: the state of the checkpoint.
      step: the checkpoint's step.
    """

    config: ConfigDict
    data: batches.Data
    experiment: Experiment
    state: Any
    step: int


def restore(
    workdir: Path,
    overrides: list[str],
    step: int | None,
    split: str | None,
    task: dict | None = None,
) -> Restored:
    """Opens a run and reads a checkpoint of it, onto whatever devices there are.

    Args:
      workdir: the run's folder.
      overrides: `--config.KEY=VALUE` arguments.
      step: which checkpoint; None for the newest whole one.
      split: the split to open, "" for the config's own evaluation split; None to do
        without the data, which then has the shapes of training and no examples.
      task: arguments of the task to change, such as how it predicts.

    Raises:
      UserError: no such run or step, or nothing whole in it.
    """
    config = run_config.read_config(workdir)
    config.mesh.update(data=-1, fsdp=1)  # what it was trained on need not be here
    config = cli.override(config, overrides)
    with config.unlocked():
        config.task.update(task or {})
    folder = workdir / "checkpoints"
    if step is not None:
        checkpoints.check_whole(folder, step)
    elif (step := checkpoints.newest_whole(folder)) is None:
        raise UserError(f"{folder} has no checkpoint yet; train first")
    if split is None:
        data = batches.recorded(run_config.read(workdir)[0]["data"])
    else:
        data = batches.open_data(config.data, split or config.eval.split, "config.eval")
    experiment = build(config, data, training=False)
    state = restoring.restore(folder, step, experiment.compiled.template)
    return Restored(config, data, experiment, state, step)


def for_json(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can hold them: null where there is no number."""
    number = lambda value: not isinstance(value, float) or math.isfinite(value)
    return {name: value if number(value) else None for name, value in metrics.items()}


def evaluate(
    experiment: Experiment, state: Any, data: batches.Data, batch_size: int, step_function: Callable
) -> dict[str, float]:
    """Metrics of a whole split, each example counted once.

    Args:
      experiment: the assembled run.
      state: what `compiled.unreplicate` returned.
      data: the split.
      batch_size: rows at a time, rounded up to a multiple of the devices; it does
        not change the result.
      step_function: `compiled.eval_step` or `compiled.score_step`.
    """
    rows = -(-batch_size // experiment.mesh.size) * experiment.mesh.size
    feed = batches.eval_batches(data, rows, *sharding.process_place())
    parts = [step_function(state, experiment.compiled.put_batch(batch)) for batch in feed]
    metrics = experiment.task.finish(compiled_steps.total(jax.device_get(parts)))
    return {name: float(value) for name, value in metrics.items()}
