"""The net of a hierarchical VAE applied to images: latents of images, and images of latents."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batches import one_hot_classes, seeds_to_show, unit_range
from jaxgen.likelihoods.images import Likelihood
from jaxgen.noise import normal, slerp


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
