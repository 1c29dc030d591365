"""Autoregressive models of images (PixelRNN, PixelCNN) as a task.

  p(image) = product over i of p(x_i | x before i), rows, then columns, then channels

The likelihood is exact. Sampling draws an image value by value in one compiled program,
in which the nets cache their features of earlier pixels.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training
from jaxgen.autoencoder import Codec
from jaxgen.batches import image_shape, masked_sums, one_hot_classes, unit_range
from jaxgen.likelihoods.images import bits_per_dim
from jaxgen.likelihoods.pixels import PixelLikelihood, binary, codes
from jaxgen.likelihoods.pixels import draw as draw_value
from jaxgen.nets.masked import write
from jaxgen.noise import per_example
from jaxgen.task import Task


class Model(NamedTuple):
    """The net and what it models; the first argument of every function below.

    Attributes:
      net: see `jaxgen.nets.pixelrnn`.
      likelihood: p(x_i | x before i).
      shape: (H, W, C) of an image; (h, w, L) of its codes with a codec.
      classes: number of classes that the net is conditioned on; 0 for none.
      given_rows: rows at the top of an image that `complete` keeps.
      cached: whether the net can be called at one pixel, see `jaxgen.nets.masked`.
      codec: whose codes are modelled; None for the values of images.
    """

    net: Any
    likelihood: PixelLikelihood
    shape: tuple[int, int, int]
    classes: int
    given_rows: int
    cached: bool
    codec: Codec | None = None


def pixel_rnn(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    likelihood: PixelLikelihood | None = None,
    classes: int = 0,
    given_rows: int | None = None,
    cached: bool = True,
    codec: Codec | None = None,
) -> Task:
    """Builds the task of training an autoregressive model on uint8 images.

    Args:
      model: `jaxgen.nets.pixelrnn.PixelRNN`, `jaxgen.nets.pixelcnn.PixelCNN`, or another
        module with the contract in `jaxgen.nets.pixelrnn`.
      optimizer: an optax transformation. Where its state holds a moving average
        of the parameters under the name `ema`, evaluation and samples use it.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      likelihood: see `jaxgen.likelihoods.pixels`; binary by default.
      classes: number of classes to condition the net on; 0 for none.
      given_rows: rows at the top that `complete` keeps; half of them by default.
      cached: False for a net without the argument `at`; each value of a sample then needs
        a pass over the whole image.
      codec: of a trained auto-encoder with levels (FSQ), whose codes are modelled in place of
        the image's values; no `likelihood` then, and nothing is completed.

    Returns:
      A `Task`. Metrics: loss and nll, both -log p(image) in nats, and its
      nll_bits_per_dim. With a codec nll is that of the image's codes, and code_bits the bits of
      one code, to compare with their entropy one by one, the auto-encoder's code_bits.

    Raises:
      ValueError: an argument outside its range, or an example without images or labels.
    """
    shape = image_shape(example, "a PixelRNN", classes)
    if codec:
        likelihood, shape = _of_codes(codec, shape, likelihood), codec.shape
    rows = shape[0] // 2 if given_rows is None else given_rows
    if not 0 <= rows < shape[0]:
        raise ValueError(f"given_rows must be 0 to {shape[0] - 1} of {shape[0]}, got {given_rows}")
    likelihood = likelihood or binary()
    groups = 1 if likelihood.joint else shape[2]
    net = model.clone(outputs=likelihood.outputs(shape[2]), groups=groups)
    model = Model(net, likelihood, shape, classes, rows, cached, codec)

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
        complete=None if codec else with_ema(complete),
        given=None if codec else "image",
        log_prob=with_ema(log_prob),
        conditionals=None if codec else with_ema(of_batch),
    )


def _of_codes(codec, shape, likelihood):
    """The likelihood of a codec's codes, after a check that it fits."""
    if likelihood:
        raise ValueError("codec: codes have a likelihood of their own; give none")
    if not codec.levels:
        raise ValueError(
            "codec: the auto-encoder has no codes; train one with levels "
            "(configs/autoencoder.py:fsq)"
        )
    if codec.of != shape:
        raise ValueError(f"codec: the auto-encoder is for images {codec.of}; these are {shape}")
    return codes(codec.levels, codec.codes)


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
    x = model.likelihood.observe(one["image"], rng, one["index"])
    condition = one_hot_classes(one, model.classes)
    return model.net.init(rng, x, condition, mutable=["params"])["params"]


def conditionals(
    model: Model, params: dict, x: jax.Array, condition: jax.Array | None
) -> jax.Array:
    """Computes the conditional distributions of all values.

    Args:
      model: the model.
      params: of the net.
      x: the observed variable [B, H, W, C].
      condition: [B, classes], or None.

    Returns:
      Parameters [B, H, W, C, K] of p(x_i | x before i).
    """
    return model.likelihood.parameters(x, model.net.apply({"params": params}, x, condition))


