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

from jaxgen import likelihood_training, likelihoods
from jaxgen.batches import image_shape, masked_sums, one_hot_classes
from jaxgen.losses import bounds
from jaxgen.noise import per_example, slerp
from jaxgen.task import Task

# Importance samples decoded at a time when the NLL is estimated. Part of how the
# noise is numbered, so it must not depend on the batch size or the device.
NLL_CHUNK = 50


class Model(NamedTuple):
    """The nets and what they are about; every function below takes it first.

    Attributes:
      encoder: module (x, condition) -> (mean, log_std), see `jaxgen.nets.encoder_decoder`.
      decoder: module (z, shape) -> likelihood parameters of that shape.
      likelihood: p(x | z).
      shape: (H, W, C) of an image.
      classes: number of classes that both nets are conditioned on; 0 for none.
    """

    encoder: Any
    decoder: Any
    likelihood: likelihoods.Likelihood
    shape: tuple[int, int, int]
    classes: int


def vae(
    encoder,
    decoder,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    likelihood: likelihoods.Likelihood | None = None,
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
      free_bits: nats per latent below which the ELBO's KL term is not pushed
        (Kingma et al. 2016, appendix C.8, here per example and latent).
      classes: number of classes to condition both nets on; 0 for none.
      nll_samples: k of the importance-weighted NLL that `score_step` estimates.

    Returns:
      A `Task`. Metrics: loss (the objective that is minimised), negative_elbo,
      reconstruction and kl in nats per image, bits_per_dim of the negative ELBO,
      and from score_step nll and nll_bits_per_dim.

    Raises:
      ValueError: an argument that cannot be meant, or an example without images.
    """
    _check_objective(objective, samples, beta, free_bits, nll_samples)
    shape = image_shape(example, "a VAE", classes)
    model = Model(encoder, decoder, likelihood or likelihoods.bernoulli(), shape, classes)
    train_loss = partial(
        elbo_loss if objective == "elbo" else importance_loss,
        model,
        samples=samples,
        **({"beta": beta, "free_bits": free_bits} if objective == "elbo" else {}),
        **({"doubly": True} if objective == "dreg" else {}),
    )

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
    )


def encode(model: Model, params, batch: dict, rng: jax.Array):
    """Observes a batch and infers its latents.

    Returns:
      x [B, H, W, C], the observed variable; the condition, or None; and the mean
      and log standard deviation of q(z | x), [B, L] each.
    """
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
    condition = one_hot_classes(batch, model.classes)
    mean, log_std = model.encoder.apply({"params": params["encoder"]}, x, condition)
    return x, condition, mean, log_std


def decode(model: Model, params, z: jax.Array, condition: jax.Array | None) -> jax.Array:
    """Latents z [..., B, L] -> likelihood parameters [..., B, H, W, C * outputs]."""
    outputs = output_shape(model)
    rows = with_condition(z, condition).reshape(-1, z.shape[-1] + model.classes)
    flat = model.decoder.apply({"params": params["decoder"]}, rows, outputs)
    return flat.reshape(*z.shape[:-1], *outputs)


def latent_noise(rng: jax.Array, index: jax.Array, count: int, size: int) -> jax.Array:
    """Standard normal noise [count, B, size], drawn per example."""
    draw = per_example(lambda key: jax.random.normal(key, (count, size)), rng, index)
    return draw.swapaxes(0, 1)


def draw_latents(mean, log_std, rng, index, count):
    """Samples of q(z | x) by reparameterisation: [count, B, L]."""
    return mean + jnp.exp(log_std) * latent_noise(rng, index, count, mean.shape[-1])


def elbo_loss(model, params, batch, rng, samples=1, beta=1.0, free_bits=0.0) -> dict:
    """Per-example terms of the negative ELBO with the closed-form KL, each [B], nats.

    `loss` is reconstruction + beta * sum_latents max(kl, free_bits).
    """
    x, condition, mean, log_std = encode(model, params, batch, rng)
    z = draw_latents(mean, log_std, jax.random.fold_in(rng, 1), batch["index"], samples)
    log_likelihood = model.likelihood.log_prob(x, decode(model, params, z, condition)).mean(0)
    kl = bounds.gaussian_kl(mean, log_std)
    loss = beta * jnp.maximum(kl, free_bits).sum(-1) - log_likelihood
    return {"loss": loss, "reconstruction": -log_likelihood, "kl": kl.sum(-1)}


def importance_loss(model, params, batch, rng, samples, doubly=False) -> dict:
    """Per-example negative IWAE bound and the ELBO's terms, each [B], nats.

    With `doubly`, the encoder's gradient is the doubly reparameterised one.
    """
    x, condition, mean, log_std = encode(model, params, batch, rng)
    z = draw_latents(mean, log_std, jax.random.fold_in(rng, 1), batch["index"], samples)
    kl, tag = bounds.gaussian_kl(mean, log_std).sum(-1), 0.0
    if doubly:
        mean, log_std = stop_gradient((mean, log_std))
        z, tag = bounds.doubly_reparameterise(z)
    log_likelihood = model.likelihood.log_prob(x, decode(model, params, z, condition))
    log_ratio = bounds.gaussian_log_prob(z) - bounds.gaussian_log_prob(z, mean, log_std)
    loss = -bounds.importance_bound(log_likelihood + log_ratio + tag)
    return {"loss": loss, "reconstruction": -log_likelihood.mean(0), "kl": kl}


def negative_log_likelihood(model, params, batch, rng, samples: int) -> jax.Array:
    """-log p(x), estimated with `samples` importance weights: [B], nats.

    See `bounds.estimated_nll`.
    """
    x, condition, mean, log_std = encode(model, params, batch, rng)

    def log_weights(key, count):
        z = draw_latents(mean, log_std, key, batch["index"], count)
        return (
            model.likelihood.log_prob(x, decode(model, params, z, condition))
            + bounds.gaussian_log_prob(z)
            - bounds.gaussian_log_prob(z, mean, log_std)
        )

    return bounds.estimated_nll(log_weights, jax.random.fold_in(rng, 2), len(x), samples, NLL_CHUNK)


def sample(model: Model, params, batch: dict, rng: jax.Array) -> jax.Array:
    """Images [B, H, W, C] in [0, 1], the mean of p(x | z) for z from the prior.

    Image i depends on (rng, index[i]) and, for a conditional model, on label[i].
    """
    z = latent_noise(rng, batch["index"], 1, latent_size(model, params))[0]
    return model.likelihood.mean(decode(model, params, z, one_hot_classes(batch, model.classes)))


def reconstruct(model: Model, params, batch: dict, rng: jax.Array) -> jax.Array:
    """Images [B, H, W, C] in [0, 1]: the mean of p(x | z) at the mean of q(z | image)."""
    _, condition, mean, _ = encode(model, params, batch, rng)
    return model.likelihood.mean(decode(model, params, mean, condition))


def interpolate(model: Model, params, batch: dict, rng: jax.Array) -> jax.Array:
    """Strips [B, steps, H, W, C] from the sample of seed `index` to that of seed `end`."""
    size, condition = latent_size(model, params), one_hot_classes(batch, model.classes)
    first, last = (latent_noise(rng, batch[key], 1, size)[0] for key in ("index", "end"))
    strips = model.likelihood.mean(decode(model, params, slerp(first, last), condition))
    return strips.swapaxes(0, 1)


def figures(model: Model, params, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """What a person looks at: reconstructions, samples and an interpolation."""
    first = jax.tree.map(lambda leaf: leaf[:16], batch)
    _, condition, mean, _ = encode(model, params, first, rng)
    rebuilt = model.likelihood.mean(decode(model, params, mean, condition))
    index = jnp.arange(64)
    seeds = {"index": index, "label": index % max(model.classes, 1)}
    # From each image's latent mean to that of its neighbour, in ten steps.
    weights = jnp.linspace(0.0, 1.0, 10)[:, None, None]
    path = (1.0 - weights) * mean[:8] + weights * jnp.roll(mean, -1, axis=0)[:8]
    strips = decode(model, params, path, None if condition is None else condition[:8])
    return {
        "reconstructions": jnp.stack([first["image"] / 255.0, rebuilt]),
        "samples": sample(model, params, seeds, rng),
        "interpolation": model.likelihood.mean(strips).swapaxes(0, 1),
    }


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Sums over images -> means in nats, and bits per dimension."""
    count = sums["count"]
    means = {name: float(sums[name] / count) for name in sums if name != "count"}
    means["negative_elbo"] = means["reconstruction"] + means["kl"]
    for name, nats in {"bits_per_dim": "negative_elbo", "nll_bits_per_dim": "nll"}.items():
        if nats in means:
            dimensions, offset = int(np.prod(model.shape)), model.likelihood.offset_bits
            means[name] = float(likelihoods.bits_per_dim(means[nats], dimensions, offset))
    return means


def init_params(model: Model, rng: jax.Array, batch: dict) -> dict:
    """Parameters of both nets: {"encoder": ..., "decoder": ...}."""
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    x = model.likelihood.observe(one["image"], rng, one["index"])
    condition = one_hot_classes(one, model.classes)
    encoder_rng, decoder_rng = jax.random.split(rng)
    (z, _), encoder = model.encoder.init_with_output(encoder_rng, x, condition)
    decoder = model.decoder.init(decoder_rng, with_condition(z, condition), output_shape(model))
    return {"encoder": encoder["params"], "decoder": decoder["params"]}


def output_shape(model: Model) -> tuple[int, int, int]:
    """What the decoder gives per image: (H, W, C * outputs of the likelihood)."""
    height, width, channels = model.shape
    return height, width, channels * model.likelihood.outputs


def latent_size(model: Model, params) -> int:
    """Length of z, asked of the encoder without computing anything."""
    x = jax.ShapeDtypeStruct((1, *model.shape), jnp.float32)
    condition = jax.ShapeDtypeStruct((1, model.classes), jnp.float32) if model.classes else None
    apply = partial(model.encoder.apply, {"params": params["encoder"]})
    return jax.eval_shape(apply, x, condition)[0].shape[-1]


def with_condition(z: jax.Array, condition: jax.Array | None) -> jax.Array:
    """Latents [..., B, L] with the condition [B, K] beside them, if there is one."""
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
