"""What is exported: a task's function, the parameters that it reads, and its inputs.

Pictures go in and come out as uint8, and arrays have the names that a person would give
them. The parameters are arguments of the function, so they are stored once.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from launch.config.errors import UserError
from launch.engine import compiled_steps, trained_runs

FUNCTIONS = ("predict", "sample", "complete")  # the first that a task has is the default
PLATFORMS = ("cpu", "cuda", "tpu")
OUTSIDE = {"index": "seeds", "label": "labels"}  # what keys of a batch are called outside


class ExportedFunction(NamedTuple):
    """A function of arrays alone.

    Attributes:
      what: one of FUNCTIONS.
      parameters: {name: array}, those leaves of the state that the function reads.
      rows: {key: shape and dtype} of one row of the batch that the task takes.
      inputs: {name: shape and dtype} of one row of what the function reads of it.
      call: (parameters, {name: [B, ...]}) -> {name: [B, ...]}.
    """

    what: str
    parameters: dict[str, np.ndarray]
    rows: dict[str, jax.ShapeDtypeStruct]
    inputs: dict[str, jax.ShapeDtypeStruct]
    call: Callable


def choose(restored: trained_runs.Restored, what: str | None) -> str:
    """The function that was asked for; where none was, the first that the task has.

    Raises:
      UserError: the task has no such function.
    """
    task, name = restored.experiment.task, restored.config.task.name
    has = [function for function in FUNCTIONS if getattr(task, function, None) is not None]
    if not getattr(task, "given", ""):
        has = [function for function in has if function != "complete"]
    if not has:
        raise UserError(f"{name} has no predict(), sample() or complete(): nothing to export")
    if what and what not in has:
        raise UserError(f"--what={what}: {name} has no {what}(); it has {', '.join(has)}")
    return what or has[0]


def build(restored: trained_runs.Restored, what: str) -> ExportedFunction:
    """The function of a run, closed over nothing that a run learnt.

    Raises:
      UserError: it cannot be traced.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(restored.state)
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}
    rows = _rows(restored, what)
    read = _read(restored, what, leaves, rows)
    if what == "sample":
        read.add("index")  # how many images are wanted, if nothing else
    parameters = {name: leaf for name, leaf in leaves.items() if name in read}
    inputs = {OUTSIDE.get(key, key): leaf for key, leaf in rows.items() if key in read}

    def call(parameters, inputs):
        size = next(iter(inputs.values())).shape[0]
        # What is not read only has to be there.
        blank = lambda leaf, *sizes: jnp.zeros((*sizes, *leaf.shape), leaf.dtype)
        state = [
            parameters[name] if name in parameters else blank(leaf) for name, leaf in leaves.items()
        ]
        batch = {
            key: inputs[name] if (name := OUTSIDE.get(key, key)) in inputs else blank(leaf, size)
            for key, leaf in rows.items()
        }
        return _results(restored, what, structure.unflatten(state), batch)

    return ExportedFunction(what, jax.device_get(parameters), rows, inputs, call)


def exported(subject: ExportedFunction, name: str) -> export.Exported:
    """The function for any number of rows, on CPU, GPU and TPU.

    Some functions ask how many rows there are, and a symbol is no number; others do what
    XLA's compiler does not know with one. So what is done with a single row, all of it
    numbers, is tried next: for all rows at a time, and at last for one after another.

    Args:
      subject: what `build` gave.
      name: what the config calls the task, for the message.

    Raises:
      UserError: it does something that cannot be exported.
    """
    (size,) = export.symbolic_shape("b")
    parameters = {key: _like(leaf) for key, leaf in subject.parameters.items()}
    inputs = {key: _like(leaf, size) for key, leaf in subject.inputs.items()}
    one = {key: _like(leaf, 1) for key, leaf in subject.inputs.items()}
    for call in (subject.call, _each(subject.call, _together), _each(subject.call, _in_turn)):
        try:
            with _without_folders():
                found = export.export(jax.jit(call), platforms=PLATFORMS)(parameters, inputs)
            jax.jit(found.call).lower(parameters, one).compile()  # puts a number in
            return found
        except Exception as error:  # whatever the user's own code raises, or XLA
            failed = error
    raise _refused(name, subject.what, failed) from failed


def finished(found: Any) -> dict[str, jax.Array]:
    """What a task's function gives, as it leaves: pictures in uint8, and MAP decisions."""
    if not isinstance(found, dict):
        return {"images": levels(found)}
    if "probability" in found:
        kind = np.min_scalar_type(found["probability"].shape[-1] - 1)
        found = found | {"labels": jnp.argmax(found["probability"], -1).astype(kind)}
    return found


def levels(images: jax.Array) -> jax.Array:
    """Grey levels uint8 of images in [0, 1], as `launch.reporting.image_files` writes them."""
    if images.dtype == jnp.uint8:
        return images
    grey = jnp.clip(jnp.nan_to_num(images.astype(jnp.float32)), 0, 1)
    return jnp.round(grey * 255).astype(jnp.uint8)


def _rows(restored, what):
    """One row of the batch that launch's own commands give to this function."""
    number, example = jax.ShapeDtypeStruct((), np.int32), restored.experiment.example
    if what == "predict":
        return example | {"index": number}
    key = restored.experiment.task.given if what == "complete" else ""
    return {"index": number, "label": number} | ({key: example[key]} if key else {})


def _results(restored, what, state, batch):
    """The function with the keys that `launch.engine.compiled_steps` gives it."""
    seed = restored.config.seed if what == "predict" else 0
    function = getattr(restored.experiment.task, what)
    return finished(function(state, batch, compiled_steps.stream(seed, compiled_steps.SAMPLE)))


def _read(restored, what, leaves, rows):
    """Names of those leaves of the state, and keys of those rows, that are looked at."""
    batch = {key: _like(leaf, 2) for key, leaf in rows.items()}
    function = jax.jit(partial(_results, restored, what))
    try:
        found = export.export(function, platforms=("cpu",))(
            jax.tree.map(_like, restored.state), batch
        )
    except Exception as error:  # whatever the user's own code raises
        raise _refused(restored.config.task.name, what, error) from error
    names = [*leaves, *sorted(rows)]  # as JAX orders the two arguments
    return {names[place] for place in found.module_kept_var_idx}


@contextlib.contextmanager
def _without_folders():
    """Keeps out of programs in which folders of this machine their source files lie."""
    key = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, key)
    jax.config.update(key, r"^.*[/\\](?=[^/\\]+[/\\][^/\\]+$)")  # leaves package/module.py
    try:
        yield
    finally:
        jax.config.update(key, before)


def _each(call, over):
    """A function of rows by what another one does with a batch of one."""

    def one(parameters, inputs):
        found = call(parameters, jax.tree.map(lambda leaf: leaf[None], inputs))
        return jax.tree.map(lambda leaf: leaf[0], found)

    return lambda parameters, inputs: over(partial(one, parameters), inputs)


def _together(one, inputs):
    return jax.vmap(one)(inputs)


def _in_turn(one, inputs):
    return jax.lax.map(one, inputs)


def _like(leaf, *sizes):
    return jax.ShapeDtypeStruct((*sizes, *leaf.shape), leaf.dtype)


def _refused(name, what, error):
    reason = str(error).strip().split("\n")[0]
    return UserError(
        f"{name}: {what}() cannot be exported for {', '.join(PLATFORMS)}: it does what jax.export "
        f"does not know on all of them ({type(error).__name__}: {reason})"
    )
