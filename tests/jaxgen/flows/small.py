"""A small flow, with examples and parameters for it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.flow import flow
from jaxgen.flows.sampling_options import Sampling, step_by_step
from jaxgen.nets.image_transformer import ImageTransformer

KEY, SHAPE = jax.random.key(0), (4, 4, 1)
NET = ImageTransformer(patch=2, width=16, layers=1, heads=2)
FUNCTIONS = ("init", "train_step", "eval_step", "sample", "complete", "interpolate", "figures")


def make_batch(count=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, *SHAPE)).astype(np.uint8),
        "label": (np.arange(count) % 2).astype(np.int32),
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


def make_task(optimizer=None, shape=SHAPE, label=np.int32, **kwargs):
    """A task with its functions compiled; `kwargs` are those of `flow` and of its sampling."""
    example = {"image": jax.ShapeDtypeStruct(shape, np.uint8)}
    if label:
        example["label"] = jax.ShapeDtypeStruct((), label)
    options = {key: kwargs.pop(key) for key in Sampling._fields if key in kwargs}
    kwargs["sampling"] = step_by_step(**{"grid": np.linspace(0, 1, 5)} | options)
    task = flow(NET, optimizer or optax.sgd(0.1), example, **kwargs)
    return task._replace(**{name: jax.jit(getattr(task, name)) for name in FUNCTIONS})


def far_from_zero(task, batch, seed=0):
    """A state whose parameters are all random, so that no zero hides anything."""
    state, rng = jax.eval_shape(task.init, KEY, batch), np.random.default_rng(seed)
    normal = lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype)
    zeros = lambda leaf: jnp.zeros(leaf.shape, leaf.dtype)
    params = jax.tree.map(normal, state.params)
    return state._replace(params=params, opt_state=jax.tree.map(zeros, state.opt_state))


def model_of(task):
    """The model that a task's functions are closed over."""
    return task.finish.args[0]
