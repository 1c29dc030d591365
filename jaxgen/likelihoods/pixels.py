"""Likelihoods of one value of an image, for autoregressive models, in nats.

Each is a `PixelLikelihood`: p(x_i | all x before i), where i counts rows, then columns,
then channels, and x_i is one of a few levels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batches import unit_range
from jaxgen.likelihoods.images import (
    bernoulli,
    discretized_logistic,
    logistic_log_mass,
    softplus,
)


class PixelLikelihood(NamedTuple):
    """One model of p(x_i | all x before i).

    Attributes:
      levels: float32 [L], the values that x can have, ascending.
      joint: True where the net depends on whole earlier pixels only, and `parameters` adds
        the earlier channels of the same pixel; False where the net depends on these too.
      outputs: channels C -> number of outputs of the net for each pixel.
      observe: (image uint8 [B, H, W, C], rng, index [B]) -> x float32 of the same shape,
        the variable that is modelled, which is also the input of the net.
      target: (image uint8 [...], x [...]) -> the argument of `log_prob` in training in
        place of x: the mean of x given the image, where `log_prob` is linear in x; else x.
      parameters: (x [..., C], outputs [..., outputs(C)]) -> [..., C, K], the parameters
        of each value's conditional; those of channel c depend on x of channels before c.
      log_prob: (x [...], parameters [..., K]) -> [...], log probability of each value.
      log_masses: parameters [..., K] -> [..., L], log probability of each level.
      show: (x [...], parameters [..., K]) -> grey levels [...] in [0, 1].
    """

    levels: np.ndarray
    joint: bool
    outputs: Callable
    observe: Callable
    target: Callable
    parameters: Callable
    log_prob: Callable
    log_masses: Callable
    show: Callable


def draw(likelihood: PixelLikelihood, parameters: jax.Array, uniform: jax.Array) -> jax.Array:
    """Draws values by inverting their distribution functions.

    Args:
      likelihood: the likelihood.
      parameters: [..., K].
      uniform: [...] in [0, 1).

    Returns:
      Values [...]; NaN where the parameters are NaN, as for a class that does not exist.
    """
    up_to = jnp.cumsum(jnp.exp(likelihood.log_masses(parameters)), axis=-1)
    # Rounding may leave the sum below one; the difference must not go to the last level.
    below = up_to[..., :-1] / up_to[..., -1:]
    values = jnp.asarray(likelihood.levels)[jnp.sum(uniform[..., None] >= below, axis=-1)]
    # No comparison with NaN is true, so these would become the first level.
    return jnp.where(jnp.isnan(up_to[..., -1]), jnp.nan, values)


def binary() -> PixelLikelihood:
    """Black or white, drawn at every step from the grey level; one logit per value.

    Dynamic binarisation, as in `jaxgen.likelihoods.images.bernoulli`, so results compare.
    `show` gives P(1), the model's grey level, and not the value itself.
    """

    def parameters(x, outputs):
        return outputs.reshape(*x.shape, 1)

    def log_prob(x, parameters):
        logits = parameters[..., 0]
        return x * logits - softplus(logits)

    def log_masses(parameters):
        return jnp.concatenate([-softplus(parameters), -softplus(-parameters)], axis=-1)

    return PixelLikelihood(
        levels=np.array([0.0, 1.0], np.float32),
        joint=False,
        outputs=lambda channels: channels,
        observe=bernoulli().observe,
        target=lambda image, x: unit_range(image),
        parameters=parameters,
        log_prob=log_prob,
        log_masses=log_masses,
        show=lambda x, parameters: jax.nn.sigmoid(parameters[..., 0]),
    )


def value_of(level: jax.Array, count: int) -> jax.Array:
    """The values in [-1, 1] of levels 0 to count - 1."""
    return level * (2.0 / (count - 1)) - 1.0


def level_of(x: jax.Array, count: int) -> jax.Array:
    """The levels int32 of values, `value_of` undone."""
    return jnp.round((x + 1.0) * ((count - 1) / 2.0)).astype(jnp.int32)


def softmax(levels: int = 256) -> PixelLikelihood:
    """Grey levels as classes without an order (van den Oord et al. 2016).

    Args:
      levels: number of levels; with fewer than 256 the image is rounded down to equal steps.

    Returns:
      The likelihood, with one logit per level.

    Raises:
      ValueError: fewer than 2 or more than 256 levels.
    """
    if not 2 <= levels <= 256:
        raise ValueError(f"levels must be 2 to 256, got {levels}")

    def observe(image, rng, index):
        del rng, index
        return value_of(jnp.floor(jnp.asarray(image, jnp.float32) * (levels / 256.0)), levels)

    def log_prob(x, parameters):
        level = level_of(x, levels)
        # On CPUs a gather is slower here. A product would be NaN at a logit of -inf.
        true = jax.nn.one_hot(level, levels, dtype=bool)
        logit = jnp.sum(jnp.where(true, parameters, 0.0), axis=-1)
        return logit - jax.nn.logsumexp(parameters, axis=-1)

    return PixelLikelihood(
        levels=np.linspace(-1.0, 1.0, levels, dtype=np.float32),
        joint=False,
        outputs=lambda channels: channels * levels,
        observe=observe,
        target=lambda image, x: x,
        parameters=lambda x, outputs: outputs.reshape(*x.shape, levels),
        log_prob=log_prob,
        log_masses=jax.nn.log_softmax,
        show=lambda x, parameters: (x + 1.0) / 2.0,
    )


def codes(levels: Sequence[int], codes_of: Callable) -> PixelLikelihood:
    """The codes of a quantised auto-encoder in place of grey levels, as classes.

    Args:
      levels: how many each channel of the codes has.
      codes_of: (images uint8 [B, H, W, C]) -> each channel's level int32 [B, h, w, L].

    Returns:
      The likelihood; its values are `value_of` the largest number of levels of a channel. Levels
      that a channel lacks have no probability. `show` gives the value itself: a code is no grey
      level.
    """
    most = max(levels)

    def parameters(x, outputs):
        if x.shape[-1] != len(levels):
            raise ValueError(f"codes of {len(levels)} channels; these have {x.shape[-1]}")
        logits = outputs.reshape(*x.shape, most)
        there = np.arange(most) < np.array(levels)[:, None]
        there = there.reshape((1,) * (logits.ndim - 2) + there.shape)
        return jnp.where(there, logits, -jnp.inf)

    return softmax(most)._replace(
        outputs=lambda channels: channels * most,
        observe=lambda image, rng, index: value_of(codes_of(image).astype(jnp.float32), most),
        parameters=parameters,
        show=lambda x, parameters: x,
    )


def logistic_mixture(components: int = 5, min_log_scale: float = -7.0) -> PixelLikelihood:
    """256 grey levels by a mixture of discretised logistics (Salimans et al. 2017).

    PixelCNN++, sections 2.1 and 2.2: one mixture for all channels of a pixel, where the
    mean of a channel is shifted in proportion to the channels before it. Here that joint
    distribution is written as conditionals: the weight of a component is multiplied by its
    probability of the channels before.

    Args:
      components: number of components of the mixture.
      min_log_scale: lower bound of the log scales.

    Returns:
      The likelihood.

    Raises:
      ValueError: fewer than one component.
    """
    if components < 1:
        raise ValueError(f"components must be at least 1, got {components}")
    levels = (np.arange(256, dtype=np.float64) / 127.5 - 1.0).astype(np.float32)

    def parameters(x, outputs):
        channels = x.shape[-1]
        ends = np.cumsum([1, channels, channels])
        blocks = outputs.reshape(*x.shape[:-1], -1, components)
        weights, means, scales, slopes = jnp.split(blocks, ends, axis=-2)
        logits, number, conditionals = weights[..., 0, :], 0, []
        for channel in range(channels):
            mean = means[..., channel, :]
            for earlier in range(channel):
                mean = mean + jnp.tanh(slopes[..., number, :]) * x[..., earlier, None]
                number += 1
            scale = jnp.maximum(scales[..., channel, :], min_log_scale)
            conditionals.append(jnp.concatenate([logits, mean, scale], axis=-1))
            logits = logits + logistic_log_mass(x[..., channel, None], mean, scale)
        return jnp.stack(conditionals, axis=-2)

    def log_prob(x, parameters):
        logits, means, scales = jnp.split(parameters, 3, axis=-1)
        masses = logistic_log_mass(x[..., None], means, scales)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits) + masses, axis=-1)

    return PixelLikelihood(
        levels=levels,
        joint=True,
        outputs=lambda channels: components * (1 + 2 * channels + channels * (channels - 1) // 2),
        observe=discretized_logistic().observe,
        target=lambda image, x: x,
        parameters=parameters,
        log_prob=log_prob,
        log_masses=lambda parameters: log_prob(
            jnp.broadcast_to(levels, (*parameters.shape[:-1], 256)), parameters[..., None, :]
        ),
        show=lambda x, parameters: (x + 1.0) / 2.0,
    )
