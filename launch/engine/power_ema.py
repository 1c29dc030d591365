"""Power-function averages of the parameters (Karras et al. 2024, section 3.1).

The parameters after update t count as t^gamma. `launch.inference.power_averages` mixes averages of
other widths from those that are kept.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from launch.config.errors import UserError

WIDEST = 0.28  # of a power-function average: a larger one has a negative exponent


class PowerState(NamedTuple):
    """The averages, one for each width, after `power_count` updates."""

    power_count: jax.Array
    power_ema: tuple


def gamma_of(width: float) -> float:
    """The exponent of a power-function average whose profile is that wide.

    Args:
      width: standard deviation of the times of the parameters that are averaged, as a share of
        the training's length (sigma_rel of Karras et al. 2024).

    Returns:
      gamma, the largest root of width^2 (gamma + 2)^2 (gamma + 3) = gamma + 1.
    """
    inverse = width**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


def power_ema(widths: Any, where: str) -> optax.GradientTransformation:
    """Keeps averages of the parameters; updates pass unchanged.

    Must come last in a chain: it sees the final updates.

    Args:
      widths: of the averages, see `gamma_of`; one number, or several.
      where: the key of the optimiser, for messages.

    Raises:
      UserError: a width that no average has.
    """
    widths = tuple(widths) if isinstance(widths, list | tuple) else (widths,)
    if not all(isinstance(width, float) and 0.0 < width <= WIDEST for width in widths):
        raise UserError(f"{where}.power_ema={widths!r}: widths above 0, at most {WIDEST}")
    return averages([gamma_of(width) for width in widths])


def averages(gammas: Sequence[float]) -> optax.GradientTransformation:
    """As `power_ema`, of exponents.

    Args:
      gammas: one for each average.
    """

    def init(params):
        copies = tuple(jax.tree.map(jnp.array, params) for _ in gammas)
        return PowerState(jnp.zeros((), jnp.int32), copies)

    def update(updates, state, params):
        new = optax.apply_updates(params, updates)
        # Equation 4 with t = count + 1.
        share = lambda gamma: -jnp.expm1(-(gamma + 1.0) * jnp.log1p(1.0 / state.power_count))
        pairs = zip(gammas, state.power_ema, strict=True)
        now = tuple(optax.incremental_update(new, ema, share(gamma)) for gamma, ema in pairs)
        return updates, PowerState(optax.safe_increment(state.power_count), now)

    return optax.GradientTransformation(init, update)
