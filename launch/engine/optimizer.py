"""Optimisers from the config: schedule, clipping, moving average, accumulation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from launch.config import by_name
from launch.config.errors import UserError


class EmaState(NamedTuple):
    """The moving average; `jaxgen` finds it in an optimiser's state by this name."""

    count: jax.Array
    ema: Any


def parameter_ema(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the parameters; updates pass through.

    The average starts at the parameters after the first update, and its decay is
    min(decay, (1 + t) / (10 + t)), so early parameters are soon forgotten
    (TensorFlow's ExponentialMovingAverage with num_updates).

    Must come last in a chain: it sees the final updates.
    """

    def init(params):
        return EmaState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params))

    def update(updates, state, params):
        rate = jnp.minimum(decay, (1.0 + state.count) / (10.0 + state.count))
        new = optax.apply_updates(params, updates)
        ema = optax.incremental_update(new, state.ema, 1.0 - rate)
        return updates, EmaState(optax.safe_increment(state.count), ema)

    return optax.GradientTransformation(init, update)


def mean_over(axis_name: str, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Averages gradients over a mapped axis first, for `pmap`: each device updates alike.

    A wrapper, not a link of the chain: the state is that of `inner`, so a checkpoint
    does not depend on how the step was run.
    """

    def update(updates, state, params=None):
        return inner.update(jax.lax.pmean(updates, axis_name), state, params)

    return optax.GradientTransformation(inner.init, update)


def build(config: ConfigDict, axis_name: str | None = None) -> tuple[dict, dict]:
    """Builds what `config.optimizer` describes.

    Args:
      config: the whole config.
      axis_name: the mapped axis under pmap, None otherwise.

    Returns:
      The task's arguments, {"optimizer": transformation}, or one
      "<net>_optimizer" for each where the config holds several; and their learning
      rates as functions of the step, by the name they are logged under.

    Raises:
      UserError: an optimiser that cannot be built.
    """
    spec = config.optimizer
    if "name" in spec:
        transformation, schedule = _build_one(config, spec, "config.optimizer", axis_name)
        return {"optimizer": transformation}, {"learning_rate": schedule}
    if not spec:
        raise UserError('config.optimizer: expected a mapping with a "name", e.g. optax:adam')
    optimizers, schedules = {}, {}
    for key in spec:
        made = _build_one(config, spec[key], f"config.optimizer.{key}", axis_name)
        optimizers[f"{key}_optimizer"], schedules[f"learning_rate/{key}"] = made
    return optimizers, schedules


def _build_one(config, spec, where, axis_name):
    spec = spec.to_dict()
    clip_norm, ema = spec.pop("clip_norm", 0.0), spec.pop("ema", 0.0)
    if clip_norm < 0 or not 0 <= ema < 1:
        raise UserError(f"{where}: clip_norm={clip_norm} must be >= 0 and ema={ema} in [0, 1)")
    rate = spec.get("learning_rate")
    if rate is None:
        raise UserError(f"{where}.learning_rate is missing: a number, or a schedule by name")
    if isinstance(rate, dict):
        rate = by_name.instantiate(rate, f"{where}.learning_rate")
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    own = {key: value for key, value in spec.items() if key != "learning_rate"}
    parts.append(by_name.instantiate(own, where, learning_rate=rate))
    if ema:
        parts.append(parameter_ema(ema))
    made = optax.chain(*parts)
    if config.train.accumulate > 1:
        made = optax.MultiSteps(made, config.train.accumulate).gradient_transformation()
    made = mean_over(axis_name, made) if axis_name else made
    return made, rate if callable(rate) else optax.constant_schedule(rate)
