"""VAEs with many groups of latents, each drawn after the one before, as a task.

A net maps noise, and in inference the image, to p(x | z) in one pass through all groups:

  q(z | x) = q(z_1 | x) q(z_2 | x, z_1) ...    p(z) = p(z_1) p(z_2 | z_1) ...    p(x | z)

The net decides the family: `jaxgen.nets.ladder.Ladder` (from coarse to fine), or
`jaxgen.nets.draw.DrawNet` (DRAW, one glimpse after another).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training, vae
from jaxgen.batches import (
    image_shape,
    masked_sums,
    one_hot_classes,
    seeds_to_show,
    unit_range,
)
from jaxgen.likelihoods.images import Likelihood, bernoulli
from jaxgen.losses import bounds
from jaxgen.noise import normal, slerp
from jaxgen.task import Task

# Importance samples that are drawn at a time when the NLL is estimated. The key of a sample
# depends on this number, as in `jaxgen.vae`.
NLL_CHUNK = 10


class Model(NamedTuple):
    """The net and what it models; the first argument of every function below.

    Attributes:
      net: a module with the signature and the `size` of `jaxgen.nets.ladder.Ladder`.
      likelihood: p(x | z).
      shape: (H, W, C) of an image.
      classes: number of classes that the net is conditioned on; 0 for none.
    """

    net: Any
    likelihood: Likelihood
    shape: tuple[int, int, int]
    classes: int

    @property
    def size(self) -> int:
        """Latents of an image."""
        return self.net.size(self.shape)

    @property
    def outputs(self) -> tuple[int, int, int]:
        """Shape of the likelihood's parameters for one image."""
        height, width, channels = self.shape
        return height, width, channels * self.likelihood.outputs


def hierarchical_vae(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    likelihood: Likelihood | None = None,
    free_bits: float = 0.0,
    classes: int = 0,
    nll_samples: int = 200,
) -> Task:
    """Builds the task of training a hierarchical VAE on uint8 images.

    Args:
      model: a module with the signature and the `size` of `jaxgen.nets.ladder.Ladder`. One that
        looks at what it has drawn so far has an attribute `image_of`, which is set here to the
        mean of the likelihood, and may have a method `canvases`, which is shown then; see
        `jaxgen.nets.draw.DrawNet`.
      optimizer: an optax transformation. Where its state holds a moving average
        of the parameters under the name `ema`, evaluation and samples use it.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      likelihood: p(x | z); Bernoulli by default.
      free_bits: least KL per group of latents that the loss of training counts, in nats
        (Kingma et al. 2016, appendix C.8, here per example and group).
      classes: number of classes to condition on; 0 for none.
      nll_samples: k of the importance-weighted NLL that `score_step` estimates.

    Returns:
      A `Task` with the metrics of `jaxgen.vae.vae`, and the KL of each group: kl/0, kl/1, ...

    Raises:
      ValueError: an argument outside its range, an example without images or labels, or one that
        the net cannot take.
    """
    if nll_samples < 1 or free_bits < 0.0:
        raise ValueError(f"nll_samples={nll_samples} must be >= 1, free_bits={free_bits} >= 0")
    shape, likelihood = image_shape(example, "a VAE", classes), likelihood or bernoulli()
    net = model.clone(image_of=likelihood.mean) if hasattr(model, "image_of") else model
    model = Model(net, likelihood, shape, classes)
    model.net.size(shape)  # which checks the shape

    def score(model, params, batch, rng):
        terms = elbo_loss(model, params, batch, rng)
        terms["nll"] = negative_log_likelihood(model, params, batch, rng, nll_samples)
        return masked_sums(terms, batch["mask"])

    with_ema = lambda function: likelihood_training.with_ema(function, model)
    train_loss = partial(elbo_loss, model, free_bits=free_bits)
    return Task(
        init=likelihood_training.init(optimizer, partial(init_params, model)),
        train_step=likelihood_training.train_step(optimizer, train_loss),
        eval_step=with_ema(lambda *args: masked_sums(elbo_loss(*args), args[2]["mask"])),
        finish=partial(finish, model),
        figures=with_ema(figures),
        sample=with_ema(sample),
        score_step=with_ema(score),
        complete=with_ema(reconstruct),
        given="image",
        interpolate=with_ema(interpolate),
        evidence=with_ema(lambda *args: -negative_log_likelihood(*args, NLL_CHUNK)),
    )


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
    x, condition = observe(model, one, rng)
    noise = jnp.zeros((1, model.size))
    return model.net.init(rng, noise, model.outputs, x, condition)["params"]


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


def infer(model: Model, params: dict, x: jax.Array, condition, noise: jax.Array) -> tuple:
    """Infers the latents of images, and decodes them.

    Args:
      model: the model.
      params: of the net.
      x: the observed variable [B, H, W, C].
      condition: [B, classes], or None.
      noise: standard normal [B, size].

    Returns:
      Parameters of the likelihood [B, *outputs]; and for each group of latents KL(q || p) and
      log p(z) - log q(z), [B, groups] each, in nats.
    """
    return model.net.apply({"params": params}, noise, model.outputs, x, condition)


