"""Optimisers from the config: schedule, clipping, moving average, accumulation."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from launch.config import by_name
from launch.config.errors import UserError


class EmaState(NamedTuple):
    """Moving averages; tasks find the first in an optimiser's state by the name `ema`."""

    count: jax.Array
    ema: Any
    other_ema: tuple = ()


def parameter_ema(decay: float, *others: float) -> optax.GradientTransformation:
    """Keeps exponential moving averages of the parameters; updates pass unchanged.

    An average starts at the parameters after the first update, and its decay is
    min(decay, (1 + t) / (10 + t)), so early parameters are soon forgotten
    (TensorFlow's ExponentialMovingAverage with num_updates).

    Must come last in a chain: it sees the final updates.

    Args:
      decay: the largest decay of the average that tasks use, in [0, 1).
      *others: of further averages, see `launch.inference.averages`.
    """
    copy = lambda params: jax.tree.map(jnp.array, params)

    def init(params):
        return EmaState(jnp.zeros((), jnp.int32), copy(params), tuple(copy(params) for _ in others))

    def update(updates, state, params):
        most = (1.0 + state.count) / (10.0 + state.count)
        new = optax.apply_updates(params, updates)
        rate = lambda decay: 1.0 - jnp.minimum(decay, most)
        after = lambda decay, ema: optax.incremental_update(new, ema, rate(decay))
        others_now = tuple(after(*pair) for pair in zip(others, state.other_ema, strict=True))
        count = optax.safe_increment(state.count)
        return updates, EmaState(count, after(decay, state.ema), others_now)

    return optax.GradientTransformation(init, update)


def mean_over(axis_name: str, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Averages gradients over a mapped axis first, so that each device updates alike.

    A wrapper and not a link of a chain: the state is that of `inner`, so a checkpoint
    does not depend on how the step was run.

    Args:
      axis_name: the mapped axis under pmap.
      inner: the optimiser.
    """

    def update(updates, state, params=None):
        return inner.update(jax.lax.pmean(updates, axis_name), state, params)

    return optax.GradientTransformation(inner.init, update)


def build(
    spec: Mapping,
    accumulate: int = 1,
    axis_name: str | None = None,
    tables: Mapping[str, jax.Array] | None = None,
) -> tuple[dict[str, Any], dict[str, Callable]]:
    """Builds what `config.optimizer` describes.

    Args:
      spec: `config.optimizer`: one optimiser {"name": ..., **arguments}, or one for each net.
      accumulate: micro-batches of a batch, whose gradients are averaged.
      axis_name: the mapped axis under pmap, None otherwise.
      tables: learning rates by step, as `rate_tables.of` gives them, to be used in place of the
        schedules; arguments of a program, for example.

    Returns:
      The task's arguments: {"optimizer": transformation}, or "<net>_optimizer" for each;
      and the learning rates {name: step -> rate}, by the names that metrics have.

    Raises:
      UserError: an optimiser that cannot be built.
    """
    if "name" in spec:
        table = tables and tables["learning_rate"]
        transformation, rate = _build_one(spec, "config.optimizer", accumulate, axis_name, table)
        return {"optimizer": transformation}, {"learning_rate": rate}
    if not spec:
        raise UserError('config.optimizer: expected a mapping with a "name", e.g. optax:adam')
    optimizers, rates = {}, {}
    for key, one in spec.items():
        name = f"learning_rate/{key}"
        table = tables and tables[name]
        if isinstance(one, ConfigDict) and "power_ema" in one:
            raise UserError(f"config.optimizer.{key}.power_ema: it is for one optimiser alone")
        built = _build_one(one, f"config.optimizer.{key}", accumulate, axis_name, table)
        optimizers[f"{key}_optimizer"], rates[name] = built
    return optimizers, rates


def _build_one(spec, where, accumulate, axis_name, table):
    if not isinstance(spec, ConfigDict):
        raise UserError(f'{where}: expected a mapping with a "name", e.g. optax:adam; got {spec!r}')
    spec = spec.to_dict()
    clip_norm, ema = spec.pop("clip_norm", 0.0), spec.pop("ema", 0.0)
    widths = spec.pop("power_ema", ())
    decays = tuple(ema) if isinstance(ema, list | tuple) else (ema,)
    numbers = all(isinstance(value, int | float) for value in (clip_norm, *decays))
    if not numbers or clip_norm < 0 or not all(0 <= decay < 1 for decay in decays):
        raise UserError(f"{where}: clip_norm={clip_norm!r} must be >= 0 and ema={ema!r} in [0, 1)")
    if len(decays) != 1 and (not all(decays) or len({*decays}) < len(decays)):
        raise UserError(f"{where}.ema={ema!r}: several decays must be different, and none 0")
    if widths and not all(decays):
        raise UserError(f"{where}.power_ema is kept beside an average; give ema above 0")
    rate = spec.get("learning_rate")
    if rate is None:
        raise UserError(f"{where}.learning_rate is missing: a number, or a schedule by name")
    if isinstance(rate, dict):
        rate = by_name.instantiate(rate, f"{where}.learning_rate")
    if table is not None:
        rate = lambda count: table[jnp.minimum(count, len(table) - 1)]
    else:
        _check_rate(rate, f"{where}.learning_rate")
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    own = {key: value for key, value in spec.items() if key != "learning_rate"}
    parts.append(by_name.instantiate(own, where, learning_rate=rate))
    if any(decays):
        parts.append(parameter_ema(*decays))
    if widths:
        from launch.engine.power_ema import power_ema  # which few runs keep

        parts.append(power_ema(widths, where))
    built = optax.chain(*parts)
    if accumulate > 1:
        built = optax.MultiSteps(built, accumulate).gradient_transformation()
    built = mean_over(axis_name, built) if axis_name else built
    return built, rate if callable(rate) else optax.constant_schedule(rate)


def _check_rate(rate, where):
    """Refuses a learning rate that is negative or not finite, at any of many steps."""
    values, places = [rate], [""]
    if callable(rate):
        steps = [0, *(2**power for power in range(25))]
        places = [f" at step {step:,}" for step in steps]
        try:
            values = jax.jit(jax.vmap(rate))(jnp.array(steps)).tolist()
        except Exception as error:  # any code of the user's
            raise UserError(f"{where}: the schedule fails: {type(error).__name__}: {error}")
    for value, place in zip(values, places, strict=True):
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"{where} must be a finite number, 0 or more; it is {value!r}{place}")
