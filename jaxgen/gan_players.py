"""The two players of a GAN: their nets and options, what they see, and their losses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.batches import ema_params, signed_range
from jaxgen.losses import adversarial
from jaxgen.nets import spectral_norm
from jaxgen.noise import normal, per_example

# Numbers that are folded into the key of a step, one for each use of it.
NOISE, AUGMENT, BETWEEN, TURN = range(4)


class State(NamedTuple):
    """The arrays that training changes.

    Attributes:
      params: {"generator": ..., "discriminator": ...}.
      opt_state: the states of both optimisers, under the same keys.
      vectors: of the power iteration on the discriminator's kernels; {} without
        spectral normalisation.
      updates: int32, the number of updates of the discriminator so far.
    """

    params: dict
    opt_state: dict
    vectors: dict
    updates: jax.Array


class GANSetup(NamedTuple):
    """The two nets as functions, their loss and how they are trained. Images are in [-1, 1].

    Attributes:
      init: (rng, batch) -> params.
      condition: batch -> the condition that both nets get with each row, or None.
      generate: (params of the generator, condition, z [B, latents]) -> images.
      discriminate: (params of the discriminator, images, condition) -> logits [B, ...].
      latents: length of the noise vector z.
      loss: see `jaxgen.losses.adversarial`.
      distance: weight of the mean |real - generated|, for conditions that belong to one
        image (Isola et al. 2017, equation 4); 0 for none.
      discriminator_steps: n, updates of the discriminator in a step, each on an n-th
        of the batch's rows; the generator's update takes the first of these parts.
      penalty: "", "r1" or "gradient", see `jaxgen.losses.adversarial`.
      penalty_weight: weight of the penalty; R1's published gamma is twice this.
      penalty_every: k; the penalty is computed at every k-th update, with k times the
        weight (lazy regularisation, Karras et al. 2020). It does not help convolutions
        on CPUs, where XLA runs them nine times slower inside a condition.
      spectral_norm: whether the discriminator's kernels are normalised.
      augmentations: functions (image, key) -> image, applied to the discriminator's inputs.
    """

    init: Callable
    condition: Callable
    generate: Callable
    discriminate: Callable
    latents: int
    loss: adversarial.Loss
    distance: float = 0.0
    discriminator_steps: int = 1
    penalty: str = ""
    penalty_weight: float = 0.0
    penalty_every: int = 1
    spectral_norm: bool = False
    augmentations: tuple = ()


def check(setup: GANSetup) -> None:
    """Checks the values of a setup.

    Args:
      setup: the setup.

    Raises:
      ValueError: names the argument, its value, and the values that are allowed.
    """
    least = {"latents": 0, "discriminator_steps": 1, "penalty_every": 1, "distance": 0}
    for name, value in least.items():
        if getattr(setup, name) < value:
            raise ValueError(f"{name} must be at least {value}, got {getattr(setup, name)}")
    if setup.penalty not in ("", "r1", "gradient"):
        raise ValueError(f"penalty must be r1, gradient or empty; got {setup.penalty!r}")
    weight = setup.penalty_weight
    if bool(setup.penalty) != (weight > 0):
        raise ValueError(f"penalty={setup.penalty!r}, penalty_weight={weight}: give both or none")


def discriminator_losses(
    setup: GANSetup, weights: Any, real: jax.Array, fake: jax.Array, condition: Any
) -> dict:
    """The loss and the logits of the discriminator.

    Args:
      setup: the setup.
      weights: of the discriminator, see `discriminator_weights`.
      real: [B, H, W, C] in [-1, 1].
      fake: generated images, of the same shape.
      condition: of each row, or None.

    Returns:
      {name: [B]}: discriminator_loss; d_real and d_fake, mean logits; and d_accuracy, 1
      where the real image has the larger logit of a pair, 0 where the generated image
      has, 1/2 where they are equal. It means the same for every loss: 1/2 is guessing.
    """
    # One call on pairs: a row and its generated partner stay neighbours, so on one device.
    pairs = jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])
    twice = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), condition)
    logits = setup.discriminate(weights, pairs, twice)
    on_real, on_fake = logits[0::2], logits[1::2]
    d_real, d_fake = adversarial.per_image(on_real), adversarial.per_image(on_fake)
    larger = (d_real > d_fake).astype(jnp.float32)
    return {
        "discriminator_loss": adversarial.per_image(setup.loss.discriminator(on_real, on_fake)),
        "d_real": d_real,
        "d_fake": d_fake,
        "d_accuracy": jnp.where(d_real == d_fake, 0.5, larger),
    }


def generator_loss(setup: GANSetup, weights: Any, fake: jax.Array, condition: Any) -> dict:
    """The loss of the generator.

    Args:
      setup: the setup.
      weights: of the discriminator, see `discriminator_weights`.
      fake: generated images [B, H, W, C] in [-1, 1].
      condition: of each row, or None.

    Returns:
      {"loss": [B]}.
    """
    logits = setup.discriminate(weights, fake, condition)
    return {"loss": adversarial.per_image(setup.loss.generator(logits))}


def penalty(
    setup: GANSetup,
    critic: Callable,
    seen: list[jax.Array],
    index: jax.Array,
    rng: jax.Array,
    updates: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The penalty on the discriminator's slope.

    Args:
      setup: the setup.
      critic: images [B, H, W, C] -> logits [B, ...].
      seen: real and generated images, as the discriminator saw them.
      index: int32 [B], the example of each row.
      rng: key of the update.
      updates: number of updates so far.

    Returns:
      [B], where it is computed at every k-th update, k times as large there, else 0; and how
      many rows were computed.
    """
    rows = index.shape[0]
    if not setup.penalty:
        return jnp.zeros(rows), jnp.zeros(())

    def compute():
        if setup.penalty == "r1":
            return adversarial.r1(critic, seen[0])
        uniform = per_example(jax.random.uniform, jax.random.fold_in(rng, BETWEEN), index)
        return adversarial.gradient_penalty(critic, *seen, uniform)

    if setup.penalty_every == 1:
        return compute(), jnp.float32(rows)
    due = updates % setup.penalty_every == 0
    value = jax.lax.cond(due, compute, lambda: jnp.zeros(rows))
    return setup.penalty_every * value, jnp.where(due, jnp.float32(rows), 0.0)


