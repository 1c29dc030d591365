"""Exact log density of a flow, by the change of variables along its equation (Chen et al. 2018).

log p(x) = log N(z_0; 0, 1) - integral over t from 0 to 1 of the divergence of the velocity.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.flows.paths import heun_step, velocity
from jaxgen.noise import per_example

# Of 1 - t where the integration begins, by which what a net errs is divided: a trained net's
# equation is too steep nearer to the image to be solved in any few steps.
LAST = 1e-2


class Density(NamedTuple):
    """How the density is computed.

    Attributes:
      steps: of Heun's method from the image to noise.
      probes: random vectors by which the divergence is estimated, without bias (Hutchinson
        1990); the same along the way. 0 computes it exactly, by a derivative for each value of
        the image.
      last: 1 - t of the images, the noise that they hold.
    """

    steps: int
    probes: int
    last: float = LAST


def density(steps: int = 50, probes: int = 1, last: float = LAST) -> Density:
    """How the density is computed; see `Density`.

    Args:
      steps: at least 1.
      probes: 0 for the exact divergence, for small images.
      last: noise that the images are taken to hold, of values from -1 to 1; 0.01 is about a
        level of 256.

    Returns:
      The options.

    Raises:
      ValueError: an argument is out of range.
    """
    if steps < 1 or probes < 0:
        raise ValueError(f"density: steps={steps} must be at least 1, probes={probes} at least 0")
    if not 0.0 < last < 1.0:
        raise ValueError(f"density: last={last} must be between 0 and 1")
    return Density(steps, probes, last)


def log_density(
    options: Density, denoise: Callable, x: jax.Array, rng: jax.Array, index: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The log density of images, and the noise that they come from.

    Args:
      options: see `Density`.
      denoise: (z [B, H, W, C], t, a scalar) -> x_hat.
      x: images [B, H, W, C] with values in [-1, 1], not on a grid of levels.
      rng: key of the probes.
      index: int32 [B], the example of each row.

    Returns:
      log p(x) [B] in nats, and z_0 [B, H, W, C].
    """
    way = velocity(denoise)
    probes = _probes(options, x, rng, index)

    def slope(state, t):
        z, _ = state

        def one(total, probe):
            _, change = jax.jvp(lambda z: way(z, t), (z,), (probe,))
            return total + jnp.sum(probe * change, (1, 2, 3)), None

        divergence, _ = jax.lax.scan(one, jnp.zeros(len(z)), probes)
        return way(z, t), divergence / max(options.probes, 1)

    def step(state, ends):
        return heun_step(slope, state, *ends), None

    times = _times(options.steps, options.last)
    # Going back, s - t is negative: the sum is minus the integral from 0 to 1.
    (z, total), _ = jax.lax.scan(step, (x, jnp.zeros(len(x))), (times[:-1], times[1:]))
    normal = -0.5 * jnp.sum(z**2 + np.log(2.0 * np.pi), (1, 2, 3))
    return normal + total, z


def image_of(options: Density, denoise: Callable, noise: jax.Array) -> jax.Array:
    """The image that comes from noise, along the way of `log_density` in the other direction.

    Args:
      options: see `Density`; the probes are not used.
      denoise: (z [B, H, W, C], t, a scalar) -> x_hat.
      noise: z_0 [B, H, W, C].

    Returns:
      x [B, H, W, C].
    """
    times = _times(options.steps, options.last)[::-1]
    step = lambda z, ends: (heun_step(velocity(denoise), z, *ends), None)
    return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]


def _times(steps, last):
    """From the image to noise, evenly spaced in ln(1 - t).

    Where values hardly vary, the divergence is -1 / (1 - t).
    """
    return jnp.append(1.0 - jnp.geomspace(last, 1.0, steps + 1)[:-1], 0.0)


def _probes(options, x, rng, index):
    """Vectors [N, B, H, W, C]: random signs, or the unit vectors."""
    shape = x.shape[1:]
    if options.probes:
        signs = lambda key: jax.random.rademacher(key, (options.probes, *shape), jnp.float32)
        return jnp.moveaxis(per_example(signs, rng, index), 1, 0)
    units = jnp.eye(int(np.prod(shape))).reshape(-1, 1, *shape)
    return jnp.broadcast_to(units, (len(units), *x.shape))
