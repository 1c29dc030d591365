"""A task compiled for the devices at hand.

The same pure functions run on one device, on a mesh by `jit` with shardings, or by
`pmap`; with batches from the host or gathered on the device; one step or many per
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

# What a key is for: each purpose has a stream of its own under the seed.
INIT, TRAIN, AUGMENT, EVAL, FIGURES, SAMPLE = range(6)
# Beside the learning rates: 1 for a step whose batch was left out.
SKIPPED = "skipped"


class CompiledSteps(NamedTuple):
    """Compiled functions of one task.

    Attributes:
      template: the state as ShapeDtypeStructs with shardings, to restore into.
      init: (batch) -> state.
      train: (state, feed, step) -> (state, sums, rates); sums and rates have a
        leading axis, one entry a step. Reuses the memory of the state it is given.
      eval_step, score_step: (state, batch) -> sums.
      figures: (state, batch) -> {name: images}.
      sample, complete, interpolate: (state, batch) -> images; None if the task has none.
      predict: (state, batch) -> {name: [B, ...]}; None if the task has none.
      all_finite: (state) -> bool array.
      load: restored or initial state -> what `train` takes.
      unreplicate: what `train` takes -> what the other functions and a save take.
      put_feed, put_batch: numpy rows of this process -> global arrays.
    """

    template: Any
    init: Callable
    train: Callable
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
    """The key of one purpose."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


def compile_task(
    task: Any,
    state: Any,
    config: Any,
    mesh: Mesh,
    schedules: dict[str, Callable],
    augment: tuple[Callable, ...] = (),
    resident: dict[str, np.ndarray] | None = None,
) -> CompiledSteps:
    """Compiles lazily: each function on its first call.

    Args:
      task: the task.
      state: its state as ShapeDtypeStructs.
      config: the whole config.
      mesh: the devices.
      schedules: learning rates to report, {name: step -> rate}.
      augment: functions (example, rng) -> example, run in the training step.
      resident: the training split as arrays, to be held on the devices.
    """
    rows, copies = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    layout = sharding.state_sharding(mesh, state)
    seed = config.seed
    compiled = partial(jax.jit, in_shardings=(layout, rows))
    evaluate = stream(seed, EVAL)
    one = partial(train_one, task, seed, config.train.accumulate, schedules, augment)
    if config.nonfinite.action == "skip":
        one = partial(skip_not_finite, one, "devices" if config.parallel == "pmap" else None)
    if config.parallel == "pmap":
        train, put_feed, load, unreplicate = _pmapped(one, mesh, layout)
    elif resident is not None:
        train, put_feed = _resident(one, mesh, layout, resident)
        load = unreplicate = _same
    else:
        train = jax.jit(
            one,
            donate_argnums=0,
            in_shardings=(layout, rows, None),
            out_shardings=(layout, copies, copies),
        )
        put_feed = partial(sharding.device_put, sharding=rows)
        load = unreplicate = _same
    score = task.score_step or task.eval_step

    def optional(name, key, out_shardings):
        function = getattr(task, name, None)
        return function and compiled(lambda s, b: function(s, b, key), out_shardings=out_shardings)

    drawn = stream(0, SAMPLE)  # images belong to their seeds, whatever the run's own seed
    return CompiledSteps(
        template=jax.tree.map(
            lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), state, layout
        ),
        init=jax.jit(lambda b: task.init(stream(seed, INIT), b), out_shardings=layout),
        train=train,
        eval_step=compiled(lambda s, b: task.eval_step(s, b, evaluate), out_shardings=copies),
        score_step=compiled(lambda s, b: score(s, b, evaluate), out_shardings=copies),
        figures=compiled(
            lambda s, b: task.figures(s, b, stream(seed, FIGURES)), out_shardings=copies
        ),
        sample=optional("sample", drawn, copies),
        complete=optional("complete", drawn, copies),
        interpolate=optional("interpolate", drawn, copies),
        predict=optional("predict", stream(seed, SAMPLE), rows),
        all_finite=jax.jit(all_finite),
        load=load,
        unreplicate=unreplicate,
        put_feed=put_feed,
        put_batch=partial(sharding.device_put, sharding=rows),
    )


