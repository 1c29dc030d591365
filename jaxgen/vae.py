"""Variational auto-encoders (Kingma and Welling 2014) as a task.

encode: q(z | x) = N(mean, exp(log_std)^2)    decode: p(x | z)    prior: N(0, 1)

Trained on the ELBO (with beta and free bits), on the importance-weighted bound
(IWAE), or on that bound with doubly reparameterised gradients (DReG).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import stop_gradient

from jaxgen import likelihood_training
from jaxgen.batches import (
    image_shape,
    masked_sums,
    one_hot_classes,
    seeds_to_show,
    unit_range,
)
from jaxgen.likelihoods.images import Likelihood, bernoulli, bits_per_dim
from jaxgen.losses import bounds
from jaxgen.noise import normal, slerp
from jaxgen.task import Codec, Task

# Importance samples that are decoded at a time when the NLL is estimated. The key of a
# sample depends on this number, so it must not depend on the batch size or the device.
NLL_CHUNK = 50


class Model(NamedTuple):
    """The nets and what they model; the first argument of every function below.

    Attributes:
      encoder: module (x, condition) -> (mean, log_std), see `jaxgen.nets.encoder_decoder`.
      decoder: module (z, shape) -> likelihood parameters of that shape.
      likelihood: p(x | z).
      shape: (H, W, C) of an image.
      classes: number of classes that both nets are conditioned on; 0 for none.
    """

    encoder: Any
    decoder: Any
    likelihood: Likelihood
    shape: tuple[int, int, int]
    classes: int


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
      A `Task`. Metrics: loss (the objective that is minimised), negative_elbo,
      reconstruction and kl in nats per image, bits_per_dim of the negative ELBO,
      and from score_step nll and nll_bits_per_dim.

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
        codec=None if classes else with_ema(codec),
    )


def encode(model: Model, params: dict, batch: dict, rng: jax.Array) -> tuple:
    """Observes a batch and infers its latents.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      x [B, H, W, C], the observed variable; the condition [B, classes], or None; and the
      mean and the log standard deviation of q(z | x), [B, L] each.
    """
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
    condition = one_hot_classes(batch, model.classes)
    mean, log_std = model.encoder.apply({"params": params["encoder"]}, x, condition)
    return x, condition, mean, log_std


def decode(model: Model, params: dict, z: jax.Array, condition: jax.Array | None) -> jax.Array:
    """Decodes latents.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      z: [..., B, L].
      condition: [B, classes], or None.

    Returns:
      Parameters of the likelihood [..., B, H, W, C * outputs].
    """
    outputs = output_shape(model)
    rows = with_condition(z, condition).reshape(-1, z.shape[-1] + model.classes)
    flat = model.decoder.apply({"params": params["decoder"]}, rows, outputs)
    return flat.reshape(*z.shape[:-1], *outputs)


def draw_latents(
    mean: jax.Array, log_std: jax.Array, rng: jax.Array, index: jax.Array, count: int
) -> jax.Array:
    """Samples q(z | x) by reparameterisation.

    Args:
      mean: of q(z | x), [B, L].
      log_std: logarithm of its standard deviation, [B, L].
      rng: key of this step and purpose.
      index: int32 [B], the example of each row.
      count: number of samples for each row.

    Returns:
      z [count, B, L].
    """
    noise = normal(rng, index, (count, mean.shape[-1])).swapaxes(0, 1)
    return mean[None] + jnp.exp(log_std)[None] * noise


def elbo_loss(
    model: Model,
    params: dict,
    batch: dict,
    rng: jax.Array,
    samples: int = 1,
    beta: float = 1.0,
    free_bits: float = 0.0,
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


def sample(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Samples images: the mean of p(x | z) for z from the prior.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: `index` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1]. Image i depends on (rng, index[i], label[i]).
    """
    z = normal(rng, batch["index"], (latent_size(model, params),))
    return model.likelihood.mean(decode(model, params, z, one_hot_classes(batch, model.classes)))


def reconstruct(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Reconstructs images: the mean of p(x | z) at the mean of q(z | image).

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: `image`, `index` and, for a conditional model, `label`.
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1].
    """
    _, condition, mean, _ = encode(model, params, batch, rng)
    return model.likelihood.mean(decode(model, params, mean, condition))


def codec(model: Model, params: dict) -> Codec:
    """The latents, for a model of what the prior misses (two-stage VAE, Dai and Wipf 2019).

    Args:
      model: the model, without classes.
      params: {"encoder": ..., "decoder": ...}.

    Returns:
      Draws from q(z | x), which together are nearly standard normal, as maps of 1 x 1.
    """

    def latents(image, rng, index):
        _, _, mean, log_std = encode(model, params, {"image": image, "index": index}, rng)
        z = draw_latents(mean, log_std, jax.random.fold_in(rng, 1), index, 1)
        return z[0, :, None, None]

    return Codec(
        image_shape=model.shape,
        shape=(1, 1, latent_size(model, params)),
        encode=latents,
        decode=lambda z: model.likelihood.mean(decode(model, params, z[:, 0, 0], None)),
    )


def interpolate(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Decodes latents interpolated spherically between those of two seeds.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: `index` [B], `end` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Strips [B, steps, H, W, C] in [0, 1] from the sample of seed `index` to that of `end`.
    """
    size, condition = latent_size(model, params), one_hot_classes(batch, model.classes)
    first, last = (normal(rng, batch[key], (size,)) for key in ("index", "end"))
    strips = model.likelihood.mean(decode(model, params, slerp(first, last), condition))
    return strips.swapaxes(0, 1)


