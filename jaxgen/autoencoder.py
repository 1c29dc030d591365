"""An auto-encoder whose small maps of latents another model generates (Rombach et al. 2022).

Its latents are normal variables with a little noise, kept near the standard normal distribution
by a KL term; or, with `levels`, whole numbers on a grid (finite scalar quantisation, FSQ).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training
from jaxgen.batches import (
    ema_params,
    from_signed,
    image_shape,
    masked_sums,
    signed_range,
    unit_range,
)
from jaxgen.losses.bounds import gaussian_kl
from jaxgen.noise import normal
from jaxgen.quantisation import code_of, grid_index, grid_value, quantised
from jaxgen.task import Codec, Task

STEEPEST = 6.0  # of the logarithm of a standard deviation
REMEMBERED = 0.99  # of the statistics of latents, from step to step


class State(NamedTuple):
    """What training changes.

    Attributes:
      params: {"encoder": ..., "decoder": ...}.
      opt_state: of the optimiser.
      batch_stats: mean and mean square of the channels of the latents' means, [L] each, and the
        steps so far; the name is that of statistics which the engine averages over devices.
    """

    params: Any
    opt_state: optax.OptState
    batch_stats: dict[str, jax.Array]


class Model(NamedTuple):
    """The nets and how they train; the first argument of every function below.

    Attributes:
      encoder: module x [B, H, W, C] -> [B, h, w, 2 L], means and log standard deviations; or with
        `levels` [B, h, w, L].
      decoder: module z [B, h, w, L] -> [B, H, W, C].
      shape: (H, W, C) of an image.
      kl: weight of the KL term.
      levels: of each channel of the latents, for FSQ; () for normal latents.
    """

    encoder: Any
    decoder: Any
    shape: tuple[int, int, int]
    kl: float
    levels: tuple[int, ...]


def autoencoder(
    encoder,
    decoder,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    kl: float = 1e-3,
    levels: tuple[int, ...] = (),
) -> Task:
    """Builds the task of training an auto-encoder on uint8 images.

    Args:
      encoder: module x [B, H, W, C] -> [B, h, w, 2 L], or with `levels` [B, h, w, L]; see
        `jaxgen.nets.latent_maps.MapEncoder`.
      decoder: module z [B, h, w, L] -> [B, H, W, C].
      optimizer: an optax transformation. Where its state holds a moving average
        of the parameters under the name `ema`, evaluation and images use it.
      example: shape and dtype of each array of one example; `image` must be uint8 [H, W, C].
      kl: weight of the KL from the standard normal distribution, in nats per value of an image.
      levels: of each channel, for FSQ (Mentzer et al. 2023); no KL then.

    Returns:
      A `Task`. Metrics: loss, squared error (of values in [-1, 1]) + kl * KL; psnr in dB; and kl
      in nats per image, or with levels codes_used, the share of all codes that occur, and
      code_bits, the entropy of a code by itself.

    Raises:
      ValueError: an argument outside its range, nets that do not fit, an example without images.
    """
    shape = image_shape(example, "an auto-encoder")
    if kl < 0.0 or any(level < 2 for level in levels):
        raise ValueError(f"kl={kl} must not be negative, levels={levels} at least 2 each")
    model = Model(encoder, decoder, shape, kl, tuple(levels))
    with_ema = lambda function: likelihood_training.with_ema(function, model)
    return Task(
        init=partial(init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=with_ema(lambda *args: masked_sums(terms(*args)[0], args[2]["mask"])),
        finish=partial(finish, model),
        figures=with_ema(figures),
        complete=with_ema(reconstruct),
        given="image",
        codec=partial(codec, model),
        accumulates=False,  # the statistics of micro-batches are not those of the batch
    )


def init(model: Model, optimizer: optax.GradientTransformation, rng: jax.Array, batch: dict):
    """Initialises both nets.

    Args:
      model: the model.
      optimizer: of the task.
      rng: key.
      batch: its first row gives the shapes.

    Returns:
      A `State`.

    Raises:
      ValueError: the nets do not fit the levels, or each other.
    """
    x, keys = signed_range(batch["image"][:1]), jax.random.split(rng)
    latents, encoder = model.encoder.init_with_output(keys[0], x)
    count = latents.shape[-1] if model.levels else latents.shape[-1] // 2
    if model.levels and count != len(model.levels):
        raise ValueError(f"levels={model.levels}: the encoder gives {count} channels")
    z = jnp.zeros((*latents.shape[:-1], count))
    image, decoder = model.decoder.init_with_output(keys[1], z)
    if image.shape != x.shape:
        raise ValueError(f"the decoder gives images {image.shape[1:]}; they are {x.shape[1:]}")
    params = {"encoder": encoder["params"], "decoder": decoder["params"]}
    stats = {"mean": jnp.zeros(count), "square": jnp.ones(count), "count": jnp.zeros(())}
    return State(params, optimizer.init(params), stats)


def encode(model: Model, params: dict, x: jax.Array, noise: jax.Array | None = None):
    """The latents of images.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      x: [B, H, W, C] in [-1, 1].
      noise: standard normal [B, h, w, L] for normal latents; None for their means.

    Returns:
      z [B, h, w, L]; the KL of each image [B] in nats, 0 with levels; and the means of the
      latents [B, h, w, L].
    """
    out = model.encoder.apply({"params": params["encoder"]}, x)
    if model.levels:
        z = quantised(out, model.levels)
        return z, jnp.zeros(len(x)), z
    mean, log_std = jnp.split(out, 2, -1)
    log_std = STEEPEST * jnp.tanh(log_std / STEEPEST)
    z = mean if noise is None else mean + jnp.exp(log_std) * noise
    return z, gaussian_kl(mean, log_std).sum((1, 2, 3)), mean


def decode(model: Model, params: dict, z: jax.Array) -> jax.Array:
    """Images [B, H, W, C], about in [-1, 1], of latents [B, h, w, L]."""
    return model.decoder.apply({"params": params["decoder"]}, z)


def terms(model: Model, params: dict, batch: dict, rng: jax.Array) -> tuple[dict, jax.Array]:
    """The loss of each image.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      {"loss", "error" (squared, a mean over values), "kl": [B]}, with levels also "codes"
      [B, K], how often each code occurs; and the means of the latents [B, h, w, L].
    """
    x = signed_range(batch["image"])
    shape = jax.eval_shape(partial(encode, model), params, x)[0].shape[1:]
    noise = normal(rng, batch["index"], shape)
    z, kl, mean = encode(model, params, x, noise)
    error = jnp.mean((decode(model, params, z) - x) ** 2, (1, 2, 3))
    loss = error + model.kl * kl / float(np.prod(model.shape))
    found = {"loss": loss, "error": error, "kl": kl}
    if model.levels:
        codes = code_of(z, model.levels).reshape(len(x), -1)
        count = lambda row: jnp.bincount(row, length=int(np.prod(model.levels)))
        found["codes"] = jax.vmap(count)(codes).astype(jnp.float32)
    return found, mean


def train_step(model: Model, optimizer, state: State, batch: dict, rng: jax.Array):
    """One update of both nets and of the latents' statistics.

    Args:
      model: the model.
      optimizer: of the task.
      state: before the step.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      The state after the step, and sums.
    """

    def mean_loss(params):
        found, z = terms(model, params, batch, rng)
        return jnp.mean(found["loss"]), (masked_sums(found, batch["mask"]), z)

    grads, (sums, z) = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    now, before = {"mean": z.mean((0, 1, 2)), "square": (z**2).mean((0, 1, 2))}, state.batch_stats
    # The first ones are soon forgotten.
    kept = jnp.minimum(REMEMBERED, before["count"] / (1.0 + before["count"]))
    stats = {name: kept * before[name] + (1.0 - kept) * value for name, value in now.items()}
    stats["count"] = before["count"] + 1.0
    return State(optax.apply_updates(state.params, updates), opt_state, stats), sums


def reconstruct(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """The images that the latents' means decode to.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: `image`.
      rng: not used.

    Returns:
      [B, H, W, C] in [0, 1].
    """
    del rng
    z, *_ = encode(model, params, signed_range(batch["image"]))
    return from_signed(decode(model, params, z))


def figures(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Makes the images that training writes beside its metrics.

    Args:
      model: the model.
      params: {"encoder": ..., "decoder": ...}.
      batch: see `jaxgen.task.Task`.
      rng: not used.

    Returns:
      reconstructions [2, N, H, W, C], images above and their reconstructions below, N <= 16.
    """
    first = jax.tree.map(lambda leaf: leaf[:16], batch)
    rebuilt = reconstruct(model, params, first, rng)
    return {"reconstructions": jnp.stack([unit_range(first["image"]), rebuilt])}


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Divides sums over images by the number of images.

    Args:
      model: the model.
      sums: of one or more batches, numpy float64.

    Returns:
      The metrics that `autoencoder` lists.
    """
    means = {name: float(sums[name] / sums["count"]) for name in ("loss", "error", "kl")}
    found = {"loss": means["loss"], "psnr": float(10.0 * np.log10(4.0 / means["error"]))}
    if not model.levels:
        return found | {"kl": means["kl"]}
    share = sums["codes"] / sums["codes"].sum()
    bits = -np.sum(share * np.log2(np.maximum(share, 1e-12)))
    return found | {"codes_used": float(np.mean(share > 0)), "code_bits": float(bits)}


def codec(model: Model, state: State) -> Codec:
    """A trained auto-encoder as functions of images and latents.

    Args:
      model: the model.
      state: of its training; the moving average of its parameters is used where there is one.

    Returns:
      The functions, with the parameters inside.
    """
    params = ema_params(state.opt_state, state.params)
    mean, square = state.batch_stats["mean"], state.batch_stats["square"]
    std = jnp.sqrt(jnp.maximum(square - mean**2, 1e-8))
    mean, std = mean[None, None, None], std[None, None, None]
    latents = lambda image: encode(model, params, signed_range(image))[0]
    shown = lambda z: from_signed(decode(model, params, z))

    def to_images(z):
        z = z * std + mean
        return shown(quantised(z, model.levels, bounded=True) if model.levels else z)

    one = jax.ShapeDtypeStruct((1, *model.shape), jnp.uint8)
    trained = Codec(
        image_shape=model.shape,
        shape=jax.eval_shape(latents, one).shape[1:],
        encode=lambda image, rng, index: (latents(image) - mean) / std,
        decode=to_images,
    )
    if not model.levels:
        return trained
    return trained._replace(
        levels=model.levels,
        codes=lambda image: grid_index(latents(image), model.levels),
        image_of=lambda index: shown(grid_value(index, model.levels)),
    )