def noise(setup: GANSetup, batch: dict, rng: jax.Array, key: str = "index") -> jax.Array:
    """Draws standard normal noise, each row from its own example or seed.

    Args:
      setup: the setup.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.
      key: the array of the batch, int32 [B], that numbers the rows.

    Returns:
      z [B, latents].
    """
    return normal(jax.random.fold_in(rng, NOISE), batch[key], (setup.latents,))


def normalise(batch: dict) -> jax.Array:
    """Scales `image` uint8 [B, H, W, C] of a batch to float32 in [-1, 1]."""
    return signed_range(batch["image"])


def as_image(x: jax.Array) -> jax.Array:
    """Scales images [...] from [-1, 1] to [0, 1]."""
    return (x + 1.0) / 2.0


def distance(fake: jax.Array, real: jax.Array) -> jax.Array:
    """Mean absolute error [B], in units of [0, 1], of images [B, H, W, C] in [-1, 1]."""
    return jnp.mean(jnp.abs(as_image(fake) - as_image(real)), axis=(1, 2, 3))


def discriminator_weights(setup: GANSetup, params: Any, vectors: dict) -> tuple[Any, dict]:
    """Applies spectral normalisation to the discriminator's parameters, if the setup says so.

    Args:
      setup: the setup.
      params: of the discriminator.
      vectors: of the power iteration, see `State`.

    Returns:
      The weights to compute with, and the vectors for the next update.
    """
    return spectral_norm.normalise(params, vectors) if setup.spectral_norm else (params, vectors)


def ema_generator(state: State) -> Any:
    """The moving average of the generator where its optimiser keeps one, else its parameters."""
    return ema_params(state.opt_state["generator"], state.params["generator"])
