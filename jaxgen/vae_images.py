"""The nets of a VAE applied to images: latents of images, and images of latents."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.batches import one_hot_classes, seeds_to_show, unit_range, with_condition
from jaxgen.likelihoods.images import Likelihood
from jaxgen.noise import normal, slerp
from jaxgen.task import Codec


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
