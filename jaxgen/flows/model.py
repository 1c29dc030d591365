"""The net of a flow and its options; observed images, conditions, and the clean image."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.batches import from_signed, one_hot_classes, signed_range
from jaxgen.flows.mean_velocity import MeanFlow, ahead, bounded
from jaxgen.flows.ode import Density
from jaxgen.flows.parametrisations import Parametrisation
from jaxgen.flows.paths import Times
from jaxgen.flows.samplers import Sampler
from jaxgen.flows.sampling_options import Sampling
from jaxgen.flows.weights import Weight
from jaxgen.likelihoods.images import bernoulli
from jaxgen.noise import normal
from jaxgen.task import Codec

# The earliest thousandth of the times of training: the net takes all of these for the last of them.
RAREST = 1e-3


class Model(NamedTuple):
    """The net and the options of the task; the first argument of every function below.

    Attributes:
      net: module (z [B, H, W, C], t [B], condition [B, K + 1] or None) -> [B, H, W, C].
      shape: (H, W, C) of an image; with a codec of its latents, which all below works on.
      parametrisation: from the net's output to the clean image.
      density: of the times of training.
      weight: of the error of the clean image.
      classes: K; 0 for none. The condition's last column is that of no class.
      class_dropout: share of examples that train without their class.
      levels: values that a pixel has, for the bound; 0 for none.
      draws: of time and noise for each image, in `score_step`.
      likelihood: how `score_step` computes the density along the flow's equation, or None.
      sampling: how images are made; its `given_rows` is a number.
      mean_flow: how the mean velocity up to a later time is trained; None for no such flow. The
        condition's last 8 columns are that time's then, see `mean_velocity.ahead`.
      weaker: parameters of a weaker net to guide by, in place of no class; None for none.
      codec: a `jaxgen.task.Codec`; None for a flow of the pixels.
    """

    net: Any
    shape: tuple[int, int, int]
    parametrisation: Parametrisation
    density: Times
    weight: Weight
    classes: int
    class_dropout: float
    levels: int
    draws: int
    likelihood: Density | None
    sampling: Sampling
    mean_flow: MeanFlow | None = None
    weaker: Any = None
    codec: Codec | None = None


def check_kinds(model: Model) -> None:
    """Refuses what one function of `jaxgen.flows` made in the place of another's.

    Args:
      model: the model.

    Raises:
      ValueError: names the argument, the kind that it takes, and what was given.
    """
    for name, value, kind in (
        ("parametrisation", model.parametrisation, Parametrisation),
        ("density", model.density, Times),
        ("weight", model.weight, Weight),
        ("likelihood", model.likelihood, Density),  # a sampler has none
        ("mean_flow", model.mean_flow, MeanFlow),
        ("sampling.sampler", model.sampling.sampler, Sampler),
    ):
        if value is not None and not isinstance(value, kind):
            given = type(value).__name__
            raise ValueError(f"{name}: takes a {kind.__name__} of jaxgen.flows, not a {given}")


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
    z, t = jnp.zeros((1, *model.shape)), jnp.full(1, 0.5)
    condition = _with_time(model, condition_of(model, one), t, None)
    return model.net.init(rng, z, t, condition)["params"]


def observe(model: Model, batch: dict, rng: jax.Array) -> jax.Array:
    """Images as values in [-1, 1], with two levels drawn as -1 or 1; or latents.

    Args:
      model: its `levels` is used.
      batch: `image` uint8 [B, H, W, C] and `index` int32 [B].
      rng: key of the step.

    Returns:
      x [B, H, W, C].
    """
    if model.levels == 2:
        return 2.0 * bernoulli().observe(batch["image"], rng, batch["index"]) - 1.0
    if model.codec:
        return model.codec.encode(batch["image"], rng, batch["index"])
    return signed_range(batch["image"])


def shown(model: Model, x: jax.Array) -> jax.Array:
    """Images in [0, 1] of what the flow models.

    Args:
      model: the model.
      x: [B, *shape].

    Returns:
      [B, H, W, C].
    """
    if model.codec:
        return model.codec.decode(x)
    return from_signed(x)


def condition_of(model: Model, batch: dict, drop: jax.Array | None = None) -> jax.Array | None:
    """The condition of the net.

    Args:
      model: its `classes` is used.
      batch: `label` [B] where there are classes.
      drop: bool [B], rows without their class; none unless given.

    Returns:
      One-hot [B, K + 1], the last column for no class; None without classes. A row whose label
      is no class is NaN, see `batches.one_hot_classes`, also where its class is dropped.
    """
    if not model.classes:
        return None
    known = jnp.pad(one_hot_classes(batch, model.classes), ((0, 0), (0, 1)))
    if drop is None:
        return known
    # NaN stays NaN times 0: a label that is no class must not train as "no class".
    none = jax.nn.one_hot(model.classes, model.classes + 1)[None] + 0.0 * known
    return jnp.where(drop[:, None], none, known)


def denoise(
    model: Model,
    params: dict,
    z: jax.Array,
    t: jax.Array,
    condition: jax.Array | None,
    until: jax.Array | None = None,
) -> jax.Array:
    """The clean image of a noisy one.

    Args:
      model: the model.
      params: of the net.
      z: [B, H, W, C].
      t: [B], or a scalar.
      condition: [B, K + 1], or None.
      until: [B], or a scalar: for a mean flow, the time up to which the velocity's mean is
        taken; t itself unless given.

    Returns:
      x_hat [B, H, W, C], the mean of the images that z may come from; with `until` the point at
      t = 1 of the line from z along the mean velocity.
    """
    t = jnp.broadcast_to(t, z.shape[:1])
    condition = _with_time(model, condition, t, until)
    scaled = model.parametrisation.scale(z, t)
    # A net that never saw an earlier time may give anything there; x_hat hardly changes before.
    seen = jnp.maximum(t, model.density.of(jnp.float32(RAREST)))
    out = model.net.apply({"params": params}, scaled, seen, condition)
    x = model.parametrisation.image(out, z, t)
    return x if model.mean_flow is None else bounded(x, z, t)


def _with_time(model, condition, t, until):
    """The condition with the features of the second time, for a mean flow."""
    if model.mean_flow is None:
        return condition
    features = ahead(t, t if until is None else jnp.broadcast_to(until, t.shape))
    return features if condition is None else jnp.concatenate([condition, features], -1)


def noise_of(model: Model, rng: jax.Array, index: jax.Array) -> jax.Array:
    """Standard normal noise [B, H, W, C] of (rng, index)."""
    return normal(rng, index, model.shape)
