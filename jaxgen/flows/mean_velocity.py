"""MeanFlow: a net that knows the mean velocity up to a later time, and so samples in one step.

u(z, t, s) is the mean of the velocity along the flow from t to s (Geng et al. 2025). Between the
times the path is not straight, but u takes z to its end at once: z_s = z_t + (s - t) u.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.flows.paths import like, noisy
from jaxgen.task import Codec

NEAREST = 0.05  # of 1 - t, by which velocities are divided, as of `weights.velocity`
SMALL = 1e-3  # added to errors that weigh by their own inverse
WAVES = 8


class Teacher(NamedTuple):
    """A trained flow, whose velocity another one learns from.

    Attributes:
      denoise: (z [B, *shape], t [B], condition [B, K + 1] or None) -> x_hat [B, *shape], the clean
        image. The condition's last column is that of no class.
      shape: (H, W, C) of an image, or of its latents.
      classes: K; 0 for none.
      class_dropout: share of examples that it trained on without their class.
      levels: values that a pixel has; 2 for pixels that are drawn as black or white.
      codec: of the latents; None for a flow of the pixels.
    """

    denoise: Callable
    shape: tuple[int, int, int]
    classes: int = 0
    class_dropout: float = 0.0
    levels: int = 0
    codec: Codec | None = None


class MeanFlow(NamedTuple):
    """How a mean flow trains.

    Attributes:
      share: of the examples whose second time lies ahead; the others learn the flow itself.
      ends: of these, the share whose second time is that of the image itself.
      power: errors weigh by 1 / (error + 1e-3)^power.
      teacher: a trained flow that gives the velocity; None for that of each image and its noise.
    """

    share: float
    ends: float
    power: float
    teacher: Teacher | None = None


def mean_flow(
    share: float = 0.5, ends: float = 0.5, power: float = 1.0, teacher: Teacher | None = None
) -> MeanFlow:
    """Trains the mean velocity beside the velocity (Geng et al. 2025).

    Args:
      share: of the examples whose second time lies ahead.
      ends: of these, the share whose second time is 1, the image. Two times of the density of
        training hardly ever are noise and image, between which one step leads. The paper takes
        no such share, and trains for 800,000 steps.
      power: of the weight; 0 for even weights.
      teacher: a trained flow. Its velocity at z is the mean of x - e over the pairs (x, e) that z
        may come from, so targets without this noise are learned (consistency distillation, Song
        et al. 2023, with the identity of Geng et al. 2025).

    Returns:
      The options.

    Raises:
      ValueError: one is out of range.
    """
    if not 0.0 < share <= 1.0 or not 0.0 <= ends <= 1.0 or power < 0.0:
        raise ValueError(
            f"mean_flow: share={share} must be in (0, 1], ends={ends} in [0, 1], power={power} at "
            "least 0"
        )
    return MeanFlow(share, ends, power, teacher)


def ahead(t: jax.Array, until: jax.Array) -> jax.Array:
    """What the net sees of the second time: features that are 0 where both times are the same.

    So a net that begins as a flow without them is the same flow at first, if it has no classes:
    with them its kernel for the condition has another shape, and begins anew.

    Args:
      t: [B].
      until: [B], at least t.

    Returns:
      float32 [B, 8].
    """
    steps = np.arange(1, WAVES + 1, dtype=np.float32)[None]
    return jnp.sin(0.5 * np.pi * (until - t)[:, None] * steps)


def second_times(options: MeanFlow, t: jax.Array, other: jax.Array, u: jax.Array):
    """Two times for each example.

    Args:
      options: its `share` and `ends` are used.
      t: [B], of the density of training.
      other: [B], of the same.
      u: [B], uniform in [0, 1).

    Returns:
      The earlier and the later time [B]; both are t for all but the share.
    """
    apart, to_end = u < options.share, u < options.share * options.ends
    first = jnp.where(apart & ~to_end, jnp.minimum(t, other), t)
    last = jnp.where(to_end, 1.0, jnp.maximum(t, other))
    return first, jnp.where(apart, last, t)


def bounded(x: jax.Array, z: jax.Array, t: jax.Array) -> jax.Array:
    """The end of the line from z along the velocity (x - z) / max(1 - t, 0.05).

    That is x itself but where t is above 0.95: there (x - z) / (1 - t) would make much of a net's
    small errors. Training and sampling both see this end, so they mean the same velocity.

    Args:
      x: what the net gives, [B, H, W, C].
      z: [B, H, W, C].
      t: [B].

    Returns:
      [B, H, W, C].
    """
    left = like(1.0 - t, z)
    return z + left / jnp.maximum(left, NEAREST) * (x - z)


def velocity(
    teacher: Teacher | None,
    x: jax.Array,
    noise: jax.Array,
    z: jax.Array,
    t: jax.Array,
    condition: jax.Array | None,
) -> jax.Array:
    """The velocity that a mean flow learns from.

    Args:
      teacher: whose velocity it is, where there is one.
      x: images [B, H, W, C].
      noise: [B, H, W, C].
      z: [B, H, W, C], on the path between both.
      t: [B].
      condition: [B, K + 1], or None.

    Returns:
      [B, H, W, C]: x - e, or the teacher's (x_hat - z) / (1 - t). For t above 0.95 it is x - e
      always: there 1 - t would make much of a teacher's small errors. The mean is the same.
    """
    v = x - noise
    if teacher is None:
        return v
    left = like(1.0 - t, z)
    taught = (teacher.denoise(z, t, condition) - z) / jnp.maximum(left, NEAREST)
    return jnp.where(left < NEAREST, v, jax.lax.stop_gradient(taught))


def loss(
    options: MeanFlow,
    denoise: Callable,
    x: jax.Array,
    noise: jax.Array,
    t: jax.Array,
    until: jax.Array,
    condition: jax.Array | None = None,
) -> jax.Array:
    """The error of the mean velocity, by the identity u = v + (s - t) du/dt.

    du/dt is the derivative along the flow, one product of the net's Jacobian with (v, 1, 0); no
    gradient goes through the target (Geng et al. 2025, whose time runs the other way).

    Args:
      options: its `power` and its `teacher` are used.
      denoise: (z [B, H, W, C], t [B], until [B]) -> x_hat, so that u = (x_hat - z) / (1 - t);
        `bounded`, for t near 1.
      x: images [B, H, W, C].
      noise: [B, H, W, C].
      t: [B].
      until: [B].
      condition: [B, K + 1] or None, which the teacher is given.

    Returns:
      [B]: squared errors, weighted.
    """
    z = noisy(x, noise, t)
    v = velocity(options.teacher, x, noise, z, t, condition)
    # A wide density gives t = 1 after rounding, where both are 0.
    left = lambda t: like(jnp.maximum(1.0 - t, 1e-6), z)
    mean = lambda z, t, until: (denoise(z, t, until) - z) / left(t)
    tangents = v, jnp.ones_like(t), jnp.zeros_like(until)
    u, slope = jax.jvp(mean, (z, t, until), tangents)
    target = jax.lax.stop_gradient(v + like(until - t, z) * slope)
    error = jnp.mean((u - target) ** 2, axis=(1, 2, 3))
    weight = (jax.lax.stop_gradient(error) + SMALL) ** -options.power
    return weight * error
