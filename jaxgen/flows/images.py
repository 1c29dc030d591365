"""Images of a flow: by seed, guided by the class, completed, interpolated."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batches import seeds_to_show, unit_range
from jaxgen.figures import completions
from jaxgen.flows import samplers
from jaxgen.flows.model import Model, condition_of, denoise, noise_of, observe, shown
from jaxgen.flows.paths import noisy
from jaxgen.noise import slerp

SHOWN = (0.2, 0.4, 0.6, 0.8)  # times of the figure `denoised`
EARLIEST = 0.05  # time by which is divided where given pixels lead


def sample(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Samples images.

    Args:
      model: the model.
      params: of the net.
      batch: `index` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1]. Image i depends on (rng, index[i], label[i]).
    """
    clean, z = partial(guided_image, model, params, batch), first_noise(model, rng, batch["index"])
    return from_noise(model, clean, z, batch["index"], rng)


def first_noise(model: Model, rng: jax.Array, index: jax.Array) -> jax.Array:
    """The noise [B, H, W, C] of seeds [B], as much as there is at the grid's first time."""
    return (1.0 - jnp.float32(model.sampling.grid[0])) * noise_of(model, rng, index)


def from_noise(
    model: Model,
    clean: Callable,
    z: jax.Array,
    index: jax.Array,
    rng: jax.Array,
    **kept: Callable,
) -> jax.Array:
    """Samples images from noise, or from noisy images.

    Args:
      model: the model.
      clean: `guided_image` of (z, t), and of `until` for a mean flow.
      z: [B, H, W, C], at the first time of the model's grid.
      index: [B], seeds.
      rng: key of the noise in steps.
      **kept: `keep` of `samplers.run`.

    Returns:
      Images [B, H, W, C] in [0, 1].
    """
    sampler, grid = model.sampling.sampler, jnp.asarray(model.sampling.grid, jnp.float32)
    x = samplers.run(sampler, clean, z, grid, jax.random.fold_in(rng, 1), index, **kept)
    return shown(model, x)


def guided_image(
    model: Model,
    params: dict,
    batch: dict,
    z: jax.Array,
    t: jax.Array,
    until: jax.Array | None = None,
) -> jax.Array:
    """The clean image with the model's guidance.

    Args:
      model: the model.
      params: of the net.
      batch: `label` [B] for a conditional model.
      z: [B, H, W, C].
      t: a scalar.
      until: a scalar, for a mean flow, see `model.denoise`.

    Returns:
      x_hat [B, H, W, C].
    """
    condition, sampling = condition_of(model, batch), model.sampling
    if sampling.guidance == 1.0:
        return denoise(model, params, z, t, condition, until)
    if model.weaker is not None:
        x = denoise(model, params, z, t, condition, until)
        worse = denoise(model, model.weaker, z, t, condition, until)
    else:
        none = condition_of(model, batch, jnp.ones(len(z), bool))
        twice = jnp.tile(z, (2, 1, 1, 1)), t, jnp.concatenate([condition, none]), until
        x, worse = jnp.split(denoise(model, params, *twice), 2)
    acts = (t >= sampling.interval[0]) & (t <= sampling.interval[1])
    return worse + jnp.where(acts, sampling.guidance, 1.0) * (x - worse)


