"""Autoregressive models of images (PixelRNN, PixelCNN) as a task.

  p(image) = product over i of p(x_i | x before i), rows, then columns, then channels

The likelihood is exact. An image is drawn value by value, by one compiled program
whose nets keep what they have computed of earlier pixels.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training
from jaxgen.batches import image_shape, masked_sums, one_hot_classes
from jaxgen.likelihoods import bits_per_dim
from jaxgen.likelihoods.pixels import PixelLikelihood, binary
from jaxgen.likelihoods.pixels import draw as draw_value
from jaxgen.nets.masked import write
from jaxgen.noise import per_example
from jaxgen.task import Task


class Model(NamedTuple):
    """The net and what it is about; every function below takes it first.

    Attributes:
      net: see `jaxgen.nets.pixelrnn`.
      likelihood: p(x_i | x before i).
      shape: (H, W, C) of an image.
      classes: number of classes that the net is conditioned on; 0 for none.
      given_rows: rows at the top of an image that `complete` keeps.
      cached: whether the net can be called at one place, see `jaxgen.nets.masked`.
    """

    net: Any
    likelihood: PixelLikelihood
    shape: tuple[int, int, int]
    classes: int
    given_rows: int
    cached: bool


def pixel_rnn(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    likelihood: PixelLikelihood | None = None,
    classes: int = 0,
    given_rows: int | None = None,
    cached: bool = True,
) -> Task:
    """Builds the task of training an autoregressive model on uint8 images.

    Args:
      model: a net such as `jaxgen.nets.pixelrnn.PixelRNN` or `jaxgen.nets.pixelcnn.PixelCNN`, or
        a module with the contract told in `jaxgen.nets.pixelrnn`.
      optimizer: an optax transformation. Where its state holds a moving average
        of the parameters under the name `ema`, evaluation and samples use it.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      likelihood: see `jaxgen.likelihoods.pixels`; binary by default.
      classes: number of classes to condition the net on; 0 for none.
      given_rows: rows at the top that `complete` keeps; half of them by default.
      cached: False for a net that takes no `at`: each value then needs a pass over
        the whole image.

    Returns:
      A `Task`. Metrics: loss and nll, both -log p(image) in nats, and its
      nll_bits_per_dim.

    Raises:
      ValueError: an argument that cannot be meant, or an example without images.
    """
    shape = image_shape(example, "a PixelRNN", classes)
    rows = shape[0] // 2 if given_rows is None else given_rows
    if not 0 <= rows < shape[0]:
        raise ValueError(f"given_rows must be 0 to {shape[0] - 1} of {shape[0]}, got {given_rows}")
    likelihood = likelihood or binary()
    groups = 1 if likelihood.joint else shape[2]
    net = model.clone(outputs=likelihood.outputs(shape[2]), groups=groups)
    model = Model(net, likelihood, shape, classes, rows, cached)

    def score(model, params, batch, rng):
        return masked_sums({"loss": -log_prob(model, params, batch, rng)}, batch["mask"])

    def of_batch(model, params, x, batch):
        return conditionals(model, params, x, one_hot_classes(batch, classes))

    with_ema = lambda function: likelihood_training.with_ema(function, model)
    return Task(
        init=likelihood_training.init(optimizer, partial(init_params, model)),
        train_step=likelihood_training.train_step(optimizer, partial(train_loss, model)),
        eval_step=with_ema(score),
        finish=partial(finish, model),
        figures=with_ema(figures),
        sample=with_ema(sample),
        complete=with_ema(complete),
        given="image",
        log_prob=with_ema(log_prob),
        conditionals=with_ema(of_batch),
    )


def init_params(model: Model, rng: jax.Array, batch: dict) -> dict:
    """Parameters of the net."""
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    x = model.likelihood.observe(one["image"], rng, one["index"])
    condition = one_hot_classes(one, model.classes)
    return model.net.init(rng, x, condition, mutable=["params"])["params"]


def conditionals(model: Model, params, x: jax.Array, condition: jax.Array | None) -> jax.Array:
    """Parameters [B, H, W, C, K] of p(x_i | x before i) for x [B, H, W, C]."""
    return model.likelihood.parameters(x, model.net.apply({"params": params}, x, condition))


def log_prob(model: Model, params, batch: dict, rng: jax.Array) -> jax.Array:
    """Exact log p(image) [B], in nats, of the observed variable."""
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
    parameters = conditionals(model, params, x, one_hot_classes(batch, model.classes))
    return jnp.sum(model.likelihood.log_prob(x, parameters), axis=(1, 2, 3))


def train_loss(model: Model, params, batch: dict, rng: jax.Array) -> dict:
    """{"loss": [B]}, the negative of `expected_log_prob`."""
    return {"loss": -expected_log_prob(model, params, batch, rng)}


def expected_log_prob(model: Model, params, batch: dict, rng: jax.Array) -> jax.Array:
    """The mean [B] of log p(image) over each value's draw, given those drawn before it.

    Of binarised images, whose values are drawn independently given the grey levels: as
    E[x_i | x before i] is the grey level, the mean over x_i is had without drawing it. The
    expectation is that of `log_prob`, with less noise for training (Rao-Blackwell).
    """
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
    parameters = conditionals(model, params, x, one_hot_classes(batch, model.classes))
    target = model.likelihood.target(batch["image"], x)
    return jnp.sum(model.likelihood.log_prob(target, parameters), axis=(1, 2, 3))


def sample(model: Model, params, batch: dict, rng: jax.Array) -> jax.Array:
    """Images [B, H, W, C] in [0, 1], each value shown as its likelihood says.

    Image i depends on (rng, index[i]) and, for a conditional model, on label[i].
    """
    x = jnp.zeros((batch["index"].shape[0], *model.shape))
    condition = one_hot_classes(batch, model.classes)
    return draw(model, params, x, 0, condition, noise(model, rng, batch["index"]))[1]


def complete(model: Model, params, batch: dict, rng: jax.Array) -> jax.Array:
    """Images [B, H, W, C] in [0, 1] whose first `given_rows` rows are those of `image`."""
    index, rows = batch["index"], model.given_rows
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), index)
    condition = one_hot_classes(batch, model.classes)
    uniform = noise(model, jax.random.fold_in(rng, 1), index)
    shown = draw(model, params, x, rows, condition, uniform)[1]
    return jnp.concatenate([batch["image"][:, :rows] / 255.0, shown[:, rows:]], axis=1)


def noise(model: Model, rng: jax.Array, index: jax.Array) -> jax.Array:
    """What decides every value: uniform in [0, 1), [B, H, W, C], drawn per example."""
    return per_example(lambda key: jax.random.uniform(key, model.shape), rng, index)


def draw(model: Model, params, x, rows: int, condition, uniform) -> tuple[jax.Array, jax.Array]:
    """Draws what follows the first rows of images.

    Args:
      model: the model; `cached` says how.
      params: parameters of its net.
      x: [B, H, W, C], of which the first `rows` are kept.
      rows: how many.
      condition: [B, K], or None.
      uniform: [B, H, W, C], see `noise`.

    Returns:
      x, all of it drawn, and the grey levels [B, H, W, C] that show it.
    """
    x = x.at[:, rows:].set(0.0)
    walk = _draw_cached if model.cached else _draw_plainly
    return walk(model, params, x, rows, condition, uniform)


def _draw_cached(model, params, x, rows, condition, uniform):
    """By a pass over the given rows, then from pixel to pixel."""
    height, width, channels = model.shape
    likelihood, apply = model.likelihood, partial(model.net.apply, mutable=["cache"])
    _, state = apply({"params": params}, x, condition)

    def net(cache, at):
        outputs, state = apply({"params": params, "cache": cache}, None, condition, at)
        return outputs, state["cache"]

    def pixel(row, cache, column):
        number, uniform = column
        at, value = (row, number), jnp.zeros_like(uniform)
        for channel in range(channels):
            if channel == 0 or not likelihood.joint:
                outputs, cache = net(cache, at)
            parameters = likelihood.parameters(value, outputs)
            drawn = draw_value(likelihood, parameters[:, channel], uniform[:, channel])
            value = value.at[:, channel].set(drawn)
            cache = cache | {"x": write(cache["x"], value, at)}
        return cache, (value, likelihood.show(value, parameters))

    def one_row(cache, item):
        row, uniform = item
        _, cache = net(cache, (row, None))
        return jax.lax.scan(partial(pixel, row), cache, (jnp.arange(width), uniform))

    places = jnp.arange(rows, height), jnp.moveaxis(uniform, 0, 2)[rows:]
    _, found = jax.lax.scan(one_row, state["cache"], places)
    return tuple(x.at[:, rows:].set(jnp.moveaxis(drawn, 2, 0)) for drawn in found)


def _draw_plainly(model, params, x, rows, condition, uniform):
    """By a pass over the whole image for each value: slow, for nets with no cache."""
    size = int(np.prod(model.shape[1:]))

    def value(number, carry):
        x, shown = carry
        at = (slice(None), *jnp.unravel_index(number, model.shape))
        parameters = conditionals(model, params, x, condition)[at]
        x = x.at[at].set(draw_value(model.likelihood, parameters, uniform[at]))
        return x, shown.at[at].set(model.likelihood.show(x[at], parameters))

    return jax.lax.fori_loop(rows * size, model.shape[0] * size, value, (x, x))


def figures(model: Model, params, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Samples; and in a row each: what is given of an image, completions, the image."""
    index = jnp.arange(64)
    seeds = {"index": index, "label": index % max(model.classes, 1)}
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    image = first["image"] / 255.0
    below = jnp.arange(model.shape[0])[:, None, None] >= model.given_rows
    completed = [
        complete(model, params, first, jax.random.fold_in(rng, number)) for number in range(6)
    ]
    return {
        "samples": sample(model, params, seeds, rng),
        "completions": jnp.stack([jnp.where(below, 0.5, image), *completed, image], axis=1),
    }


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Sums over images -> means in nats, and bits per dimension."""
    nll = float(sums["loss"] / sums["count"])
    bits = float(bits_per_dim(nll, int(np.prod(model.shape))))
    return {"loss": nll, "nll": nll, "nll_bits_per_dim": bits}