def figures(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Makes the images that training writes beside its metrics.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: see `jaxgen.task.Task`.
      rng: key.

    Returns:
      reconstructions [2, N, H, W, C], images above and their reconstructions below, N at
      most 16; samples [64, H, W, C]; and interpolation [rows, 10, H, W, C] between the
      latents of neighbouring images, at most 8 rows.
    """
    first = jax.tree.map(lambda leaf: leaf[:16], batch)
    _, condition, mean, _ = encode(model, params, first, rng)
    rebuilt = model.likelihood.mean(decode(model, params, mean, condition))
    seeds = seeds_to_show(model.classes)
    weights = jnp.linspace(0.0, 1.0, 10)[:, None, None]
    path = (1.0 - weights) * mean[None, :8] + weights * jnp.roll(mean, -1, axis=0)[None, :8]
    strips = decode(model, params, path, None if condition is None else condition[:8])
    return {
        "reconstructions": jnp.stack([unit_range(first["image"]), rebuilt]),
        "samples": sample(model, params, seeds, rng),
        "interpolation": model.likelihood.mean(strips).swapaxes(0, 1),
    }


def finish(model: Any, sums: dict) -> dict[str, float]:
    """Divides sums over images by the number of images.

    Args:
      model: a model with `shape` and `likelihood`: of this module or of
        `jaxgen.hierarchy`.
      sums: of one or more batches, numpy float64.

    Returns:
      Means in nats, negative_elbo, and bits per dimension.
    """
    count = sums["count"]
    means = {name: float(sums[name] / count) for name in sums if name != "count"}
    means["negative_elbo"] = means["reconstruction"] + means["kl"]
    for name, nats in {"bits_per_dim": "negative_elbo", "nll_bits_per_dim": "nll"}.items():
        if nats in means:
            dimensions, offset = int(np.prod(model.shape)), model.likelihood.offset_bits
            means[name] = float(bits_per_dim(means[nats], dimensions, offset))
    return means


def init_params(model: Model, rng: jax.Array, batch: dict) -> dict:
    """Initialises both nets.

    Args:
      model: the model.
      rng: key.
      batch: its first row gives the shapes.

    Returns:
      {"encoder": ..., "decoder": ...}.
    """
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    x = model.likelihood.observe(one["image"], rng, one["index"])
    condition = one_hot_classes(one, model.classes)
    encoder_rng, decoder_rng = jax.random.split(rng)
    (z, _), encoder = model.encoder.init_with_output(encoder_rng, x, condition)
    decoder = model.decoder.init(decoder_rng, with_condition(z, condition), output_shape(model))
    return {"encoder": encoder["params"], "decoder": decoder["params"]}


def output_shape(model: Model) -> tuple[int, int, int]:
    """Shape of the decoder's output for one image: (H, W, C * outputs of the likelihood)."""
    height, width, channels = model.shape
    return height, width, channels * model.likelihood.outputs


def latent_size(model: Model, params: dict) -> int:
    """Number of latents, from the shape of the encoder's output; nothing is computed.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.

    Returns:
      L.
    """
    x = jax.ShapeDtypeStruct((1, *model.shape), jnp.float32)
    condition = jax.ShapeDtypeStruct((1, model.classes), jnp.float32) if model.classes else None
    apply = partial(model.encoder.apply, {"params": params["encoder"]})
    return jax.eval_shape(apply, x, condition)[0].shape[-1]


def with_condition(z: jax.Array, condition: jax.Array | None) -> jax.Array:
    """Concatenates latents and their condition.

    Args:
      z: [..., B, L].
      condition: [B, K], or None.

    Returns:
      [..., B, L + K]; z itself without a condition.
    """
    if condition is None:
        return z
    spread = jnp.broadcast_to(condition, (*z.shape[:-1], condition.shape[-1]))
    return jnp.concatenate([z, spread], axis=-1)


def _check_objective(objective, samples, beta, free_bits, nll_samples):
    if objective not in ("elbo", "iwae", "dreg"):
        raise ValueError(f"objective must be elbo, iwae or dreg; got {objective!r}")
    if objective != "elbo" and (beta != 1.0 or free_bits):
        raise ValueError(f"beta and free_bits belong to the elbo objective, not to {objective}")
    if samples < 1 or nll_samples < 1:
        raise ValueError(f"samples={samples} and nll_samples={nll_samples} must be at least 1")
