"""Samplers: from noise at t = 0 to an image at t = 1 along the velocity of the clean image.

Each works with any function `denoise(z, t) -> x_hat` (z [B, H, W, C], t a scalar). The last step
of all of them goes to x_hat itself. DDIM (Song et al. 2021) without noise is `euler` on this path.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.flows.paths import heun_step, velocity
from jaxgen.noise import normal


class Sampler(NamedTuple):
    """A rule for one step.

    Attributes:
      start: (z) -> what the rule remembers from step to step.
      step: (denoise, z, memory, t, s, noise) -> (z at time s, memory), t < s < 1.
      noisy: whether `step` uses its noise [B, H, W, C].
      leaps: whether it is for a mean flow, whose `denoise` takes the time of a step's end too.
    """

    start: Callable
    step: Callable
    noisy: bool = False
    leaps: bool = False


def towards(z: jax.Array, x: jax.Array, t: jax.Array, s: jax.Array) -> jax.Array:
    """Goes from time t to s on the line through z and the clean image x.

    Args:
      z: [B, H, W, C].
      x: x_hat [B, H, W, C].
      t: a scalar below 1.
      s: a scalar, t to 1.

    Returns:
      z at time s.
    """
    return z + (s - t) / (1.0 - t) * (x - z)


def euler() -> Sampler:
    """Steps along the velocity at their start."""

    def step(denoise, z, memory, t, s, noise):
        return towards(z, denoise(z, t), t, s), memory

    return Sampler(lambda z: (), step)


def leap() -> Sampler:
    """Steps along the mean velocity up to their end, of a mean flow (Geng et al. 2025)."""

    def step(denoise, z, memory, t, s, noise):
        return towards(z, denoise(z, t, s), t, s), memory

    return Sampler(lambda z: (), step, leaps=True)


def heun() -> Sampler:
    """Steps along the mean of the velocities at their start and end (Karras et al. 2022)."""

    def step(denoise, z, memory, t, s, noise):
        return heun_step(velocity(denoise), z, t, s), memory

    return Sampler(lambda z: (), step)


def dpm_solver() -> Sampler:
    """DPM-Solver++(2M): extrapolates the clean image in log SNR (Lu et al. 2022, algorithm 2)."""

    def start(z):
        return jnp.zeros_like(z), jnp.zeros(())  # the last x_hat, and its h

    def step(denoise, z, memory, t, s, noise):
        last, before = memory
        x = denoise(z, t)
        # h = lambda_s - lambda_t with lambda = logit(t). It is infinite at t = 0, after which
        # nothing is extrapolated.
        h = jnp.log(s / (1.0 - s)) - jnp.log(jnp.maximum(t, 1e-30) / (1.0 - t))
        ahead = jnp.where((before > 0.0) & (before < 40.0), h / jnp.maximum(before, 1e-6), 0.0)
        mixed = x + 0.5 * ahead * (x - last)
        return towards(z, mixed, t, s), (x, h)

    return Sampler(start, step)


def ddim(eta: float = 1.0) -> Sampler:
    """Replaces a part of the noise by fresh noise (Song et al. 2021, equation 12).

    Args:
      eta: 0 for none, 1 for as much as the ancestral sampler of DDPM (Ho et al. 2020).

    Returns:
      The sampler.

    Raises:
      ValueError: `eta` is outside [0, 1].
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"ddim: eta={eta} must be in [0, 1]")

    def step(denoise, z, memory, t, s, noise):
        x = denoise(z, t)
        e = (z - t * x) / (1.0 - t)
        # In units of the image: sigma before and after, and of what is drawn anew.
        before, after = (1.0 - t) / jnp.maximum(t, 1e-30), (1.0 - s) / s
        fresh = eta * after * jnp.sqrt(jnp.maximum(1.0 - (after / before) ** 2, 0.0))
        kept = jnp.sqrt(jnp.maximum(after**2 - fresh**2, 0.0))
        return s * (x + kept * e + fresh * noise), memory

    return Sampler(lambda z: (), step, noisy=eta > 0.0)


def sde(strength: float = 1.0) -> Sampler:
    """Euler-Maruyama on the stochastic equation with the same densities at all t.

    dz = (v + w score) dt + sqrt(2 w) dW with w = strength (1 - t) (Ma et al. 2024, SiT, table 1);
    the score of z is (t x_hat - z) / (1 - t)^2.

    Args:
      strength: of the noise; 0 for none.

    Returns:
      The sampler.

    Raises:
      ValueError: `strength` is negative.
    """
    if strength < 0.0:
        raise ValueError(f"sde: strength={strength} must not be negative")

    def step(denoise, z, memory, t, s, noise):
        x, dt = denoise(z, t), s - t
        drift = (x - z) / (1.0 - t) + strength * (t * x - z) / (1.0 - t)
        return z + dt * drift + jnp.sqrt(2.0 * strength * (1.0 - t) * dt) * noise, memory

    return Sampler(lambda z: (), step, noisy=strength > 0.0)


def even_times(steps: int = 20) -> np.ndarray:
    """Times 0, 1 / steps, ..., 1.

    Args:
      steps: how many.

    Returns:
      float32 [steps + 1].

    Raises:
      ValueError: `steps` is below 1.
    """
    _check_steps(steps)
    return np.linspace(0.0, 1.0, steps + 1, dtype=np.float32)


def karras_times(
    steps: int = 18, low: float = 0.002, high: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    """Times whose noise sigma is evenly spaced in sigma^(1 / rho) (Karras et al. 2022, eq. 5).

    Args:
      steps: how many.
      low: the last sigma before 0.
      high: the first sigma.
      rho: larger spends more steps near the image.

    Returns:
      float32 [steps + 1], from 1 / (1 + high) to 1.

    Raises:
      ValueError: `steps` is below 1, or not 0 < low < high.
    """
    _check_steps(steps)
    if not 0.0 < low < high:
        raise ValueError(f"karras_times: needs 0 < low={low} < high={high}")
    sigma = np.linspace(high ** (1.0 / rho), low ** (1.0 / rho), steps) ** rho
    return np.append(1.0 / (1.0 + sigma), 1.0).astype(np.float32)


def _check_steps(steps):
    if steps < 1:
        raise ValueError(f"steps={steps}: sampling needs at least 1")


def run(
    sampler: Sampler,
    denoise: Callable,
    z: jax.Array,
    times: jax.Array,
    rng: jax.Array,
    index: jax.Array,
    keep: Callable = lambda z, t: z,
) -> jax.Array:
    """Goes from noise to images.

    Args:
      sampler: the rule.
      denoise: (z, t) -> x_hat; with a sampler that leaps (z, t, until) -> x_hat.
      z: the start [B, H, W, C], at times[0].
      times: [steps + 1], rising, the last one 1.
      rng: key of the noise in steps.
      index: int32 [B], the seed of each row.
      keep: (z, t) -> z, applied after each step; by it a part of an image is kept as given.

    Returns:
      Images [B, H, W, C]; row i depends on (rng, index[i], z[i]) alone.
    """

    def one(carry, step):
        z, memory = carry
        t, s, number = step
        noise = z
        if sampler.noisy:
            noise = normal(jax.random.fold_in(rng, number), index, z.shape[1:])
        z, memory = sampler.step(denoise, z, memory, t, s, noise)
        return (keep(z, s), memory), None

    start = keep(z, times[0])
    steps = times[:-2], times[1:-1], jnp.arange(len(times) - 2)
    (z, _), _ = jax.lax.scan(one, (start, sampler.start(z)), steps)
    until = (times[-1],) if sampler.leaps else ()
    return keep(denoise(z, times[-2], *until), times[-1])
