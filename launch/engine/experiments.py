"""From a config to compiled steps: what train, evaluate, sample and bench share."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from launch.config import by_name, effects, schema
from launch.config.errors import UserError
from launch.cpu import heap
from launch.data import batches, sources
from launch.engine import compiled_steps, memory, optimizer, sharding, validate

logger = logging.getLogger("segen")


class Experiment(NamedTuple):
    """What a config describes, ready to run.

    Attributes:
      task: the task's pure functions, complete.
      compiled: the same, compiled.
      mesh: the devices.
      example: shape and dtype of each array of one example.
      pretrained: state -> state with pretrained weights, for fresh states; or None.
    """

    task: validate.Task
    compiled: compiled_steps.CompiledSteps
    mesh: Mesh
    example: dict[str, jax.ShapeDtypeStruct]
    pretrained: Callable[[Any], Any] | None = None


def build(
    config: ConfigDict, data: batches.Data, training: bool = True, local: bool = False
) -> Experiment:
    """Builds nets, optimiser and task, checks the contract, and prepares to compile.

    Args:
      config: a complete, checked config.
      data: the split that shows the form of an example; the training split if `training`.
      training: whether training steps are needed; if so the batch must fit the
        devices, and resident data is put there.
      local: whether to use the devices of this process alone.

    Raises:
      UserError: anything in the config that cannot work.
    """
    if not config.task.get("name"):
        raise UserError('config.task: expected a mapping with a "name", e.g. jaxgen.vae:vae')
    pmap, name = training and config.parallel == "pmap", config.task.name
    if pmap and jax.process_count() > 1:
        raise UserError('config.parallel="pmap" is for one process; use "jit" with several')
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, local)
    if training:
        sharding.check_batch(config.data.batch_size, config.train.accumulate, mesh)
    spec = batches.batch_spec(data.example, config.data.batch_size)
    make = partial(make_task, config, data.example, data.split.classes)
    made, learning_rates = make()
    task, state = validate.validate_task(made, spec, name)
    if config.train.accumulate > 1 and not task.accumulates:
        raise UserError(
            f"config.train.accumulate={config.train.accumulate}: a step of {name} is not that of "
            "its micro-batches added up; give 1 and a smaller config.data.batch_size"
        )
    values = schema.flatten(config.to_dict())
    if training:
        decodes = not isinstance(data.split.records, Mapping)
        facts = effects.Facts(data.arrays is None, decodes, task.predict is not None)
        effects.check(values, schema.flatten(schema.defaults().to_dict()), facts=facts)
    rng = jax.eval_shape(lambda: jax.random.key(0))
    options = {}
    if training and config.train.remat != "nothing":
        from launch.engine import remat  # an option that few runs take

        step = remat.with_remat(task.train_step, config.train.remat, name, state, spec, rng)
        task, options = task._replace(train_step=step), remat.compiler_options(mesh)
    if pmap:  # each device takes a step on its own rows
        rows = batches.batch_spec(data.example, config.data.batch_size // mesh.size)
        validate.trace(name, "train_step", task.train_step, state, rows, rng)
        # Its optimiser averages over an axis that exists only inside pmap.
        task = validate.with_optional_fields(make(axis_name="devices")[0], name)
        from launch.engine import pmap_steps  # which few runs take

        step = pmap_steps.with_common_statistics(task.train_step)
        task = task._replace(train_step=step)
    augment = _augmentations(config.data.augment)
    if augment and training:
        function = partial(compiled_steps.augmented, augment)
        validate.trace("config.data.augment", "augment", function, spec, rng)
    tabled = None
    if training and config.plan and not pmap and not options:
        from launch.engine import rate_tables  # so that the plan times the training's program

        tabled = rate_tables.tabled(make, learning_rates, config.train.steps, name)
    compiled = compiled_steps.compile_task(
        task,
        state,
        mesh,
        seed=config.seed,
        learning_rates=learning_rates,
        accumulate=config.train.accumulate,
        augment=augment,
        resident=_resident_arrays(data, config.data) if training else None,
        pmap=pmap,
        skip_nonfinite=config.nonfinite.action == "skip",
        compiler_options=options,
        tabled=tabled,
    )
    compiled = _with_memory_checks(compiled, values, task.accumulates)
    if training and config.train.steps_per_dispatch > 1:
        heap.stop_keeping()  # once in so many steps, clearing pages costs nothing
    return Experiment(task, compiled, mesh, data.example)


def _with_memory_checks(steps, values, accumulates):
    """Compiled steps which are refused before they first run if memory cannot hold them."""

    def advise(training):
        from launch.engine import memory_advice

        return memory_advice.advise(values, accumulates) if training else memory_advice.LESS

    names = "eval_step", "score_step", "figures", "sample", "complete", "interpolate", "predict"
    words = partial(advise, False)
    ready = {
        name: memory.CheckedStep(step, step.lower, words, f"{name}()")
        for name in names
        if (step := getattr(steps, name))
    }
    train = memory.CheckedStep(steps.train, steps.lower_train, partial(advise, True), "training")
    return steps._replace(train=train, **ready)


def make_task(
    config: ConfigDict,
    example: dict,
    classes: tuple[str, ...] = (),
    axis_name: str | None = None,
    tables: Mapping[str, jax.Array] | None = None,
) -> tuple[Any, dict[str, Callable]]:
    """Builds the task, as its factory returns it, and its learning rates.

    Args:
      config: a complete, checked config.
      example: shape and dtype of each array of one example.
      classes: names of the data's classes, for tasks that take `names`.
      axis_name: the mapped axis if training steps run by pmap.
      tables: learning rates in place of the schedules, see `optimizer.build`.

    Returns:
      The task, and {name: step -> learning rate}.

    Raises:
      UserError: a net, an optimiser or the task cannot be built.
    """
    optimizers, learning_rates = optimizer.build(
        config.optimizer, config.train.accumulate, axis_name, tables
    )
    several = "name" not in config.model
    models = {
        key: make_net(spec, f"config.model.{key}" if several else "config.model", config.dtype)
        for key, spec in (config.model if several else {"model": config.model}).items()
    }
    arguments = models | optimizers | {"example": example}
    named = "names" not in config.task and len(classes) == config.task.get("classes")
    if named and by_name.accepts(config.task.name, "names", "config.task"):
        arguments["names"] = classes
    return by_name.instantiate(config.task, "config.task", **arguments), learning_rates


def make_net(spec: Mapping, where: str, dtype: str = "float32") -> Any:
    """Builds one net that computes in `dtype`.

    Args:
      spec: {"name": "package.module:Net", **arguments}.
      where: the config key that holds the spec, for messages.
      dtype: "float32" or "bfloat16"; parameters stay float32.

    Raises:
      UserError: the net cannot be built, or takes no `dtype`.
    """
    if dtype == "float32":
        return by_name.instantiate(spec, where)
    if not by_name.accepts(spec["name"], "dtype", where):
        raise UserError(f"config.dtype={dtype}: {spec['name']} takes no argument `dtype`")
    return by_name.instantiate(spec, where, dtype=jnp.dtype(dtype))


def with_classes(config: ConfigDict, split: sources.Split) -> ConfigDict:
    """The config with `task.classes` = -1 replaced by the number of the data's classes.

    Raises:
      UserError: the data name no classes, or another number of classes than the config.
    """
    count, known = config.task.get("classes", 0), len(split.classes)
    if count > 0 and known and count != known:
        raise UserError(f"config.task.classes={count}, but {split.title} names {known} classes")
    if count != -1:
        return config
    if not split.classes:
        raise UserError(
            f"config.task.classes=-1 asks the data, but {split.title} names no classes; "
            "give their number"
        )
    return schema.with_values(config, {"task.classes": known})


def metric_names(experiment: Experiment) -> set[str]:
    """Names of the metrics that an evaluation during training gives."""
    batch = batches.batch_spec(experiment.example, experiment.mesh.size)
    rng = jax.eval_shape(lambda: jax.random.key(0))
    sums = jax.eval_shape(experiment.task.eval_step, experiment.compiled.template, batch, rng)
    return set(experiment.task.finish(jax.tree.map(lambda leaf: np.ones(leaf.shape), sums)))


def initial_state(experiment: Experiment, init_from: str = "", init_part: str = "") -> Any:
    """A fresh state.

    Args:
      experiment: what to start.
      init_from: WORKDIR or WORKDIR:STEP of another run whose parameters are taken.
      init_part: the start of the names of those that are; "" for all.

    Raises:
      UserError: no such run, or its parameters do not fit.
    """
    blank = {
        key: jnp.zeros(leaf.shape, leaf.dtype)
        for key, leaf in batches.batch_spec(experiment.example, experiment.mesh.size).items()
    }
    # Ready before anything else is dispatched: on CPU, programs that wait for this one
    # would hold the threads that its decompositions need.
    state = jax.block_until_ready(experiment.compiled.init(blank))
    state = experiment.pretrained(state) if experiment.pretrained else state
    if not init_from:
        return state
    from launch.engine import trained_runs  # few runs start from another one

    template = experiment.compiled.template
    return trained_runs.with_params_of(init_from, state, template, init_part)


def check_source(init_from: str, workdir: Path) -> None:
    """Checks `config.init_from` of a run that has not begun, before its folder is written to.

    Args:
      init_from: as for `initial_state`.
      workdir: the run's folder.

    Raises:
      UserError: no such run or step.
    """
    if init_from and not (workdir / "checkpoints").is_dir():
        from launch.engine import trained_runs  # few runs start from another one

        trained_runs.check_source(init_from)


def first_state(
    experiment: Experiment,
    folder: Path,
    step: int,
    init_from: str = "",
    init_part: str = "",
) -> Any:
    """The state of a checkpoint to go on from, or a fresh one.

    Args:
      experiment: what to start or continue.
      folder: the run's checkpoints folder.
      step: the checkpoint; 0 for a fresh state.
      init_from, init_part: as for `initial_state`.
    """
    if not step:
        return initial_state(experiment, init_from, init_part)
    from launch.checkpoints import restoring  # which a fresh run does without

    logger.info(f"going on from step {step:,} of {folder}")
    return restoring.restore(folder, step, experiment.compiled.template)


def evaluate(
    experiment: Experiment,
    state: Any,
    data: batches.Data,
    batch_size: int,
    step_function: Callable,
) -> dict[str, float]:
    """Metrics of a whole split, each example counted once.

    Args:
      experiment: the experiment.
      state: what `compiled.unreplicate` returned.
      data: the split.
      batch_size: rows at a time, rounded up to a multiple of the devices; it does
        not change the result.
      step_function: `compiled.eval_step` or `compiled.score_step`.
    """
    rows = sharding.round_up(batch_size, experiment.mesh)
    feed = batches.eval_batches(data, rows, *sharding.process_place())
    parts = [step_function(state, experiment.compiled.put_batch(batch)) for batch in feed]
    metrics = experiment.task.finish(compiled_steps.total(jax.device_get(parts)))
    return {name: float(value) for name, value in metrics.items()}


def for_json(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can hold them: null in place of NaN and infinity."""
    number = lambda value: not isinstance(value, float) or math.isfinite(value)
    return {name: value if number(value) else None for name, value in metrics.items()}


def _augmentations(specs):
    where = "config.data.augment[{}]".format
    return tuple(by_name.partial(spec, where(number)) for number, spec in enumerate(specs))


def _resident_arrays(data, section):
    """The arrays of a split to hold on the devices; None where the config asks for none."""
    if not section.resident:
        return None
    if data.arrays is None:
        raise UserError(
            f"config.data.resident: {data.split.title} is larger than "
            f"config.data.cache_mib={section.cache_mib}, so it streams; give "
            "--config.data.resident=False"
        )
    size = sum(array.nbytes for array in data.arrays.values()) / 2**20
    if size > section.resident_mib:
        raise UserError(
            f"config.data.resident: {data.split.title} takes {size:.0f} MiB on each device, "
            f"more than config.data.resident_mib={section.resident_mib}"
        )
    return data.arrays
