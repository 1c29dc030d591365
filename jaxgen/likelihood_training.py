"""Training by the gradient of one loss, for VAEs, flows and autoregressive models."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.batches import ema_params, masked_sums


class State(NamedTuple):
    """The arrays that training changes: parameters and the state of the optimiser."""

    params: Any
    opt_state: optax.OptState


def init(optimizer: optax.GradientTransformation, init_params: Callable) -> Callable:
    """Builds the function `init` of a task.

    Args:
      optimizer: an optax transformation.
      init_params: (rng, batch) -> params.

    Returns:
      (rng, batch) -> State.
    """

    def start(rng, batch):
        params = init_params(rng, batch)
        return State(params, optimizer.init(params))

    return start


def train_step(optimizer: optax.GradientTransformation, terms: Callable) -> Callable:
    """Builds the function `train_step` of a task: one update of the optimiser.

    Args:
      optimizer: an optax transformation.
      terms: (params, batch, rng) -> {name: [B]}. The step minimises the mean of "loss" over
        all rows, and sums all terms over the rows that are examples.

    Returns:
      (state, batch, rng) -> (state, sums).
    """

    def step(state, batch, rng):
        def mean_loss(params):
            values = terms(params, batch, rng)
            return jnp.mean(values["loss"]), masked_sums(values, batch["mask"])

        grads, sums = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state), sums

    return step


def with_ema(function: Callable, *first: Any) -> Callable:
    """Builds a function of a state from a function of parameters.

    Args:
      function: (*first, params, ...) -> result.
      *first: its first arguments.

    Returns:
      (state, ...) -> result, with the moving average of the parameters where the optimiser
      keeps one.
    """
    function = partial(function, *first)
    return lambda state, *rest: function(ema_params(state.opt_state, state.params), *rest)