def log_prob(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """The exact log p(image) of the observed variable.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step; it decides binarised pixels.

    Returns:
      [B], in nats.
    """
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
    parameters = conditionals(model, params, x, one_hot_classes(batch, model.classes))
    return jnp.sum(model.likelihood.log_prob(x, parameters), axis=(1, 2, 3))


def train_loss(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict:
    """The loss of training: {"loss": [B]}, the negative of `expected_log_prob`.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      {"loss": [B]}, in nats.
    """
    return {"loss": -expected_log_prob(model, params, batch, rng)}


def expected_log_prob(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """log p(image), with each term replaced by its mean over x_i given the grey level.

    Binarised values are independent given the grey levels, and the mean of x_i is the grey
    level. So the mean of each term over x_i, given the values before it, follows without a
    draw of x_i. The expectation equals that of `log_prob`, with less variance for training
    (Rao-Blackwell). For likelihoods of grey levels the two are the same.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      [B], in nats.
    """
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
    parameters = conditionals(model, params, x, one_hot_classes(batch, model.classes))
    target = model.likelihood.target(batch["image"], x)
    return jnp.sum(model.likelihood.log_prob(target, parameters), axis=(1, 2, 3))


def sample(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Samples images.

    Args:
      model: the model.
      params: of the net.
      batch: `index` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1], as `show` of the likelihood gives them. Image i depends
      on (rng, index[i], label[i]).
    """
    x = jnp.zeros((batch["index"].shape[0], *model.shape))
    condition = one_hot_classes(batch, model.classes)
    uniform = noise(model, rng, batch["index"])
    x, shown = draw(model, params, x, rows=0, condition=condition, uniform=uniform)
    if not model.codec:
        return shown
    most = max(model.codec.levels)
    return model.codec.image_of(jnp.round((x + 1.0) * ((most - 1) / 2.0)).astype(jnp.int32))


def complete(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """Completes images from their first `given_rows` rows.

    Args:
      model: the model.
      params: of the net.
      batch: `image`, `index` and, for a conditional model, `label`.
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1]; their first rows are those of `image`.
    """
    index, rows = batch["index"], model.given_rows
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(rng, 0), index)
    condition = one_hot_classes(batch, model.classes)
    uniform = noise(model, jax.random.fold_in(rng, 1), index)
    shown = draw(model, params, x, rows=rows, condition=condition, uniform=uniform)[1]
    return jnp.concatenate([unit_range(batch["image"][:, :rows]), shown[:, rows:]], axis=1)


def noise(model: Model, rng: jax.Array, index: jax.Array) -> jax.Array:
    """Draws the uniform numbers that decide every value of a sample.

    Args:
      model: the model.
      rng: key.
      index: int32 [B], the seed of each row.

    Returns:
      [B, H, W, C] in [0, 1).
    """
    return per_example(lambda key: jax.random.uniform(key, model.shape), rng, index)


def draw(
    model: Model,
    params: dict,
    x: jax.Array,
    rows: int,
    condition: jax.Array | None,
    uniform: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Draws the values that follow the first rows of images.

    Args:
      model: the model; its `cached` selects the loop.
      params: of the net.
      x: [B, H, W, C], of which the first `rows` rows are kept.
      rows: number of rows to keep.
      condition: [B, classes], or None.
      uniform: [B, H, W, C], see `noise`.

    Returns:
      x with the values that were drawn, and the grey levels to show, [B, H, W, C] each.
    """
    x = x.at[:, rows:].set(0.0)
    loop = _draw_cached if model.cached else _draw_uncached
    return loop(model, params, x, rows, condition, uniform)


def _draw_cached(model, params, x, rows, condition, uniform):
    """Computes the given rows in one pass, then one pixel after another from the cache."""
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
            level = draw_value(likelihood, parameters[:, channel], uniform[:, channel])
            value = value.at[:, channel].set(level)
            cache = cache | {"x": write(cache["x"], value, at)}
        return cache, (value, likelihood.show(value, parameters))

    def one_row(cache, item):
        row, uniform = item
        _, cache = net(cache, (row, None))
        return jax.lax.scan(partial(pixel, row), cache, (jnp.arange(width), uniform))

    places = jnp.arange(rows, height), jnp.moveaxis(uniform, 0, 2)[rows:]
    _, (values, shown) = jax.lax.scan(one_row, state["cache"], places)
    return tuple(x.at[:, rows:].set(jnp.moveaxis(part, 2, 0)) for part in (values, shown))


def _draw_uncached(model, params, x, rows, condition, uniform):
    """Computes the whole image for each value: slow, for nets without a cache."""
    size = int(np.prod(model.shape[1:]))

    def value(number, carry):
        x, shown = carry
        at = (slice(None), *jnp.unravel_index(number, model.shape))
        parameters = conditionals(model, params, x, condition)[at]
        x = x.at[at].set(draw_value(model.likelihood, parameters, uniform[at]))
        return x, shown.at[at].set(model.likelihood.show(x[at], parameters))

    return jax.lax.fori_loop(rows * size, model.shape[0] * size, value, (x, x))


def figures(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Makes the images that training writes beside its metrics.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key.

    Returns:
      samples [64, H, W, C]; and, without a codec, completions [N, 8, H, W, C], N at most 8: in
      each row the given part of an image, six completions of it, and the image.
    """
    index = jnp.arange(64)
    seeds = {"index": index, "label": index % max(model.classes, 1)}
    if model.codec:
        return {"samples": sample(model, params, seeds, rng)}
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    image = unit_range(first["image"])
    below = jnp.arange(model.shape[0])[:, None, None] >= model.given_rows
    completed = [
        complete(model, params, first, jax.random.fold_in(rng, number)) for number in range(6)
    ]
    return {
        "samples": sample(model, params, seeds, rng),
        "completions": jnp.stack([jnp.where(below, 0.5, image), *completed, image], axis=1),
    }


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Divides sums over images by the number of images.

    Args:
      model: the model.
      sums: of one or more batches, numpy float64.

    Returns:
      loss and nll, both in nats per image, and nll_bits_per_dim, or with a codec code_bits.
    """
    nll = float(sums["loss"] / sums["count"])
    if model.codec:
        bits = nll / np.log(2.0) / float(np.prod(model.shape[:2]))
        return {"loss": nll, "nll": nll, "code_bits": bits}
    bits = float(bits_per_dim(nll, int(np.prod(model.shape))))
    return {"loss": nll, "nll": nll, "nll_bits_per_dim": bits}
