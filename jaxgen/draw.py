"""DRAW, the deep recurrent attentive writer (Gregor et al. 2015), as a task.

A VAE whose encoder and decoder are LSTMs. At each of T glimpses the encoder reads the
image, the difference between image and canvas, and the state of the decoder, and gives
a latent z_t; the decoder adds to the canvas:

  q(z_t | x, z_1 .. z_t-1) = N(mean_t, exp(log_std_t)^2)    p(x | canvas_T)    p(z_t) = N(0, 1)

Trained on the ELBO; its KL term is summed over glimpses (section 2.2).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training
from jaxgen.batches import image_shape, masked_sums, one_hot_classes, unit_range
from jaxgen.likelihoods.images import Likelihood, bernoulli
from jaxgen.losses import bounds
from jaxgen.noise import per_example, slerp
from jaxgen.task import Task
from jaxgen.vae import finish

# Importance samples that are drawn at a time when the NLL is estimated. The key of a sample
# depends on this number, as in `jaxgen.vae`.
NLL_CHUNK = 10


class Model(NamedTuple):
    """The net and what it models; the first argument of every function below.

    Attributes:
      net: a `jaxgen.nets.draw.DrawNet`, or a module with its signature.
      likelihood: p(x | canvas).
      shape: (H, W, C) of an image.
      classes: number of classes that the net is conditioned on; 0 for none.
    """

    net: Any
    likelihood: Likelihood
    shape: tuple[int, int, int]
    classes: int


def draw(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    likelihood: Likelihood | None = None,
    classes: int = 0,
    nll_samples: int = 200,
) -> Task:
    """Builds the task of training DRAW on uint8 images.

    Args:
      model: a `jaxgen.nets.draw.DrawNet`.
      optimizer: an optax transformation. Where its state holds a moving average
        of the parameters under the name `ema`, evaluation and samples use it.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      likelihood: p(x | canvas); Bernoulli by default.
      classes: number of classes to condition on; 0 for none.
      nll_samples: k of the importance-weighted NLL that `score_step` estimates.

    Returns:
      A `Task` with the metrics of `jaxgen.vae.vae`; kl is summed over the glimpses.

    Raises:
      ValueError: `nll_samples` below 1, or an example without images or labels.
    """
    if nll_samples < 1:
        raise ValueError(f"nll_samples={nll_samples} must be at least 1")
    shape = image_shape(example, "DRAW", classes)
    model = Model(model, likelihood or bernoulli(), shape, classes)

    def score(model, params, batch, rng):
        terms = elbo_loss(model, params, batch, rng)
        terms["nll"] = negative_log_likelihood(model, params, batch, rng, nll_samples)
        return masked_sums(terms, batch["mask"])

    with_ema = lambda function: likelihood_training.with_ema(function, model)
    return Task(
        init=likelihood_training.init(optimizer, partial(init_params, model)),
        train_step=likelihood_training.train_step(optimizer, partial(elbo_loss, model)),
        eval_step=with_ema(lambda *args: masked_sums(elbo_loss(*args), args[2]["mask"])),
        finish=partial(finish, model),
        figures=with_ema(figures),
        sample=with_ema(sample),
        score_step=with_ema(score),
        complete=with_ema(reconstruct),
        given="image",
        interpolate=with_ema(interpolate),
    )


def canvas_shape(model: Model) -> tuple[int, int, int]:
    """Shape of the canvas: (H, W, C * outputs of the likelihood)."""
    height, width, channels = model.shape
    return height, width, channels * model.likelihood.outputs


def init_params(model: Model, rng: jax.Array, batch: dict) -> dict:
    """Initialises the net.

    Args:
      model: the model.
      rng: key.
      batch: its first row gives the shapes.

    Returns:
      The net's parameters.
    """
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    x = model.likelihood.observe(one["image"], rng, one["index"])
    noise = jnp.zeros((model.net.glimpses, 1, model.net.latents))
    condition = one_hot_classes(one, model.classes)
    shape, mean = canvas_shape(model), model.likelihood.mean
    return model.net.init(rng, noise, shape, mean, x, condition)["params"]


def infer(
    model: Model, params: dict, x: jax.Array, condition: jax.Array | None, noise: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Infers the latents of images and draws them.

    Args:
      model: the model.
      params: of the net.
      x: the observed variable [B, H, W, C].
      condition: [B, classes], or None.
      noise: standard normal [T, B, L], for the latents of each glimpse.

    Returns:
      The last canvas [B, H, W, C * outputs]; mean and log standard deviation of
      q(z_t | x, z_1 .. z_t-1), [T, B, L] each.
    """
    shape, mean = canvas_shape(model), model.likelihood.mean
    return model.net.apply({"params": params}, noise, shape, mean, x, condition)


def generate(
    model: Model,
    params: dict,
    z: jax.Array,
    condition: jax.Array | None,
    history: bool = False,
) -> jax.Array:
    """Draws images from latents.

    Args:
      model: the model.
      params: of the net.
      z: latents [T, B, L].
      condition: [B, classes], or None.
      history: whether to return the canvas of every glimpse.

    Returns:
      The last canvas [B, H, W, C * outputs], or all of them [T, B, H, W, C * outputs].
    """
    shape, mean = canvas_shape(model), model.likelihood.mean
    canvas, _, _ = model.net.apply({"params": params}, z, shape, mean, None, condition, history)
    return canvas


