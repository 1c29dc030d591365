"""The functions of a task, compiled for the devices at hand.

The same pure functions run on one device, on a mesh by `jit` with shardings, or by
`pmap`; with batches from the host or gathered on the device; one step or many in a
compiled program. All of these give the same losses.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from launch.engine import sharding

# The purposes of random keys: each purpose has its own stream under the seed.
INIT, TRAIN, AUGMENT, EVAL, FIGURES, SAMPLE = range(6)
# Of a program that runs once: a third less time to compile it for a CPU, with the same bits.
RUN_ONCE = {"xla_backend_optimization_level": 1}


class StepOutputs(NamedTuple):
    """What training steps give beside the state; the leading axis of each array is the step.

    Attributes:
      sums: the task's sums.
      learning_rates: {name: float32 [steps]}.
      skipped: float32 [steps], 1 where the step left the state as it was because its
        outcome was not finite; None where steps are never skipped.
    """

    sums: Any
    learning_rates: dict[str, jax.Array]
    skipped: jax.Array | None = None


class CompiledSteps(NamedTuple):
    """The compiled functions of one task; each compiles at its first call.

    Attributes:
      template: the state as ShapeDtypeStructs with shardings, to restore into.
      init: (batch) -> state.
      train: (state, feed, step) -> (state, StepOutputs). Reuses the memory of the state.
      lower_train: of the arguments of `train`, gives its program, not yet compiled.
      eval_step, score_step: (state, batch) -> sums.
      figures: (state, batch) -> {name: images}.
      sample, complete, interpolate: (state, batch) -> images; None if the task has none.
      predict: (state, batch) -> {name: [B, ...]}; None if the task has none.
      all_finite: (state) -> bool array.
      load: restored or initial state -> the state that `train` takes.
      unreplicate: the state that `train` takes -> the state that all others take.
      put_batch: numpy rows of this process -> global arrays.
      put_feed: what `batches.feed` yields -> the feed that `train` takes.
    """

    template: Any
    init: Callable
    train: Callable
    lower_train: Callable
    eval_step: Callable
    score_step: Callable
    figures: Callable
    sample: Callable | None
    complete: Callable | None
    interpolate: Callable | None
    predict: Callable | None
    all_finite: Callable
    load: Callable
    unreplicate: Callable
    put_feed: Callable
    put_batch: Callable


def stream(seed: int, purpose: int) -> jax.Array:
    """The random key of one purpose under a seed."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