def complete(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Completes images from some of their pixels, which take the path of their noise.

    The others are drawn to agree with them, see `agreeing`. With a `start` above 0, images are
    remade from their noisy selves at that time.

    Args:
      model: the model.
      params: of the net.
      batch: `image`, `index`, for a conditional model `label`, and perhaps `keep`, bool
        [B, H, W, 1], where pixels stay as given; without it the first `given_rows` rows do.
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1]; what is kept is that of `image`, unless remade.
    """
    index, clean = batch["index"], partial(guided_image, model, params, batch)
    noise, x = noise_of(model, rng, index), observe(model, batch, jax.random.fold_in(rng, 2))
    if start := model.sampling.start:
        grid = start + (1.0 - start) * np.asarray(model.sampling.grid, np.float32)
        model = model._replace(sampling=model.sampling._replace(grid=grid))
        return from_noise(model, clean, noisy(x, noise, grid[0]), index, rng)
    given = batch.get("keep", _first_rows(model))
    keep = lambda z, t: jnp.where(given, t * x + (1.0 - t) * noise, z)
    # The end of a leap is no mean of images, of which `agreeing` speaks.
    clean = clean if model.sampling.sampler.leaps else agreeing(clean, x, given)
    images = from_noise(model, clean, first_noise(model, rng, index), index, rng, keep=keep)
    return jnp.where(given, unit_range(batch["image"]), images)


def agreeing(clean: Callable, x: jax.Array, given: jax.Array) -> Callable:
    """The clean image of a noisy one, given some of its pixels (Song et al. 2023, PiGDM).

    By Bayes' rule the score of z grows by the gradient of log p(given pixels | z), so x_hat grows
    by (1 - t)^2 / t times it. p is taken as normal with the mean x_hat and the variance that the
    pixel has after z if it was N(0, 1) before, (1 - t)^2 / (t^2 + (1 - t)^2). Noisy pixels put in
    the place of those of z alone tell the others too little while there is much noise.

    Args:
      clean: (z, t) -> x_hat [B, H, W, C].
      x: [B, H, W, C], of which the given pixels are used.
      given: bool [B, H, W, 1].

    Returns:
      (z, t) -> x_hat given these pixels.
    """

    def informed(z, t):
        x_hat, pull_back = jax.vjp(lambda z: clean(z, t), z)
        (change,) = pull_back(jnp.where(given, x - x_hat, 0.0))
        return x_hat + (t**2 + (1.0 - t) ** 2) / jnp.maximum(t, EARLIEST) * change

    return informed


def _first_rows(model):
    """Where pixels stay as given unless a batch says it: bool [1, H, 1, 1]."""
    return (jnp.arange(model.shape[0]) < model.sampling.given_rows)[None, :, None, None]


def interpolate(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Samples from noise interpolated spherically between that of two seeds.

    Args:
      model: the model.
      params: of the net.
      batch: `index` [B], `end` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Strips [B, 10, H, W, C] in [0, 1] from the sample of seed `index` to that of `end`. With a
      sampler that draws noise in its steps, all images of a strip have that of `index`.
    """
    count = len(batch["index"])
    ends = [first_noise(model, rng, batch[key]).reshape(count, -1) for key in ("index", "end")]
    path = slerp(*ends)
    rows = jax.tree.map(lambda leaf: jnp.tile(leaf, len(path)), batch)
    clean = partial(guided_image, model, params, rows)
    images = from_noise(model, clean, path.reshape(-1, *model.shape), rows["index"], rng)
    return images.reshape(len(path), count, *images.shape[1:]).swapaxes(0, 1)


def figures(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Makes the images that training writes beside its metrics.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key.

    Returns:
      samples [64, H, W, C]; denoised [N, 9, H, W, C], N at most 8: in each row an image at four
      times, each followed by what the net makes of it, and the image; and, without a codec,
      completions [N, 8, H, W, C]: the given part of an image, six completions of it, and the
      image.
    """
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    image, condition = unit_range(first["image"]), condition_of(model, first)
    x, noise = observe(model, first, rng), noise_of(model, rng, first["index"])
    pairs = []
    for t in SHOWN:
        z = t * x + (1.0 - t) * noise
        pairs += [
            shown(model, z),
            shown(model, denoise(model, params, z, jnp.float32(t), condition)),
        ]
    found = {
        "samples": sample(model, params, seeds_to_show(model.classes), rng),
        "denoised": jnp.stack([*pairs, image], axis=1),
    }
    if model.codec:
        return found
    given = partial(complete, model, params), first, model.sampling.given_rows, rng
    return found | {"completions": completions(*given)}
