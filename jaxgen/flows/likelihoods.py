"""Likelihoods of a flow: the bound of a diffusion model, and the density along its equation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.flows import bounds, ode, paths, weights
from jaxgen.flows.model import Model, condition_of, denoise, noise_of, observe
from jaxgen.noise import per_example

# Log signal-to-noise ratios between which the bound's diffusion runs, by levels: before and
# after, z tells nothing and all about such values.
ENDS = {2: (-10.0, 4.0), 256: (-10.0, 13.0)}
EDGE = 0.01  # share of the times of training, early and late, without evidence of the class


def clean_of(model: Model, params: dict, batch: dict) -> Callable:
    """(z, t) -> x_hat with the classes of a batch.

    Args:
      model: the model.
      params: of the net.
      batch: `label` [B] for a conditional model.
    """
    condition = condition_of(model, batch)
    return lambda z, t: denoise(model, params, z, t, condition)


def terms(model: Model, params: dict, batch: dict, rng: jax.Array, thorough: bool) -> dict:
    """What an evaluation says of the likelihood.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key.
      thorough: whether the bound takes the model's `draws`, not one; and whether the density
        is computed.

    Returns:
      With `levels` those of `bounds.bound_terms`, and perhaps "nll" and "noise_square", [B] each.
    """
    clean, found = clean_of(model, params, batch), {}
    if model.levels:
        x = observe(model, batch, jax.random.fold_in(rng, 1))
        ends, key = ENDS[model.levels], jax.random.fold_in(rng, 2)
        draws = model.draws if thorough else 1
        found |= bounds.bound_terms(clean, x, model.levels, ends, key, batch["index"], draws)
    if model.likelihood and thorough:
        key = jax.random.fold_in(rng, 3)
        found["nll"], found["noise_square"] = negative_log_density(model, clean, batch, key)
    return found


def evidence(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """What compares labels by log p(image | label): the density, or a part of its bound.

    With the model's `likelihood` the density along its equation, the same probes for all labels.
    Without, the part of the bound between the rarest times of training, by one draw of time and
    noise: at earlier times nothing is seen, and what is finer hardly depends on the class. The
    times of an image's draws are spread evenly over the density of training.

    Args:
      model: the model.
      params: of the net.
      batch: with `label`, and `draw` int32 [B], the number of the draw.
      rng: key.

    Returns:
      [B], in nats.
    """
    clean = clean_of(model, params, batch)
    if model.likelihood:
        return -negative_log_density(model, clean, batch, rng)[0]
    x = observe(model, batch, jax.random.fold_in(rng, 1))
    noise = noise_of(model, jax.random.fold_in(rng, 2), batch["index"])
    u = (paths.van_der_corput(batch["index"]) + paths.van_der_corput(batch["draw"])) % 1.0
    t = model.density.of(EDGE + (1.0 - 2.0 * EDGE) * u)
    guess = clean(paths.noisy(x, noise, t), t)
    # The weight divides by the density of all times; these have that of the part between.
    part = 1.0 - 2.0 * EDGE
    return -part * weights.weighted(weights.bound(), model.density, x, guess, t)


def negative_log_density(
    model: Model, clean: Callable, batch: dict, rng: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """-log p of dequantised images in [0, 1], as `likelihoods.images.gaussian` has it.

    Args:
      model: its `likelihood` is used.
      clean: (z, t) -> x_hat.
      batch: `image` and `index`.
      rng: key of dequantisation and probes.

    Returns:
      [B] in nats, in the mean at least -log P of the 256 levels (Theis et al. 2016); and [B], the
      mean square of the noise that the image is taken to, about 1 where the equation was solved.
    """
    index, keys = batch["index"], [jax.random.fold_in(rng, number) for number in (0, 1)]
    inside = per_example(lambda key: jax.random.uniform(key, model.shape), keys[0], index)
    x = (batch["image"].astype(jnp.float32) + inside) / 128.0 - 1.0
    log_p, noise = ode.log_density(model.likelihood, clean, x, keys[1], index)
    # On [0, 1], which is half as wide as [-1, 1].
    nll = -log_p - float(np.prod(model.shape)) * np.float32(np.log(2.0))
    return nll, jnp.mean(noise**2, (1, 2, 3))


def density_of(
    model: Model,
    params: dict,
    x: jax.Array,
    batch: dict,
    rng: jax.Array,
    probes: int,
    last: float = ode.LAST,
) -> tuple[jax.Array, jax.Array]:
    """The log density of images with values from -1 to 1, and the noise that they come from.

    Args:
      model: the model.
      params: of the net.
      x: [B, H, W, C].
      batch: `index` and, for a conditional model, `label`.
      rng: key of the probes.
      probes, last: see `ode.Density`.

    Returns:
      [B] in nats, and [B, H, W, C]; by 50 steps, or those of the model's `likelihood`.
    """
    options = (model.likelihood or ode.density())._replace(probes=probes, last=last)
    return ode.log_density(options, clean_of(model, params, batch), x, rng, batch["index"])


def image_of(
    model: Model, params: dict, noise: jax.Array, batch: dict, last: float = ode.LAST
) -> jax.Array:
    """The image that comes from noise, by as many steps as in `density_of`.

    Args:
      model: the model.
      params: of the net.
      noise: [B, H, W, C].
      batch: `label` [B] for a conditional model.
      last: see `ode.Density`.

    Returns:
      x [B, H, W, C], values about from -1 to 1.
    """
    options = (model.likelihood or ode.density())._replace(last=last)
    return ode.image_of(options, clean_of(model, params, batch), noise)
