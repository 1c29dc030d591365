"""Turns a function of a trained task into a program of jax.export.

Images go in and come out as uint8, and inputs have names that a user understands. The
parameters are arguments of the program, so that they are stored once.
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
# The inputs whose names differ from the keys of a batch.
INPUT_NAMES = {"index": "seeds", "label": "labels"}


class ExportedFunction(NamedTuple):
    """A function of a run, whose only arguments are arrays.

    Attributes:
      name: one of FUNCTIONS.
      parameters: {name: array}: those leaves of the state that the function reads.
      rows: {key: shape and dtype} of one row of the batch that the task takes.
      inputs: {name: shape and dtype} of one row of those inputs that the function reads.
      call: (parameters, {name: [B, ...]}) -> {name: [B, ...]}.
    """

    name: str
    parameters: dict[str, np.ndarray]
    rows: dict[str, jax.ShapeDtypeStruct]
    inputs: dict[str, jax.ShapeDtypeStruct]
    call: Callable


def choose(restored: trained_runs.Restored, name: str | None) -> str:
    """Chooses the function to export.

    Args:
      restored: a trained run.
      name: one of FUNCTIONS; None for the first that the task has.

    Returns:
      One of FUNCTIONS.

    Raises:
      UserError: the task has no such function.
    """
    experiment, title = restored.experiment, restored.config.task.name
    present = [each for each in FUNCTIONS if getattr(experiment.compiled, each) is not None]
    if "complete" in present and not experiment.task.given:
        present.remove("complete")
    if not present:
        raise UserError(f"{title} has no predict(), sample() or complete(): nothing to export")
    if name and name not in present:
        raise UserError(f"--what={name}: {title} has no {name}(); it has {', '.join(present)}")
    return name or present[0]


def make_function(restored: trained_runs.Restored, name: str) -> ExportedFunction:
    """Makes a function of arrays that needs nothing else of the run.

    Args:
      restored: a trained run.
      name: one of FUNCTIONS.

    Returns:
      The function with its parameters.

    Raises:
      UserError: the function cannot be traced.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(restored.state)
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}
    rows = _rows(restored, name)
    used = _used(restored, name, leaves, rows)
    if name == "sample":
        used.add("index")  # if nothing else, it says how many images there are
    parameters = {path: leaf for path, leaf in leaves.items() if path in used}
    inputs = {INPUT_NAMES.get(key, key): leaf for key, leaf in rows.items() if key in used}

    def call(parameters, inputs):
        size = next(iter(inputs.values())).shape[0]
        # The structure needs a value for leaves that are not read.
        zeros = lambda leaf, *sizes: jnp.zeros((*sizes, *leaf.shape), leaf.dtype)
        state = [
            parameters[path] if path in parameters else zeros(leaf) for path, leaf in leaves.items()
        ]
        batch = {}
        for key, leaf in rows.items():
            given = inputs.get(INPUT_NAMES.get(key, key))
            batch[key] = zeros(leaf, size) if given is None else given
        return _outputs(restored, name, structure.unflatten(state), batch)

    return ExportedFunction(name, jax.device_get(parameters), rows, inputs, call)


def export_function(function: ExportedFunction, task: str) -> export.Exported:
    """Exports a function for any number of rows, and for CPU, GPU and TPU.

    Some functions need the number of rows while they are traced, and some give XLA an
    operation that it cannot compile with a symbolic size. For those, the function of one
    row is exported, mapped over the rows: first by vmap, at last by a loop.

    Args:
      function: the result of `make_function`.
      task: the name of the task in the config, for the message.

    Returns:
      The program: (parameters, {name: [b, ...]}) -> {name: [b, ...]}.

    Raises:
      UserError: the function cannot be exported.
    """
    (size,) = export.symbolic_shape("b")
    parameters = {name: _like(leaf) for name, leaf in function.parameters.items()}
    inputs = {name: _like(leaf, size) for name, leaf in function.inputs.items()}
    one = {name: _like(leaf, 1) for name, leaf in function.inputs.items()}
    for call in (function.call, _mapped(function.call, jax.vmap), _mapped(function.call, _loop)):
        try:
            with _without_folders():
                program = export.export(jax.jit(call), platforms=PLATFORMS)(parameters, inputs)
            jax.jit(program.call).lower(parameters, one).compile()  # with a number for the symbol
            return program
        except Exception as error:  # of any type: the user's own code, jax or XLA raises it
            failure = error
    raise _cannot_export(task, function.name, failure) from failure