def generate(model: Model, params: dict, noise: jax.Array, condition) -> jax.Array:
    """The mean image of latents from the prior.

    Args:
      model: the model.
      params: of the net.
      noise: standard normal [B, size].
      condition: [B, classes], or None.

    Returns:
      Images [B, H, W, C] in [0, 1].
    """
    parameters, *_ = model.net.apply({"params": params}, noise, model.outputs, None, condition)
    return model.likelihood.mean(parameters)


def elbo_loss(
    model: Model, params: dict, batch: dict, rng: jax.Array, free_bits: float = 0.0
) -> dict:
    """The negative ELBO, with the KL of each group given the groups before it.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.
      free_bits: least KL of a group that counts in the loss, in nats.

    Returns:
      In nats, reconstruction [B], kl [B], kl_by_group [B, groups]; and loss [B].
    """
    x, condition = observe(model, batch, rng)
    noise = normal(jax.random.fold_in(rng, 1), batch["index"], (model.size,))
    parameters, kl, _ = infer(model, params, x, condition, noise)
    reconstruction = -model.likelihood.log_prob(x, parameters)
    loss = reconstruction + jnp.maximum(kl, free_bits).sum(1)
    terms = {"loss": loss, "reconstruction": reconstruction, "kl": kl.sum(1)}
    return terms | {"kl_by_group": kl}


def negative_log_likelihood(
    model: Model, params: dict, batch: dict, rng: jax.Array, samples: int
) -> jax.Array:
    """Estimates -log p(x) by importance sampling of all groups, see `bounds.estimated_nll`.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.
      samples: k, number of importance samples per image.

    Returns:
      [B], in nats.
    """
    x, condition = observe(model, batch, rng)

    def log_weight(noise):
        parameters, _, ratio = infer(model, params, x, condition, noise)
        return model.likelihood.log_prob(x, parameters) + ratio.sum(1)

    def log_weights(key, count):
        noise = normal(key, batch["index"], (count, model.size))
        return jax.vmap(log_weight, 1)(noise)

    key = jax.random.fold_in(rng, 2)
    return bounds.estimated_nll(log_weights, key, rows=len(x), samples=samples, chunk=NLL_CHUNK)


def sample(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Samples images: the mean of p(x | z) for z from the prior.

    Args:
      model: the model.
      params: of the net.
      batch: `index` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1]. Image i depends on (rng, index[i], label[i]).
    """
    noise = normal(rng, batch["index"], (model.size,))
    return generate(model, params, noise, one_hot_classes(batch, model.classes))


def reconstruct(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Reconstructs images, each group of latents at the mean of its q.

    Args:
      model: the model.
      params: of the net.
      batch: `image`, `index` and, for a conditional model, `label`.
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1].
    """
    x, condition = observe(model, batch, rng)
    parameters, *_ = infer(model, params, x, condition, jnp.zeros((len(x), model.size)))
    return model.likelihood.mean(parameters)


def interpolate(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Decodes noise interpolated spherically between that of two seeds.

    Args:
      model: the model.
      params: of the net.
      batch: `index` [B], `end` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Strips [B, steps, H, W, C] in [0, 1] from the sample of seed `index` to that of `end`.
    """
    first, last = (normal(rng, batch[key], (model.size,)) for key in ("index", "end"))
    condition = one_hot_classes(batch, model.classes)
    image = lambda noise: generate(model, params, noise, condition)
    return jax.lax.map(image, slerp(first, last)).swapaxes(0, 1)


def figures(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Makes the images that training writes beside its metrics.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key.

    Returns:
      reconstructions [2, N, H, W, C], images above and their reconstructions below, N at most
      16; samples [64, H, W, C]; interpolation [8, steps, H, W, C]; and, of a net with `canvases`,
      these [8, N, H, W, C], in each row one image at up to 10 of them.
    """
    first = jax.tree.map(lambda leaf: leaf[:16], batch)
    seeds = seeds_to_show(model.classes)
    few = jax.tree.map(lambda leaf: leaf[:8], seeds)
    rebuilt = reconstruct(model, params, first, rng)
    canvases = {}
    if hasattr(model.net, "canvases"):
        canvases["canvases"] = _canvases(model, params, few, rng)
    return canvases | {
        "reconstructions": jnp.stack([unit_range(first["image"]), rebuilt]),
        "samples": sample(model, params, seeds, rng),
        "interpolation": interpolate(model, params, few | {"end": (few["index"] + 1) % 8}, rng),
    }


def _canvases(model, params, batch, rng):
    """Images [B, up to 10, H, W, C] as they are drawn, at even distances and the last."""
    noise = normal(rng, batch["index"], (model.size,))
    condition = one_hot_classes(batch, model.classes)
    apply = partial(model.net.apply, {"params": params}, method="canvases")
    canvases = apply(noise, model.outputs, condition)
    shown = np.unique(np.linspace(0, len(canvases) - 1, 10).round().astype(int))
    return model.likelihood.mean(canvases[shown]).swapaxes(0, 1)


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Divides sums over images by the number of images.

    Args:
      model: the model.
      sums: of one or more batches, numpy float64.

    Returns:
      The metrics of `jaxgen.vae.finish`, and the KL of each group in nats: kl/0, kl/1, ...
    """
    scalars = {name: value for name, value in sums.items() if name != "kl_by_group"}
    groups = sums["kl_by_group"] / sums["count"]
    return vae.finish(model, scalars) | {f"kl/{n}": float(kl) for n, kl in enumerate(groups)}
