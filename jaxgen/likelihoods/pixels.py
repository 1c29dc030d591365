"""What an autoregressive model may say of the next value of an image, in nats.

Each is a `PixelLikelihood`: p(x_i | all x before i), where i counts rows, then columns,
then channels, and x_i is one of a few levels.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import likelihoods


class PixelLikelihood(NamedTuple):
    """One output model.

    Attributes:
      levels: float32 [L], the values that x may have, ascending.
      joint: whether the net sees whole earlier pixels alone, and `parameters` brings in
        the earlier channels of the same pixel; else the net sees these too.
      outputs: channels C -> what the net gives for each pixel.
      observe: (image uint8 [B, H, W, C], rng, index [B]) -> x float32, the same shape,
        the variable that is modelled, which is also what the net sees.
      parameters: (x [..., C], outputs [..., outputs(C)]) -> [..., C, K], the parameters
        of each value's conditional; those of channel c see x of channels before c.
      target: (image uint8 [...], x [...]) -> what training asks `log_prob` about in place
        of x: the mean of x given the image, where `log_prob` is linear in x; else x.
      log_prob: (x [...], parameters [..., K]) -> [...], nats of each value.
      log_masses: parameters [..., K] -> [..., L], nats of each level.
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
    """Values [...] drawn by inverting the distribution function at uniform [...] in [0, 1).

    NaN where the parameters are, as for a class that does not exist: no comparison with it
    is true, and it would be drawn as the first level.
    """
    up_to = jnp.cumsum(jnp.exp(likelihood.log_masses(parameters)), axis=-1)
    # The sum may fall short of one, and what is missing must not go to the last level.
    below = up_to[..., :-1] / up_to[..., -1:]
    drawn = jnp.asarray(likelihood.levels)[jnp.sum(uniform[..., None] >= below, axis=-1)]
    return jnp.where(jnp.isnan(up_to[..., -1]), jnp.nan, drawn)


def binary() -> PixelLikelihood:
    """Black or white, drawn anew at every step from the grey level; one logit a value.

    Dynamic binarisation, as `jaxgen.likelihoods.images.bernoulli`: the two compare. What is
    shown of a value is P(1), the grey level that the model means by it.
    """

    def parameters(x, outputs):
        return outputs.reshape(*x.shape, 1)

    def log_prob(x, parameters):
        logits = parameters[..., 0]
        return x * logits - likelihoods.softplus(logits)

    def log_masses(parameters):
        return jnp.concatenate(
            [-likelihoods.softplus(parameters), -likelihoods.softplus(-parameters)], axis=-1
        )

    return PixelLikelihood(
        levels=np.array([0.0, 1.0], np.float32),
        joint=False,
        outputs=lambda channels: channels,
        observe=likelihoods.bernoulli().observe,
        target=lambda image, x: image / 255.0,
        parameters=parameters,
        log_prob=log_prob,
        log_masses=log_masses,
        show=lambda x, parameters: jax.nn.sigmoid(parameters[..., 0]),
    )


def softmax(levels: int = 256) -> PixelLikelihood:
    """Grey levels as classes, with no notion of their order (van den Oord et al. 2016).

    Args:
      levels: their number; below 256 the image is rounded to so many even steps.

    Raises:
      ValueError: fewer than 2 or more than 256.
    """
    if not 2 <= levels <= 256:
        raise ValueError(f"levels must be 2 to 256, got {levels}")

    def observe(image, rng, index):
        del rng, index
        return jnp.floor(image * (levels / 256.0)) * (2.0 / (levels - 1)) - 1.0

    def log_prob(x, parameters):
        level = jnp.round((x + 1.0) * ((levels - 1) / 2.0)).astype(jnp.int32)
        # A product with a one-hot vector: on CPUs a gather of so many is slower.
        wanted = jax.nn.one_hot(level, levels)
        chosen = jnp.sum(parameters * wanted, axis=-1)
        return chosen - jax.nn.logsumexp(parameters, axis=-1)

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


def logistic_mixture(components: int = 5, min_log_scale: float = -7.0) -> PixelLikelihood:
    """256 grey levels by a mixture of discretised logistics (Salimans et al. 2017).

    PixelCNN++, sections 2.1 and 2.2: one mixture for all channels of a pixel, where the
    mean of a channel is moved in proportion to the channels before it. Here that joint
    distribution is written as conditionals: the weight of a component is multiplied by
    what it has said of the channels before.

    Args:
      components: M, of the mixture.
      min_log_scale: floor of the log scales.

    Raises:
      ValueError: no component.
    """
    if components < 1:
        raise ValueError(f"components must be at least 1, got {components}")
    levels = (np.arange(256, dtype=np.float64) / 127.5 - 1.0).astype(np.float32)

    def parameters(x, outputs):
        channels = x.shape[-1]
        ends = np.cumsum([1, channels, channels])
        blocks = outputs.reshape(*x.shape[:-1], -1, components)
        weights, means, scales, slopes = jnp.split(blocks, ends, axis=-2)
        logits, number, found = weights[..., 0, :], 0, []
        for channel in range(channels):
            mean = means[..., channel, :]
            for earlier in range(channel):
                mean = mean + jnp.tanh(slopes[..., number, :]) * x[..., earlier, None]
                number += 1
            scale = jnp.maximum(scales[..., channel, :], min_log_scale)
            found.append(jnp.concatenate([logits, mean, scale], axis=-1))
            said = likelihoods.logistic_log_mass(x[..., channel, None], mean, scale)
            logits = logits + said
        return jnp.stack(found, axis=-2)

    def log_prob(x, parameters):
        logits, means, scales = jnp.split(parameters, 3, axis=-1)
        masses = likelihoods.logistic_log_mass(x[..., None], means, scales)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits) + masses, axis=-1)

    return PixelLikelihood(
        levels=levels,
        joint=True,
        outputs=lambda channels: components * (1 + 2 * channels + channels * (channels - 1) // 2),
        observe=likelihoods.discretized_logistic().observe,
        target=lambda image, x: x,
        parameters=parameters,
        log_prob=log_prob,
        log_masses=lambda parameters: log_prob(
            jnp.broadcast_to(levels, (*parameters.shape[:-1], 256)), parameters[..., None, :]
        ),
        show=lambda x, parameters: (x + 1.0) / 2.0,
    )
