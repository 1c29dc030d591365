"""Averages of the parameters that are chosen after training (Karras et al. 2024, section 3.2).

In a power-function average at step t the parameters after update tau count as tau^gamma. From a few
of them, kept at several checkpoints, the average of any other width is mixed, nearly exactly.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from launch import checkpoints
from launch.checkpoints import restoring
from launch.config.errors import UserError
from launch.engine import trained_runs
from launch.engine.optimizer import WIDEST, gamma_of

PREFIX = "power:"


def mixed(run: trained_runs.Restored, workdir: Any, name: str) -> Any:
    """The parameters averaged with another width, up to the run's step.

    Args:
      run: the run.
      workdir: its folder.
      name: "power:WIDTH", the width as a share of the training's length.

    Returns:
      A tree like the parameters.

    Raises:
      UserError: no such width, or a run that keeps no such averages.
    """
    widths = run.config.optimizer.get("power_ema", ())
    widths = widths if isinstance(widths, list | tuple) else (widths,)
    if not widths:
        raise UserError(
            f"--ema={name}: the run keeps no power-function averages; train with, for example, "
            "--config.optimizer.power_ema=0.05,0.1"
        )
    try:
        width = float(name.removeprefix(PREFIX))
    except ValueError:
        width = 0.0
    if not 0.0 < width <= WIDEST:
        raise UserError(f"--ema={name}: give a width above 0, at most {WIDEST}, as power:0.08")
    folder = workdir / "checkpoints"
    steps = [step for step in checkpoints.steps(folder) if step <= run.step]
    total, kept = None, [(step, gamma_of(one)) for step in steps for one in widths]
    weights = iter(mixture(kept, (run.step, gamma_of(width))))
    template = run.experiment.compiled.template
    for step in steps:
        state = run.state if step == run.step else restoring.restore(folder, step, template)
        for average in optax.tree.get(state.opt_state, "power_ema"):
            weight = next(weights)
            part = jax.tree.map(lambda leaf, weight=weight: weight * leaf, average)
            total = part if total is None else jax.tree.map(np.add, total, part)
    return total


def mixture(kept: Sequence[tuple[int, float]], wanted: tuple[int, float]) -> np.ndarray:
    """How to mix averages so that their profile is the nearest to another one.

    Args:
      kept: (step, gamma) of each average.
      wanted: (step, gamma).

    Returns:
      Weights [N], by least squares; their sum is about 1.
    """
    gram = np.array([[overlap(one, other) for other in kept] for one in kept])
    return np.linalg.lstsq(gram, np.array([overlap(one, wanted) for one in kept]), rcond=None)[0]


def overlap(one: tuple[int, float], other: tuple[int, float]) -> float:
    """The integral of the product of two profiles (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t].

    Args:
      one: (t, gamma) of a profile.
      other: of the other.
    """
    (t, gamma), (s, delta) = one, other
    least = min(t, s)
    scaled = (least / t) ** gamma * (least / s) ** delta * least / (t * s)
    return (gamma + 1.0) * (delta + 1.0) / (gamma + delta + 1.0) * scaled
