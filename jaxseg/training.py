"""The gradient step that the tasks of this package share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax


class State(NamedTuple):
    """What training changes.

    Attributes:
      params: parameters of the net.
      opt_state: state of the optimiser.
      batch_stats: running statistics of batch norms; {} for a net without them.
    """

    params: Any
    opt_state: optax.OptState
    batch_stats: Any


def init_state(optimizer: optax.GradientTransformation, variables: dict) -> State:
    """The state before the first step.

    Args:
      optimizer: an optax transformation.
      variables: of `net.init`: {"params"} or {"params", "batch_stats"}.

    Returns:
      A `State`.
    """
    params = variables["params"]
    return State(params, optimizer.init(params), variables.get("batch_stats", {}))


def gradient_step(
    optimizer: optax.GradientTransformation, loss: Callable, state: Any
) -> tuple[Any, Any]:
    """Updates parameters, optimiser state and batch statistics once.

    Args:
      optimizer: an optax transformation.
      loss: (params) -> (loss, (batch statistics, other results)); `loss` is a scalar.
      state: a `State`, or any NamedTuple with the same three fields.

    Returns:
      The new state, of the same type, and the other results of `loss`.
    """
    grads, (batch_stats, other) = jax.grad(loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, opt_state=opt_state, batch_stats=batch_stats), other


def ema_params(state: Any) -> Any:
    """Returns the parameters to evaluate with.

    Args:
      state: a `State`, or any NamedTuple with `params` and `opt_state`.

    Returns:
      The moving average named `ema` that the optimiser keeps of the parameters; the
      parameters themselves where it keeps none.
    """
    return optax.tree.get(state.opt_state, "ema", state.params)


def ema_variables(state: Any) -> dict[str, Any]:
    """Returns {"params", "batch_stats"} to evaluate with; see `ema_params`."""
    return {"params": ema_params(state), "batch_stats": state.batch_stats}