def to_outputs(results: Any) -> dict[str, jax.Array]:
    """Converts the results of a task's function to outputs.

    Args:
      results: images [B, H, W, C], or a dict of arrays.

    Returns:
      {"images": uint8 [B, H, W, C]}; or the dict, to which `labels` [B, ...], the most
      probable class, is added where it has `probability` [B, ..., K].
    """
    if not isinstance(results, dict):
        return {"images": grey_levels(results)}
    if "probability" in results:
        dtype = np.min_scalar_type(results["probability"].shape[-1] - 1)
        results = results | {"labels": jnp.argmax(results["probability"], -1).astype(dtype)}
    return results


def grey_levels(images: jax.Array) -> jax.Array:
    """Rounds images to 256 grey levels, as `launch.reporting.image_files` writes them.

    Args:
      images: [...], floats in [0, 1] or uint8.

    Returns:
      uint8 [...]; NaN becomes 0.
    """
    if images.dtype == jnp.uint8:
        return images
    clipped = jnp.clip(jnp.nan_to_num(images.astype(jnp.float32)), 0, 1)
    return jnp.round(clipped * 255).astype(jnp.uint8)


def _rows(restored, name):
    """Shapes and dtypes of one row of the batch that the commands give to this function."""
    number, example = jax.ShapeDtypeStruct((), np.int32), restored.experiment.example
    if name == "predict":
        return example | {"index": number}
    rows, task = {"index": number, "label": number}, restored.experiment.task
    if name == "complete":
        rows[task.given] = example[task.given]
        if task.keeps_pixels:
            rows["keep"] = jax.ShapeDtypeStruct((*example[task.given].shape[:2], 1), np.bool_)
    return rows


def _outputs(restored, name, state, batch):
    """Calls the function with the same random keys as `launch.engine.compiled_steps`."""
    seed = restored.config.seed if name == "predict" else 0
    function = getattr(restored.experiment.task, name)
    return to_outputs(function(state, batch, compiled_steps.stream(seed, compiled_steps.SAMPLE)))


def _used(restored, name, leaves, rows):
    """Names of those leaves of the state, and keys of those rows, that the function reads."""
    batch = {key: _like(leaf, 2) for key, leaf in rows.items()}
    function = jax.jit(partial(_outputs, restored, name))
    try:
        program = export.export(function, platforms=("cpu",))(
            jax.tree.map(_like, restored.state), batch
        )
    except Exception as error:  # of any type: the user's own code raises it
        raise _cannot_export(restored.config.task.name, name, error) from error
    names = [*leaves, *sorted(rows)]  # in the order in which jax flattens the two arguments
    return {names[number] for number in program.module_kept_var_idx}


@contextlib.contextmanager
def _without_folders():
    """Keeps the folders of this machine's source files out of exported programs."""
    key = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, key)
    jax.config.update(key, r"^.*[/\\](?=[^/\\]+[/\\][^/\\]+$)")  # leaves package/module.py
    try:
        yield
    finally:
        jax.config.update(key, before)


def _mapped(call, transform):
    """A function of rows that maps `call` over batches of one row."""

    def one(parameters, inputs):
        outputs = call(parameters, jax.tree.map(lambda leaf: leaf[None], inputs))
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    return lambda parameters, inputs: transform(partial(one, parameters))(inputs)


def _loop(function):
    return lambda inputs: jax.lax.map(function, inputs)


def _like(leaf, *sizes):
    return jax.ShapeDtypeStruct((*sizes, *leaf.shape), leaf.dtype)


def _cannot_export(task, name, error):
    reason = str(error).strip().split("\n")[0]
    return UserError(
        f"{task}: {name}() cannot be exported for {', '.join(PLATFORMS)}: it uses something that "
        f"jax.export does not support on all of them ({type(error).__name__}: {reason})"
    )
