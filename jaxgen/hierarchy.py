"""VAEs with many groups of latents, each drawn after the one before, as a task.

A net maps noise, and in inference the image, to p(x | z) in one pass through all groups:

  q(z | x) = q(z_1 | x) q(z_2 | x, z_1) ...    p(z) = p(z_1) p(z_2 | z_1) ...    p(x | z)

The net decides the family: `jaxgen.nets.ladder.Ladder` (from coarse to fine), or
`jaxgen.nets.draw.DrawNet` (DRAW, one glimpse after another).
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from jaxgen import hierarchy_images, likelihood_training
from jaxgen.batches import image_shape, masked_sums
from jaxgen.hierarchy_images import Model, infer, observe
from jaxgen.likelihoods.images import Likelihood, bernoulli
from jaxgen.losses import bounds
from jaxgen.noise import normal
from jaxgen.task import Task

# Importance samples that are drawn at a time when the NLL is estimated. The key of a sample
# depends on this number, as in `jaxgen.vae`.
NLL_CHUNK = 10


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
        init=likelihood_training.init(optimizer, partial(hierarchy_images.init_params, model)),
        train_step=likelihood_training.train_step(optimizer, train_loss),
        eval_step=with_ema(lambda *args: masked_sums(elbo_loss(*args), args[2]["mask"])),
        finish=partial(finish, model),
        figures=with_ema(hierarchy_images.figures),
        sample=with_ema(hierarchy_images.sample),
        score_step=with_ema(score),
        complete=with_ema(hierarchy_images.reconstruct),
        given="image",
        interpolate=with_ema(hierarchy_images.interpolate),
        evidence=with_ema(lambda *args: -negative_log_likelihood(*args, bounds.EVIDENCE_SAMPLES)),
    )


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


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Divides sums over images by the number of images.

    Args:
      model: the model.
      sums: of one or more batches, numpy float64.

    Returns:
      Those of `bounds.elbo_metrics`, and the KL of each group in nats: kl/0, kl/1, ...
    """
    scalars = {name: value for name, value in sums.items() if name != "kl_by_group"}
    groups = sums["kl_by_group"] / sums["count"]
    metrics = bounds.elbo_metrics(model, scalars)
    return metrics | {f"kl/{n}": float(kl) for n, kl in enumerate(groups)}
