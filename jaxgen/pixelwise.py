"""An autoregressive net applied to images: all conditionals at once, or one value after another."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.likelihoods.pixels import PixelLikelihood
from jaxgen.likelihoods.pixels import draw as draw_value
from jaxgen.nets.masked import write
from jaxgen.task import Codec


class Model(NamedTuple):
    """The net and what it models; the first argument of every function below.

    Attributes:
      net: see `jaxgen.nets.pixelrnn`.
      likelihood: p(x_i | x before i).
      shape: (H, W, C) of an image; (h, w, L) of its codes with a codec.
      classes: number of classes that the net is conditioned on; 0 for none.
      given_rows: rows at the top of an image that `complete` keeps.
      cached: whether the net can be called at one pixel, see `jaxgen.nets.masked`.
      codec: whose codes are modelled; None for the values of images.
    """

    net: Any
    likelihood: PixelLikelihood
    shape: tuple[int, int, int]
    classes: int
    given_rows: int
    cached: bool
    codec: Codec | None = None


def conditionals(
    model: Model, params: dict, x: jax.Array, condition: jax.Array | None
) -> jax.Array:
    """Computes the conditional distributions of all values.

    Args:
      model: the model.
      params: of the net.
      x: the observed variable [B, H, W, C].
      condition: [B, classes], or None.

    Returns:
      Parameters [B, H, W, C, K] of p(x_i | x before i).
    """
    return model.likelihood.parameters(x, model.net.apply({"params": params}, x, condition))


def draw(
    model: Model,
    params: dict,
    x: jax.Array,
    rows: int,
    condition: jax.Array | None,
    uniform: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Draws the values that follow the first rows of images.

    Args:
      model: the model; its `cached` selects the loop.
      params: of the net.
      x: [B, H, W, C], of which the first `rows` rows are kept.
      rows: number of rows to keep.
      condition: [B, classes], or None.
      uniform: [B, H, W, C], see `noise`.

    Returns:
      x with the values that were drawn, and the grey levels to show, [B, H, W, C] each.
    """
    x = x.at[:, rows:].set(0.0)
    loop = _draw_cached if model.cached else _draw_uncached
    return loop(model, params, x, rows, condition, uniform)


def _draw_cached(model, params, x, rows, condition, uniform):
    """Computes the given rows in one pass, then one pixel after another from the cache."""
    height, width, channels = model.shape
    likelihood, apply = model.likelihood, partial(model.net.apply, mutable=["cache"])
    _, state = apply({"params": params}, x, condition)

    def net(cache, at):
        outputs, state = apply({"params": params, "cache": cache}, None, condition, at)
        return outputs, state["cache"]

    def pixel(row, cache, column):
        number, uniform = column
        at, value = (row, number), jnp.zeros_like(uniform)
        for channel in range(channels):
            if channel == 0 or not likelihood.joint:
                outputs, cache = net(cache, at)
            parameters = likelihood.parameters(value, outputs)
            level = draw_value(likelihood, parameters[:, channel], uniform[:, channel])
            value = value.at[:, channel].set(level)
            cache = cache | {"x": write(cache["x"], value, at)}
        return cache, (value, likelihood.show(value, parameters))

    def one_row(cache, item):
        row, uniform = item
        _, cache = net(cache, (row, None))
        return jax.lax.scan(partial(pixel, row), cache, (jnp.arange(width), uniform))

    places = jnp.arange(rows, height), jnp.moveaxis(uniform, 0, 2)[rows:]
    _, (values, shown) = jax.lax.scan(one_row, state["cache"], places)
    return tuple(x.at[:, rows:].set(jnp.moveaxis(part, 2, 0)) for part in (values, shown))


def _draw_uncached(model, params, x, rows, condition, uniform):
    """Computes the whole image for each value: slow, for nets without a cache."""
    size = int(np.prod(model.shape[1:]))

    def value(number, carry):
        x, shown = carry
        at = (slice(None), *jnp.unravel_index(number, model.shape))
        parameters = conditionals(model, params, x, condition)[at]
        x = x.at[at].set(draw_value(model.likelihood, parameters, uniform[at]))
        return x, shown.at[at].set(model.likelihood.show(x[at], parameters))

    return jax.lax.fori_loop(rows * size, model.shape[0] * size, value, (x, x))