def train_one(task, seed, accumulate, schedules, augment, state, batch, step):
    """One training step; pure.

    Returns:
      The new state; sums and learning rates, each with a leading axis of 1.
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
    rates = {name: jnp.asarray(rate(step), jnp.float32) for name, rate in schedules.items()}
    return state, *jax.tree.map(lambda x: x[None], (sums, rates))


def skip_not_finite(one, axis, state, batch, step):
    """A training step `one` that leaves the state as it was where its outcome is not finite.

    Its sums are then 0, and the entry `SKIPPED` beside the learning rates is 1.

    Args:
      axis: the mapped axis under pmap, whose devices skip together; None otherwise.
    """
    new, sums, rates = one(state, batch, step)
    good = all_finite((new, sums))
    if axis:
        good = jax.lax.pmin(good.astype(jnp.int32), axis) > 0
    choose = lambda yes, no: jax.tree.map(lambda a, b: jnp.where(good, a, b), yes, no)
    sums = choose(sums, jax.tree.map(jnp.zeros_like, sums))
    return choose(new, state), sums, rates | {SKIPPED: 1.0 - jnp.float32(good)[None]}


def split_rows(batch: dict, parts: int) -> dict:
    """[B, ...] -> [parts, B / parts, ...]; part i takes rows i, i + parts, ...

    With this stride every micro-batch is spread over all devices, as the batch is.
    """

    def split(leaf):
        shape = (leaf.shape[0] // parts, parts, *leaf.shape[1:])
        return jnp.swapaxes(leaf.reshape(shape), 0, 1)

    return jax.tree.map(split, batch)


def augmented(functions, batch: dict, rng: jax.Array) -> dict:
    """Applies per-example functions, each example with a key of its own."""
    marks = {key: batch[key] for key in ("index", "mask")}
    examples = {key: leaf for key, leaf in batch.items() if key not in marks}
    for number, function in enumerate(functions):
        key = jax.random.fold_in(rng, number)
        keys = jax.vmap(lambda i, key=key: jax.random.fold_in(key, i))(batch["index"])
        examples = jax.vmap(function)(examples, keys)
    return examples | marks


def _same(state):
    return state


def _resident(one, mesh, layout, arrays):
    """Data on the devices: a feed is indices [steps, B], a dispatch runs them all."""
    copies = sharding.replicated(mesh)
    arrays = sharding.device_put({key: np.asarray(a) for key, a in arrays.items()}, copies)
    columns = NamedSharding(mesh, P(None, ("data", "fsdp")))

    def body(arrays, state, item):
        index, step = item
        take = lambda array: array.at[index].get(mode="promise_in_bounds")
        batch = {key: take(array) for key, array in arrays.items()}
        batch |= {"index": index, "mask": jnp.ones(index.shape, bool)}
        state, sums, rates = one(state, batch, step)
        return state, jax.tree.map(lambda x: x[0], (sums, rates))

    def many(state, arrays, feed, step):
        index = feed["index"]
        numbers = step + jnp.arange(index.shape[0])
        if index.shape[0] == 1:
            state, out = body(arrays, state, (index[0], step))
            return state, *jax.tree.map(lambda x: x[None], out)
        state, (sums, rates) = jax.lax.scan(partial(body, arrays), state, (index, numbers))
        return state, sums, rates

    run = jax.jit(
        many,
        donate_argnums=0,
        in_shardings=(layout, copies, columns, None),
        out_shardings=(layout, copies, copies),
    )
    return lambda state, feed, step: run(state, arrays, feed, step), partial(
        sharding.device_put, sharding=columns
    )


def _pmapped(one, mesh, layout):
    """Data parallel by pmap: a copy of the state per device, gradients averaged.

    The optimiser averages the gradients (launch.engine.optimizer.mean_over), so the task
    knows nothing of it; the sums are added here.
    """
    used = list(mesh.devices.flat)

    def mapped(state, batch, step):
        state, sums, rates = one(state, batch, step)
        return _mean_statistics(state), jax.lax.psum(sums, "devices"), rates

    run = jax.pmap(mapped, "devices", in_axes=(0, 0, None), donate_argnums=0, devices=used)
    stacked = NamedSharding(Mesh(np.array(used), ("devices",)), P("devices"))
    first = partial(jax.tree.map, lambda leaf: leaf[0])

    def train(state, feed, step):
        state, sums, rates = run(state, feed, step)
        return state, first(sums), first(rates)

    def put_feed(batch):
        split = lambda leaf: leaf.reshape(len(used), -1, *leaf.shape[1:])
        return jax.device_put(jax.tree.map(split, batch), stacked)

    def load(state):
        copy = lambda leaf: jnp.broadcast_to(leaf, (len(used), *leaf.shape))
        return jax.jit(partial(jax.tree.map, copy), out_shardings=stacked)(state)

    return train, put_feed, load, lambda state: jax.device_put(first(state), layout)


def _mean_statistics(state):
    """Averages what a step gathers beside parameters, each device from its own rows."""
    names = set(getattr(state, "_fields", ())) & {"batch_stats", "class_frequencies"}
    means = {name: jax.lax.pmean(getattr(state, name), "devices") for name in names}
    return state._replace(**means) if means else state


def total(parts: Iterable[Any]) -> Any:
    """Adds sums in float64 on the host: the same for any number of batches."""
    wide = [jax.tree.map(lambda x: np.asarray(x, np.float64), part) for part in parts]
    return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *wide)


def all_finite(state: Any) -> jax.Array:
    """Whether every floating-point leaf of a state is finite; for jit."""
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating) and x.size]
    # NaN is no less than infinity, and a maximum keeps it: three times as fast on CPUs as
    # `isfinite(leaf).all()`.
    return jnp.all(jnp.array([jnp.abs(leaf).max() < jnp.inf for leaf in leaves] or [True]))