def latent_noise(model: Model, rng: jax.Array, index: jax.Array, count: int = 1) -> jax.Array:
    """Draws standard normal noise per example.

    Args:
      model: the model.
      rng: key of this step and purpose.
      index: int32 [B], the example of each row.
      count: number of draws for each row.

    Returns:
      [count, T, B, L].
    """
    size = (count, model.net.glimpses, model.net.latents)
    noise = per_example(lambda key: jax.random.normal(key, size), rng, index)
    return jnp.moveaxis(noise, 0, 2)


def observe(model: Model, batch: dict, rng: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Observes a batch.

    Args:
      model: the model.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      The observed variable [B, H, W, C], and the condition [B, classes] or None.
    """
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
    return x, one_hot_classes(batch, model.classes)


def elbo_loss(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict:
    """The negative ELBO with the closed-form KL (section 2.2).

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      {name: [B]}, in nats: reconstruction; kl, summed over glimpses; and loss, their sum.
    """
    x, condition = observe(model, batch, rng)
    noise = latent_noise(model, jax.random.fold_in(rng, 1), batch["index"])[0]
    canvas, mean, log_std = infer(model, params, x, condition, noise)
    reconstruction = -model.likelihood.log_prob(x, canvas)
    kl = bounds.gaussian_kl(mean, log_std).sum((0, -1))
    return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


def negative_log_likelihood(
    model: Model, params: dict, batch: dict, rng: jax.Array, samples: int
) -> jax.Array:
    """Estimates -log p(x) by importance sampling of the whole sequence z_1 .. z_T.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.
      samples: number of importance samples per image, see `bounds.estimated_nll`.

    Returns:
      [B], in nats.
    """
    x, condition = observe(model, batch, rng)

    def log_weight(noise):
        canvas, mean, log_std = infer(model, params, x, condition, noise)
        z = mean + jnp.exp(log_std) * noise
        ratio = bounds.gaussian_log_prob(z) - bounds.gaussian_log_prob(z, mean, log_std)
        return model.likelihood.log_prob(x, canvas) + ratio.sum(0)

    def log_weights(key, count):
        return jax.vmap(log_weight)(latent_noise(model, key, batch["index"], count))

    key = jax.random.fold_in(rng, 2)
    return bounds.estimated_nll(log_weights, key, rows=len(x), samples=samples, chunk=NLL_CHUNK)


def sample(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Samples images: the mean of p(x | canvas_T) for z from the prior.

    Args:
      model: the model.
      params: of the net.
      batch: `index` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1]. Image i depends on (rng, index[i], label[i]).
    """
    z = latent_noise(model, rng, batch["index"])[0]
    return model.likelihood.mean(generate(model, params, z, one_hot_classes(batch, model.classes)))


def reconstruct(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Reconstructs images, with each z_t at the mean of its q.

    Args:
      model: the model.
      params: of the net.
      batch: `image`, `index` and, for a conditional model, `label`.
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1].
    """
    x, condition = observe(model, batch, rng)
    noise = jnp.zeros((model.net.glimpses, x.shape[0], model.net.latents))
    return model.likelihood.mean(infer(model, params, x, condition, noise)[0])


def interpolate(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Draws images from latents interpolated spherically between those of two seeds.

    Args:
      model: the model.
      params: of the net.
      batch: `index` [B], `end` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Strips [B, steps, H, W, C] in [0, 1] from the sample of seed `index` to that of `end`.
    """
    first, last = (latent_noise(model, rng, batch[key])[0] for key in ("index", "end"))
    rows = batch["index"].shape[0]
    flat = lambda z: z.swapaxes(0, 1).reshape(rows, -1)
    condition = one_hot_classes(batch, model.classes)

    def image(point):
        z = point.reshape(rows, model.net.glimpses, -1).swapaxes(0, 1)
        return model.likelihood.mean(generate(model, params, z, condition))

    return jax.vmap(image)(slerp(flat(first), flat(last))).swapaxes(0, 1)


def figures(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Makes the images that training writes beside its metrics.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key.

    Returns:
      reconstructions [2, N, H, W, C], images above and their reconstructions below, N at
      most 16; samples [64, H, W, C]; interpolation [8, steps, H, W, C]; and canvases
      [8, glimpses, H, W, C], in each row one image at up to 10 glimpses.
    """
    first = jax.tree.map(lambda leaf: leaf[:16], batch)
    index = jnp.arange(64)
    seeds = {"index": index, "label": index % max(model.classes, 1)}
    few = jax.tree.map(lambda leaf: leaf[:8], seeds)
    z = latent_noise(model, rng, few["index"])[0]
    canvases = generate(model, params, z, one_hot_classes(few, model.classes), history=True)
    shown = np.unique(np.linspace(0, model.net.glimpses - 1, 10).round().astype(int))
    rebuilt = reconstruct(model, params, first, rng)
    return {
        "reconstructions": jnp.stack([unit_range(first["image"]), rebuilt]),
        "samples": sample(model, params, seeds, rng),
        "interpolation": interpolate(model, params, few | {"end": (few["index"] + 1) % 8}, rng),
        "canvases": model.likelihood.mean(canvases[shown]).swapaxes(0, 1),
    }
