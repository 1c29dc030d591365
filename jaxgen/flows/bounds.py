"""The bound of a diffusion model on -log p(image), for images of K levels (Kingma et al. 2021)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.flows import paths
from jaxgen.noise import normal


def bound_terms(
    denoise: Callable,
    x: jax.Array,
    levels: int,
    ends: tuple[float, float],
    rng: jax.Array,
    index: jax.Array,
    draws: int,
) -> dict[str, jax.Array]:
    """The parts of the negative ELBO of each image, in nats.

    The times of the diffusion's part are spread evenly over images and draws, so its mean over a
    data set varies less than with independent ones; those of an image depend on its index alone.

    Args:
      denoise: (z [B, H, W, C], t [B]) -> x_hat.
      x: images [B, H, W, C] whose values are `levels` numbers evenly spaced from -1 to 1.
      levels: K.
      ends: log signal-to-noise ratios between which the diffusion runs.
      rng: key.
      index: int32 [B], the example of each row.
      draws: of time and noise for each image.

    Returns:
      {"prior", "reconstruction", "diffusion", "negative_elbo": [B]}; the last is their sum.
    """
    low, high = ends
    noise = normal(jax.random.fold_in(rng, 0), index, x.shape[1:])
    terms = {
        "prior": _prior(x, low),
        "reconstruction": _reconstruction(x, noise, levels, high),
        "diffusion": diffusion(denoise, x, ends, jax.random.fold_in(rng, 1), index, draws),
    }
    return terms | {"negative_elbo": sum(terms.values())}


def diffusion(
    denoise: Callable,
    x: jax.Array,
    ends: tuple[float, float],
    rng: jax.Array,
    index: jax.Array,
    draws: int,
) -> jax.Array:
    """The part of the bound that depends on the net (Kingma et al. 2021, equation 13).

    Args:
      denoise, x, ends, rng, index, draws: as of `bound_terms`.

    Returns:
      [B], in nats.
    """
    low, high = ends
    density, shift = paths.log_snr(low, high), jax.random.uniform(jax.random.fold_in(rng, draws))

    def one(total, number):
        u = paths.van_der_corput(index) + (number.astype(jnp.float32) + shift) / draws
        t = density.of(u % 1.0)
        noise = normal(jax.random.fold_in(rng, number), index, x.shape[1:])
        error = jnp.sum((denoise(paths.noisy(x, noise, t), t) - x) ** 2, (1, 2, 3))
        return total + 0.5 * (high - low) * (t / (1.0 - t)) ** 2 * error, None

    return jax.lax.scan(one, jnp.zeros(len(x)), jnp.arange(draws))[0] / draws


def _prior(x, low):
    """KL of the noisiest z, scaled to variance 1, from the standard normal distribution."""
    signal, noise = jax.nn.sigmoid(low), jax.nn.sigmoid(-low)
    return 0.5 * jnp.sum(signal * x**2 + noise - 1.0 - jnp.log(noise), (1, 2, 3))


def _reconstruction(x, noise, levels, high):
    """-log P(x | the cleanest z), a softmax over the levels by their distance to z."""
    sigma = jnp.exp(-0.5 * high)
    known = jnp.linspace(-1.0, 1.0, levels)[None, None, None, None]
    logits = -(((x + sigma * noise)[..., None] - known) ** 2) / (2.0 * sigma**2)
    place = jnp.round((x + 1.0) * 0.5 * (levels - 1)).astype(jnp.int32)
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.take_along_axis(log_p, place[..., None], -1)[..., 0], (1, 2, 3))
