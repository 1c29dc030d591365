"""What tests of the engine share."""

import jax
import numpy as np

from launch.engine import compiled_steps, experiments, validate


def one_device():
    """A mesh of one device."""
    return jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))


def compiled(task, learning_rates=None, **options):
    """The compiled steps of a task that is no model, on one device."""
    state = jax.eval_shape(task.init, None, None)
    whole = validate.with_optional_fields(task, "task")
    plain = {"accumulate": 1, "augment": (), "resident": None, "pmap": False}
    options = plain | {"skip_nonfinite": False, "learning_rates": learning_rates or {}} | options
    return compiled_steps.compile_task(whole, state, one_device(), seed=0, **options)


def experiment_of(task, learning_rates=None, **options):
    """The experiment of a task that is no model, on one device."""
    whole, steps = (
        validate.with_optional_fields(task, "task"),
        compiled(task, learning_rates, **options),
    )
    return experiments.Experiment(whole, steps, one_device(), {})