def compile_task(
    task: Any,
    state: Any,
    mesh: Mesh,
    *,
    seed: int,
    learning_rates: dict[str, Callable],
    accumulate: int,
    augment: tuple[Callable, ...],
    resident: dict[str, np.ndarray] | None,
    pmap: bool,
    skip_nonfinite: bool,
    compiler_options: dict[str, str] | None = None,
    tabled: Any = None,
) -> CompiledSteps:
    """Prepares the compilation of every function of a task.

    Args:
      task: a complete task, as `validate_task` returns it.
      state: its state as ShapeDtypeStructs.
      mesh: the devices.
      seed: of initial parameters and all noise.
      learning_rates: schedules to report, {name: step -> learning rate}.
      accumulate: micro-batches of a batch.
      augment: functions (example, rng) -> example, run in the training step.
      resident: the training split as arrays, to be held on the devices.
      pmap: whether training steps run by `pmap`.
      skip_nonfinite: whether a step whose outcome is not finite leaves the state unchanged.
      compiler_options: of XLA, for the training step by `jit`.
      tabled: `rate_tables.Tabled` for a program of a resident training that takes its learning
        rates as arguments; None to compile them into it.
    """
    rows, copies = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    layout = sharding.state_sharding(mesh, state)

    def step_of(task, learning_rates):
        one = partial(train_one, task, seed, accumulate, learning_rates, augment)
        axis = "devices" if pmap else None
        return partial(skip_if_nonfinite, one, axis) if skip_nonfinite else one

    one = step_of(task, learning_rates)
    load = unreplicate = _identity
    if pmap:
        from launch.engine import pmap_steps  # an option that few runs take

        train, lower, put_feed, load, unreplicate = pmap_steps.compile_step(one, mesh, layout)
    elif resident is not None:
        tables = tabled.tables if tabled else {}
        make = (lambda tables: step_of(*tabled.make(tables))) if tabled else lambda tables: one
        arguments = resident, tables
        train, lower, put_feed = _resident(make, mesh, layout, arguments, compiler_options)
    else:
        train = jax.jit(
            one,
            donate_argnums=0,
            in_shardings=(layout, rows, None),
            out_shardings=(layout, copies),
            compiler_options=compiler_options,
        )
        lower, put_feed = train.lower, partial(sharding.device_put, sharding=rows)
    compiled = partial(_compile, layout=layout, rows=rows)
    # Images belong to their seeds, whatever the seed of the run.
    drawn = partial(compiled, key=stream(0, SAMPLE), out=copies)
    with_sharding = lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s)
    return CompiledSteps(
        template=jax.tree.map(with_sharding, state, layout),
        init=jax.jit(
            lambda batch: task.init(stream(seed, INIT), batch),
            out_shardings=layout,
            compiler_options=RUN_ONCE if mesh.devices.flat[0].platform == "cpu" else None,
        ),
        train=train,
        lower_train=lower,
        eval_step=compiled(task.eval_step, key=stream(seed, EVAL), out=copies),
        score_step=compiled(task.score_step, key=stream(seed, EVAL), out=copies),
        figures=compiled(task.figures, key=stream(seed, FIGURES), out=copies),
        sample=drawn(task.sample),
        complete=drawn(task.complete),
        interpolate=drawn(task.interpolate),
        predict=compiled(task.predict, key=stream(seed, SAMPLE), out=rows),
        all_finite=jax.jit(all_finite),
        load=load,
        unreplicate=unreplicate,
        put_feed=put_feed,
        put_batch=partial(sharding.device_put, sharding=rows),
    )


def _compile(function, *, key, out, layout, rows):
    """(state, batch) -> function(state, batch, key), compiled; None for no function."""
    if function is None:
        return None
    keyed = lambda state, batch: function(state, batch, key)
    return jax.jit(keyed, in_shardings=(layout, rows), out_shardings=out)


def train_one(task, seed, accumulate, learning_rates, augment, state, batch, step):
    """One training step of a task; pure.

    Args:
      task, seed, accumulate, learning_rates, augment: as for `compile_task`.
      state: the task's state.
      batch: {key: [B, ...]}.
      step: int32 [], the steps done so far; decides all noise of the step.

    Returns:
      The new state, and StepOutputs with a leading axis of 1.
    """
    if augment:
        batch = augmented(augment, batch, jax.random.fold_in(stream(seed, AUGMENT), step))
    rng = jax.random.fold_in(stream(seed, TRAIN), step)
    if accumulate == 1:
        state, sums = task.train_step(state, batch, rng)
    else:
        state, parts = jax.lax.scan(
            lambda s, part: task.train_step(s, part, rng), state, split_rows(batch, accumulate)
        )
        sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), parts)
    rates = {name: jnp.asarray(rate(step), jnp.float32) for name, rate in learning_rates.items()}
    return state, StepOutputs(*jax.tree.map(lambda x: x[None], (sums, rates)))


def skip_if_nonfinite(one, axis, state, batch, step):
    """A training step that leaves the state unchanged where its outcome is not finite.

    The sums of a skipped step are 0, and `skipped` of its outputs is 1.

    Args:
      one: the training step, as `train_one` with its first arguments given.
      axis: the mapped axis under pmap, whose devices skip together; None otherwise.
      state, batch, step: as for `train_one`.
    """
    new, outputs = one(state, batch, step)
    good = all_finite((new, outputs.sums))
    if axis:
        good = jax.lax.pmin(good.astype(jnp.int32), axis) > 0
    choose = lambda yes, no: jax.tree.map(lambda a, b: jnp.where(good, a, b), yes, no)
    sums = choose(outputs.sums, jax.tree.map(jnp.zeros_like, outputs.sums))
    skipped = 1.0 - jnp.float32(good)[None]
    return choose(new, state), outputs._replace(sums=sums, skipped=skipped)


