"""Tasks that follow the gradient of one loss: what a VAE, DRAW and a PixelRNN share."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.batches import ema_params, masked_sums


class State(NamedTuple):
    """What training changes."""

    params: Any
    opt_state: optax.OptState


def init(optimizer: optax.GradientTransformation, init_params: Callable) -> Callable:
    """(rng, batch) -> State, given (rng, batch) -> params."""

    def start(rng, batch):
        params = init_params(rng, batch)
        return State(params, optimizer.init(params))

    return start


def train_step(optimizer: optax.GradientTransformation, terms: Callable) -> Callable:
    """(state, batch, rng) -> (state, sums): one update of the optimiser.

    Args:
      optimizer: an optax transformation.
      terms: (params, batch, rng) -> {name: [B]}, of which the mean of "loss" is followed
        and all are summed over the rows that are examples.
    """

    def step(state, batch, rng):
        def mean_loss(params):
            found = terms(params, batch, rng)
            return jnp.mean(found["loss"]), masked_sums(found, batch["mask"])

        grads, sums = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state), sums

    return step


def with_ema(function: Callable, *first: Any) -> Callable:
    """(state, ...) -> function(*first, params, ...), by the averaged parameters."""
    function = partial(function, *first)
    return lambda state, *rest: function(ema_params(state.opt_state, state.params), *rest)
