"""Learning rates as tables: a program that takes them as arguments serves any schedule.

A plan times a step before it knows how many steps there will be. By tables the program that it
compiled is the training's.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from launch.engine import validate

SHORTEST = 4096  # steps of a table, so that most are equally long


class Tabled(NamedTuple):
    """Learning rates as arguments of a program, which then does not depend on their schedules.

    Attributes:
      tables: of `of`.
      make: (tables) -> the task, and its learning rates {name: step -> rate}.
    """

    tables: dict[str, np.ndarray]
    make: Callable


def tabled(make: Callable, rates: Mapping[str, Callable], steps: int, name: str) -> Tabled:
    """Makes ready a program that does not depend on the number of steps.

    Args:
      make: (tables) -> a task as its factory gives it, and its learning rates.
      rates: {name: step -> learning rate} by the schedules.
      steps: of the training.
      name: of the task, for messages.
    """

    def task_of(tables):
        task, read = make(tables=tables)
        return validate.with_optional_fields(task, name), read

    return Tabled(of(rates, steps), task_of)


def of(rates: Mapping[str, Callable], steps: int) -> dict[str, np.ndarray]:
    """Learning rates as numbers, so that a program does not depend on what makes them.

    Args:
      rates: {name: step -> learning rate}.
      steps: of the training; a task's optimisers take as many.

    Returns:
      {name: float32 [N]}, N a power of two above `steps`, the same for most trainings.
    """
    count = max(SHORTEST, 2 ** steps.bit_length())
    tables = {}
    for name, rate in rates.items():
        at = jax.vmap(lambda step, rate=rate: jnp.asarray(rate(step), jnp.float32))
        tables[name] = np.asarray(jax.jit(at)(jnp.arange(count)))
    return tables