def split_rows(batch: dict, parts: int) -> dict:
    """Cuts a batch into micro-batches: [B, ...] -> [parts, B / parts, ...].

    Part i takes rows i, i + parts, ...: with this stride every micro-batch is spread over
    all devices, as the batch is.
    """

    def split(leaf):
        shape = (leaf.shape[0] // parts, parts, *leaf.shape[1:])
        return jnp.swapaxes(leaf.reshape(shape), 0, 1)

    return jax.tree.map(split, batch)


def augmented(functions: Iterable[Callable], batch: dict, rng: jax.Array) -> dict:
    """Applies functions (example, rng) -> example to each example of a batch.

    Args:
      functions: applied in this order.
      batch: {key: [B, ...]} with `index` and `mask`, which stay as they are.
      rng: the key of this step; each example gets a key of its own from its index.
    """
    marks = {key: batch[key] for key in ("index", "mask")}
    examples = {key: leaf for key, leaf in batch.items() if key not in marks}
    for number, function in enumerate(functions):
        key = jax.random.fold_in(rng, number)
        keys = jax.vmap(lambda i, key=key: jax.random.fold_in(key, i))(batch["index"])
        examples = jax.vmap(function)(examples, keys)
    return examples | marks


def _identity(state):
    return state


def _resident(make, mesh, layout, arguments, compiler_options):
    """Training with the data on the devices: a feed is indices [steps, B] of one dispatch.

    `make` gives the training step for tables of learning rates, the second of `arguments`.
    """
    copies = sharding.replicated(mesh)
    arguments = sharding.device_put(jax.tree.map(np.asarray, arguments), copies)
    columns = NamedSharding(mesh, P(None, ("data", "fsdp")))

    def body(arrays, one, state, item):
        index, step = item
        take = lambda array: array.at[index].get(mode="promise_in_bounds")
        batch = {key: take(array) for key, array in arrays.items()}
        batch |= {"index": index, "mask": jnp.ones(index.shape, bool)}
        state, outputs = one(state, batch, step)
        return state, jax.tree.map(lambda x: x[0], outputs)

    def many(state, arguments, feed, step):
        index, (arrays, tables) = feed["index"], arguments
        one = make(tables)
        numbers = step + jnp.arange(index.shape[0])
        if index.shape[0] == 1:
            state, outputs = body(arrays, one, state, (index[0], step))
            return state, jax.tree.map(lambda x: x[None], outputs)
        return jax.lax.scan(partial(body, arrays, one), state, (index, numbers))

    run = jax.jit(
        many,
        donate_argnums=0,
        in_shardings=(layout, copies, columns, None),
        out_shardings=(layout, copies),
        compiler_options=compiler_options,
    )
    train = lambda state, feed, step: run(state, arguments, feed, step)
    lower = lambda state, feed, step: run.lower(state, arguments, feed, step)
    return train, lower, partial(sharding.device_put, sharding=columns)


def total(parts: Iterable[Any]) -> Any:
    """Adds trees of sums in float64 on the host: the same for any number of batches."""
    wide = [jax.tree.map(lambda x: np.asarray(x, np.float64), part) for part in parts]
    return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *wide)


def all_finite(state: Any) -> jax.Array:
    """Whether every floating-point leaf of a tree is finite: bool []; for use under jit."""
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating) and x.size]
    # NaN is no less than infinity, and a maximum keeps it: three times as fast on CPUs as
    # `isfinite(leaf).all()`.
    return jnp.all(jnp.array([jnp.abs(leaf).max() < jnp.inf for leaf in leaves] or [True]))
