"""Checks a task against its contract by shapes alone, before anything compiles."""

import os
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from launch.config.errors import UserError


class Task(NamedTuple):
    """A validated task: optional functions that a user's task lacks are None.

    The fields are those of `jaxgen.task.Task`, where each is described. A user's task may
    be any object with the required five; `score_step` is `eval_step` where it has none.
    """

    init: Callable
    train_step: Callable
    eval_step: Callable
    finish: Callable
    figures: Callable
    score_step: Callable | None = None
    sample: Callable | None = None
    complete: Callable | None = None
    given: str = ""
    keeps_pixels: bool = False
    interpolate: Callable | None = None
    log_prob: Callable | None = None
    evidence: Callable | None = None
    conditionals: Callable | None = None
    density: Callable | None = None
    from_noise: Callable | None = None
    predict: Callable | None = None
    codec: Callable | None = None
    teacher: Callable | None = None
    recover: Callable | None = None
    accumulates: bool = True


REQUIRED = ("init", "train_step", "eval_step", "finish", "figures")


def validate_task(task: Any, batch: dict, name: str) -> tuple[Task, Any]:
    """Traces the functions of a task with abstract values, all but `predict` and `conditionals`.

    Args:
      task: what the user's factory returned.
      batch: {key: ShapeDtypeStruct [B, ...]} of a batch.
      name: what the config calls the task, for messages.

    Returns:
      The complete task, and its state as ShapeDtypeStructs.

    Raises:
      UserError: names the function, the leaf and the shapes that break the contract.
    """
    task = with_optional_fields(task, name)
    rng = jax.eval_shape(lambda: jax.random.key(0))
    state = trace(name, "init", task.init, rng, batch)
    stepped = trace(name, "train_step", task.train_step, state, batch, rng)
    new_state, sums = _pair(name, "train_step", stepped)
    _check_same(name, state, new_state)
    _check_sums(name, "train_step", task.finish, sums)
    for function in ("eval_step", "score_step"):
        sums = trace(name, function, getattr(task, function), state, batch, rng)
        _check_sums(name, function, task.finish, sums)
    _check_images(name, "figures", trace(name, "figures", task.figures, state, batch, rng))
    _check_makers_of_images(task, name, state, batch, rng)
    for function in ("log_prob", "evidence"):
        if (call := getattr(task, function)) is not None:
            shape = trace(name, function, call, state, batch | {"draw": batch["index"]}, rng).shape
            if shape != batch["index"].shape:
                raise UserError(f"{name}: {function}() gives {shape}; one number an image is due")
    if task.recover is not None:
        _check_same(name, state, trace(name, "recover", task.recover, state), "recover")
    return task, state


def with_optional_fields(task: Any, name: str) -> Task:
    """The task with every optional field.

    Raises:
      UserError: a required function is missing.
    """
    for function in REQUIRED:
        if not callable(getattr(task, function, None)):
            raise UserError(f"{name} returned {type(task).__name__}, which has no {function}()")
    defaults = Task._field_defaults | {"score_step": task.eval_step}
    optional = {field: getattr(task, field, None) or defaults[field] for field in defaults}
    optional["accumulates"] = getattr(task, "accumulates", True)
    return Task(**{field: getattr(task, field) for field in REQUIRED}, **optional)


def _check_makers_of_images(task, name, state, batch, rng):
    """Traces `sample`, `complete` and `interpolate` with the keys that commands give them."""
    if task.given and task.given not in batch:
        raise UserError(
            f"{name} makes images from `{task.given}`, but the data has {sorted(batch)}"
        )
    index = batch["index"]
    seed = {"index": index, "label": jax.ShapeDtypeStruct(index.shape, np.int32)}
    inputs = {
        "sample": seed,
        "complete": seed | ({task.given: batch[task.given]} if task.given else {}),
        "interpolate": seed | {"end": index},
    }
    calls = list(inputs.items())
    if task.keeps_pixels:
        if task.complete is None or not task.given:
            raise UserError(f"{name} has keeps_pixels, and lacks complete() or `given`")
        keep = jax.ShapeDtypeStruct((*batch[task.given].shape[:-1], 1), np.bool_)
        calls.append(("complete", inputs["complete"] | {"keep": keep}))
    for function, needed in calls:
        if (call := getattr(task, function)) is not None:
            images = trace(name, function, call, state, needed, rng)
            _check_images(name, function, {"images": images})


def trace(name: str, function: str, call: Callable, *args: Any) -> Any:
    """Shapes of what a user's function returns.

    Raises:
      UserError: it fails; says where and why.
    """
    try:
        return jax.eval_shape(call, *args)
    except Exception as error:  # whatever the user's own code raises
        where = _deepest_frame(error)
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: {function}() fails {where}: {type(error).__name__}: {reason}"
        ) from error


def _deepest_frame(error):
    """Where in the user's or our own code, not in a library's, it went wrong."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (os.sep + "site-packages" + os.sep, os.sep + "lib" + os.sep + "python")
    own = [f for f in frames if not any(part in f.filename for part in libraries)]
    frame = (own or frames)[-1]
    return f"at {frame.filename}:{frame.lineno}"


def _pair(name, function, value):
    if not isinstance(value, tuple) or len(value) != 2:
        raise UserError(
            f"{name}: {function}() must return (state, sums), got {type(value).__name__}"
        )
    return value


def _check_same(name, state, new_state, function="train_step"):
    before, after = _leaves(state), _leaves(new_state)
    for path in before.keys() | after.keys():
        if path not in after or path not in before:
            verb = "drops" if path in before else "adds"
            raise UserError(f"{name}: {function}() {verb} the leaf state{path}")
        if before[path] != after[path]:
            raise UserError(
                f"{name}: {function}() changes state{path} from {before[path]} to {after[path]}; "
                "a state must keep its shapes and dtypes"
            )


def _check_sums(name, function, finish, sums):
    if not isinstance(sums, dict) or not sums:
        raise UserError(f"{name}: {function}() must give sums as a dict of arrays, got {sums!r}")
    for path, (_, dtype) in _leaves(sums).items():
        if not jnp.issubdtype(dtype, jnp.number):
            raise UserError(
                f"{name}: {function}() gives sums{path} of {dtype}; sums must be numbers"
            )
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float64), sums)
    try:
        metrics = finish(ones)
    except Exception as error:
        raise UserError(
            f"{name}: finish() fails {_deepest_frame(error)} on the sums of {function}(): "
            f"{type(error).__name__}: {error}"
        ) from error
    bad = {k: v for k, v in dict(metrics).items() if not isinstance(v, float | int | np.number)}
    if bad:
        raise UserError(f"{name}: finish() must return numbers, got {bad}")
    if function == "train_step" and "loss" not in metrics:
        raise UserError(
            f'{name}: finish() of train_step()\'s sums gives no "loss", only {list(metrics)}'
        )


def _check_images(name, function, images):
    if not isinstance(images, dict):
        raise UserError(f"{name}: {function}() must return a dict of images")
    for key, leaf in images.items():
        kind = leaf.dtype
        fits = kind == np.uint8 or jnp.issubdtype(kind, jnp.floating)
        if len(leaf.shape) not in (4, 5) or leaf.shape[-1] not in (1, 3) or not fits:
            raise UserError(
                f"{name}: {function}() gives {key} as {kind}{list(leaf.shape)}; images are uint8 "
                "or float [N, H, W, C] or [rows, columns, H, W, C] with C = 1 or 3"
            )


def _leaves(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p): (leaf.shape, leaf.dtype) for p, leaf in leaves}
