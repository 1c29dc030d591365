"""How a flow makes images: its sampler, the times of its steps, guidance, what stays as given."""

from typing import NamedTuple

import numpy as np

from jaxgen.flows.samplers import Sampler, even_times, heun


class Sampling(NamedTuple):
    """How images are made; the net knows nothing of it, so it may differ from call to call.

    Attributes:
      sampler: from noise to image.
      grid: its times, [steps + 1].
      guidance: weight of the class beside no class; 1 for the class alone.
      interval: times between which the guidance acts.
      autoguidance: whether a weaker net guides, in place of no class.
      given_rows: rows at the top of an image that `complete` keeps; None for half of them.
      start: time from which `complete` remakes whole images; 0 for keeping rows.
    """

    sampler: Sampler
    grid: np.ndarray
    guidance: float
    interval: tuple[float, float]
    autoguidance: bool
    given_rows: int | None
    start: float


def step_by_step(
    sampler: Sampler | None = None,
    grid: np.ndarray | None = None,
    guidance: float = 1.0,
    interval: tuple[float, float] = (0.1, 1.0),
    autoguidance: bool = False,
    given_rows: int | None = None,
    start: float = 0.0,
) -> Sampling:
    """Makes images from noise in a few steps.

    Args:
      sampler: see `jaxgen.flows.samplers`; Heun's by default.
      grid: times of the steps, [steps + 1], see `samplers.even_times`; 20 steps by default.
      guidance: x_hat = x_none + guidance (x_class - x_none) (Ho and Salimans 2022).
      interval: times between which the guidance acts (Kynkäänniemi et al. 2024).
      autoguidance: guides by a weaker net in place of no class: x_hat = x_weaker + guidance
        (x_class - x_weaker) (Karras et al. 2024, "Guiding a diffusion model with a bad version of
        itself"). Images are made by the optimiser's moving average, and the weaker net's
        parameters are those of the state itself, where the caller puts them.
      given_rows: rows at the top that `complete` keeps; half of them by default.
      start: above 0, `complete` keeps no rows: it adds noise to the whole image, as much as there
        is at this time, and samples from there (SDEdit, Meng et al. 2022).

    Returns:
      The options.

    Raises:
      ValueError: an argument outside its range, or a guidance that acts at no step.
    """
    grid = even_times(20) if grid is None else np.asarray(grid)
    interval = tuple(interval)
    rises = grid.ndim == 1 and len(grid) > 1 and np.all(np.diff(grid) > 0)
    if not rises or grid[0] < 0 or grid[-1] != 1:
        raise ValueError(f"grid must rise from 0 or more to 1, see `even_times`; got {grid}")
    ordered = len(interval) == 2 and 0.0 <= interval[0] <= interval[1] <= 1.0
    if not 0.0 <= guidance < np.inf:
        raise ValueError(f"guidance={guidance} must be 0 or more, and finite; 1 is for none")
    if not ordered:
        raise ValueError(f"interval={interval}: needs 0 <= from <= to <= 1")
    if not 0.0 <= start < 1.0:
        raise ValueError(f"start={start} must be in [0, 1); at 1 an image stays as it is")
    times = start + (1.0 - start) * grid[:-1]  # of images that are guided
    if guidance != 1.0 and not np.any((times >= interval[0]) & (times <= interval[1])):
        raise ValueError(
            f"guidance={guidance} acts at times {interval[0]:g} to {interval[1]:g}, where no step "
            f"begins (of {len(times)}): take more steps, another interval, or guidance=1"
        )
    return Sampling(sampler or heun(), grid, guidance, interval, autoguidance, given_rows, start)
