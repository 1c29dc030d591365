"""Averages of the parameters that are chosen after training (Karras et al. 2024, section 3.2).

In a power-function average at step t the parameters after update tau count as tau^gamma. From a few
of them, kept at several checkpoints, the average of another width is mixed, the more exactly the
more are kept.
"""

import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from launch import checkpoints
from launch.checkpoints import restoring, state_files
from launch.config.errors import UserError
from launch.engine import trained_runs
from launch.engine.power_ema import WIDEST, gamma_of

logger = logging.getLogger("segen")

PREFIX = "power:"
MOST_ERROR = 0.15  # of the profile of a mixture


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
    width = width_of(name)
    folder = workdir / "checkpoints"
    whole = lambda step: state_files.find_damage(folder / str(step)) is None
    steps = [step for step in checkpoints.steps(folder) if step <= run.step and whole(step)]
    kept = [(step, gamma_of(one)) for step in steps for one in widths]
    weights, error = mixture(kept, (run.step, gamma_of(width)))
    detail = f"mixed from {len(kept)} averages of {len(steps)} checkpoints, {error:.0%} off"
    if error > MOST_ERROR:
        raise UserError(
            f"--ema={name}: {detail}; at most {MOST_ERROR:.0%} is allowed. Give a width nearer to "
            f"those that are kept ({', '.join(map(str, widths))}), or train with more checkpoints: "
            "--config.checkpoint.keep=10"
        )
    logger.info(f"--ema={name}: {detail}")
    total, remaining = None, iter(weights)
    template = run.experiment.compiled.template
    for step in steps:
        state = run.state if step == run.step else restoring.restore(folder, step, template)
        for average in optax.tree.get(state.opt_state, "power_ema"):
            weight = next(remaining)
            part = jax.tree.map(lambda leaf, weight=weight: weight * leaf, average)
            total = part if total is None else jax.tree.map(np.add, total, part)
    return total


def width_of(name: str) -> float:
    """The width that "power:WIDTH" names.

    Raises:
      UserError: there is no such width.
    """
    try:
        width = float(name.removeprefix(PREFIX))
    except ValueError:
        width = 0.0
    if not 0.0 < width <= WIDEST:
        raise UserError(f"--ema={name}: give a width above 0, at most {WIDEST}, as power:0.08")
    return width


def mixture(
    kept: Sequence[tuple[int, float]], wanted: tuple[int, float]
) -> tuple[np.ndarray, float]:
    """How to mix averages so that their profile is the nearest to another one.

    Args:
      kept: (step, gamma) of each average.
      wanted: (step, gamma).

    Returns:
      Weights [N] by least squares, whose sum is 1; and how far their profile is from the
      wanted one, as a share of its norm.
    """
    gram = np.array([[overlap(one, other) for other in kept] for one in kept])
    aim, ones = np.array([overlap(one, wanted) for one in kept]), np.ones((len(kept), 1))
    # With a Lagrange multiplier for the sum.
    system = np.block([[gram, ones], [ones.T, np.zeros((1, 1))]])
    weights = np.linalg.lstsq(system, np.append(aim, 1.0), rcond=None)[0][:-1]
    norm = overlap(wanted, wanted)
    square = weights @ gram @ weights - 2.0 * weights @ aim + norm
    return weights, float(np.sqrt(max(square, 0.0) / norm))


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
