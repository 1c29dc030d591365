"""Autoregressive models of images (PixelRNN, PixelCNN) as a task.

  p(image) = product over i of p(x_i | x before i), rows, then columns, then channels

The likelihood is exact. Sampling draws an image value by value in one compiled program,
in which the nets cache their features of earlier pixels.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training
from jaxgen.batches import (
    image_shape,
    masked_sums,
    one_hot_classes,
    seeds_to_show,
    unit_range,
)
from jaxgen.figures import completions
from jaxgen.likelihoods.images import bits_per_dim
from jaxgen.likelihoods.pixels import PixelLikelihood, binary, codes, level_of
from jaxgen.noise import per_example
from jaxgen.pixelwise import Model, conditionals, draw
from jaxgen.task import Codec, Task


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
      nll_bits_per_dim. With a codec p is that of the image's codes, and code_bits are the bits of
      one code, to compare with their entropy one by one, the auto-encoder's code_bits.

    Raises:
      ValueError: an argument outside its range, or an example without images or labels.
    """
    shape = image_shape(example, "a PixelRNN", classes)
    if codec:
        if likelihood or given_rows is not None:
            raise ValueError("codec: codes have their own likelihood, and nothing is completed")
        likelihood, shape = _of_codes(codec, shape), codec.shape
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
        given="" if codec else "image",
        log_prob=with_ema(log_prob),
        conditionals=None if codec else with_ema(of_batch),
    )


def _of_codes(codec, shape):
    """The likelihood of a codec's codes, after a check that it fits."""
    if not codec.levels:
        raise ValueError("codec: the auto-encoder has no codes; train one with `levels`")
    if codec.image_shape != shape:
        raise ValueError(
            f"codec: the auto-encoder is for images {codec.image_shape}; these are {shape}"
        )
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


def log_prob(model: Model, params: dict, batch: dict, rng: jax.Array) -> jax.Array:
    """The exact log p of the observed variable: of the image, or of its codes.

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
    images = model.codec.image_of(level_of(x, max(model.codec.levels)))
    # A class that does not exist gives NaN, which no whole number can be.
    real = jnp.all(jnp.isfinite(x), axis=(1, 2, 3))
    return jnp.where(real[:, None, None, None], images, jnp.nan)


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
    samples = sample(model, params, seeds_to_show(model.classes), rng)
    if model.codec:
        return {"samples": samples}
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    completed = completions(partial(complete, model, params), first, model.given_rows, rng)
    return {"samples": samples, "completions": completed}


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
