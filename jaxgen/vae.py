"""Variational auto-encoders (Kingma and Welling 2014) as a task.

encode: q(z | x) = N(mean, exp(log_std)^2)    decode: p(x | z)    prior: N(0, 1)

Trained on the ELBO (with beta and free bits), on the importance-weighted bound
(IWAE), or on that bound with doubly reparameterised gradients (DReG).
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient

from jaxgen import likelihood_training, vae_images
from jaxgen.batches import image_shape, masked_sums
from jaxgen.likelihoods.images import Likelihood, bernoulli
from jaxgen.losses import bounds
from jaxgen.task import Task
from jaxgen.vae_images import Model, decode, draw_latents, encode

# Importance samples that are decoded at a time when the NLL is estimated. The key of a
# sample depends on this number, so it must not depend on the batch size or the device.
NLL_CHUNK = 50


def vae(
    encoder,
    decoder,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    likelihood: Likelihood | None = None,
    objective: str = "elbo",
    samples: int = 1,
    beta: float = 1.0,
    free_bits: float = 0.0,
    classes: int = 0,
    nll_samples: int = 1000,
) -> Task:
    """Builds the task of training a VAE on uint8 images.

    Args:
      encoder: module (x, condition) -> (mean, log_std), see `jaxgen.nets.encoder_decoder`.
      decoder: module (z, shape) -> likelihood parameters of that shape.
      optimizer: an optax transformation. Where its state holds a moving average
        of the parameters under the name `ema`, evaluation and samples use it.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      likelihood: p(x | z); Bernoulli by default.
      objective: "elbo", "iwae" (Burda et al. 2016) or "dreg" (Tucker et al. 2019).
      samples: k, latent samples per image in training.
      beta: weight of the KL term in the ELBO (Higgins et al. 2017).
      free_bits: least KL per latent that the ELBO's loss counts, in nats
        (Kingma et al. 2016, appendix C.8, here per example and latent).
      classes: number of classes to condition both nets on; 0 for none.
      nll_samples: k of the importance-weighted NLL that `score_step` estimates.

    Returns:
      A `Task`. Metrics: loss, the objective that is minimised, and those of
      `bounds.elbo_metrics`; nll from score_step only.

    Raises:
      ValueError: an argument outside its range, or an example without images or labels.
    """
    _check_objective(objective, samples, beta, free_bits, nll_samples)
    shape = image_shape(example, "a VAE", classes)
    model = Model(encoder, decoder, likelihood or bernoulli(), shape, classes)
    if objective == "elbo":
        train_loss = partial(elbo_loss, model, samples=samples, beta=beta, free_bits=free_bits)
    else:
        train_loss = partial(importance_loss, model, samples=samples, doubly=objective == "dreg")

    def score(model, params, batch, rng):
        terms = elbo_loss(model, params, batch, rng)
        terms["nll"] = negative_log_likelihood(model, params, batch, rng, nll_samples)
        return masked_sums(terms, batch["mask"])

    with_ema = lambda function: likelihood_training.with_ema(function, model)
    return Task(
        init=likelihood_training.init(optimizer, partial(vae_images.init_params, model)),
        train_step=likelihood_training.train_step(optimizer, train_loss),
        eval_step=with_ema(lambda *args: masked_sums(elbo_loss(*args), args[2]["mask"])),
        finish=partial(bounds.elbo_metrics, model),
        figures=with_ema(vae_images.figures),
        sample=with_ema(vae_images.sample),
        score_step=with_ema(score),
        complete=with_ema(vae_images.reconstruct),
        given="image",
        interpolate=with_ema(vae_images.interpolate),
        evidence=with_ema(lambda *args: -negative_log_likelihood(*args, bounds.EVIDENCE_SAMPLES)),
        codec=None if classes else with_ema(vae_images.codec),
    )


def elbo_loss(
    model: Model, params: dict, batch: dict, rng: jax.Array, samples=1, beta=1.0, free_bits=0.0
) -> dict:
    """The negative ELBO with the closed-form KL (Kingma and Welling 2014, equation 10).

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.
      samples: latent samples per image.
      beta: weight of the KL term.
      free_bits: least KL of a latent that counts, in nats.

    Returns:
      {name: [B]}, in nats: reconstruction; kl; and loss, which is
      reconstruction + beta * sum over latents of max(kl, free_bits).
    """
    x, condition, mean, log_std = encode(model, params, batch, rng)
    z = draw_latents(mean, log_std, jax.random.fold_in(rng, 1), batch["index"], samples)
    log_likelihood = model.likelihood.log_prob(x, decode(model, params, z, condition)).mean(0)
    kl = bounds.gaussian_kl(mean, log_std)
    loss = beta * jnp.maximum(kl, free_bits).sum(-1) - log_likelihood
    return {"loss": loss, "reconstruction": -log_likelihood, "kl": kl.sum(-1)}


def importance_loss(
    model: Model,
    params: dict,
    batch: dict,
    rng: jax.Array,
    samples: int,
    doubly: bool,
) -> dict:
    """The negative importance-weighted bound (IWAE, Burda et al. 2016, equation 8).

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.
      samples: k, latent samples per image.
      doubly: whether the encoder's gradient is the doubly reparameterised one (Tucker et
        al. 2019).

    Returns:
      {name: [B]}, in nats: loss, and the ELBO's terms reconstruction and kl.
    """
    x, condition, mean, log_std = encode(model, params, batch, rng)
    z = draw_latents(mean, log_std, jax.random.fold_in(rng, 1), batch["index"], samples)
    kl, tag = bounds.gaussian_kl(mean, log_std).sum(-1), 0.0
    if doubly:
        mean, log_std = stop_gradient((mean, log_std))
        z, tag = bounds.doubly_reparameterise(z)
    log_likelihood = model.likelihood.log_prob(x, decode(model, params, z, condition))
    log_posterior = bounds.gaussian_log_prob(z, mean[None], log_std[None])
    log_ratio = bounds.gaussian_log_prob(z) - log_posterior
    loss = -bounds.importance_bound(log_likelihood + log_ratio + tag)
    return {"loss": loss, "reconstruction": -log_likelihood.mean(0), "kl": kl}


def negative_log_likelihood(
    model: Model, params: dict, batch: dict, rng: jax.Array, samples: int
) -> jax.Array:
    """Estimates -log p(x) by importance sampling, see `bounds.estimated_nll`.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.
      samples: k, number of importance samples per image.

    Returns:
      [B], in nats.
    """
    x, condition, mean, log_std = encode(model, params, batch, rng)

    def log_weights(key, count):
        z = draw_latents(mean, log_std, key, batch["index"], count)
        return (
            model.likelihood.log_prob(x, decode(model, params, z, condition))
            + bounds.gaussian_log_prob(z)
            - bounds.gaussian_log_prob(z, mean[None], log_std[None])
        )

    key = jax.random.fold_in(rng, 2)
    return bounds.estimated_nll(log_weights, key, rows=len(x), samples=samples, chunk=NLL_CHUNK)


def _check_objective(objective, samples, beta, free_bits, nll_samples):
    if objective not in ("elbo", "iwae", "dreg"):
        raise ValueError(f"objective must be elbo, iwae or dreg; got {objective!r}")
    if objective != "elbo" and (beta != 1.0 or free_bits):
        raise ValueError(f"beta and free_bits belong to the elbo objective, not to {objective}")
    if samples < 1 or nll_samples < 1:
        raise ValueError(f"samples={samples} and nll_samples={nll_samples} must be at least 1")
