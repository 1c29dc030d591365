"""Training of a generator against a discriminator, for `jaxgen.gan` and `jaxgen.translation`.

One training step holds `discriminator_steps` updates of the discriminator and one of the
generator, in one compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.augmentations.diffaugment import augment
from jaxgen.batches import ema_params, masked_sums
from jaxgen.losses import adversarial
from jaxgen.nets import spectral_norm
from jaxgen.noise import per_example

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


def init(setup: GANSetup, optimizers: dict, rng: jax.Array, batch: dict) -> State:
    """Initialises both nets and their optimisers.

    Args:
      setup: the setup.
      optimizers: {"generator": optax transformation, "discriminator": another}.
      rng: key.
      batch: see `jaxgen.task.Task`.

    Returns:
      The state before the first step.
    """
    params = setup.init(jax.random.fold_in(rng, 0), batch)
    vectors = {}
    if setup.spectral_norm:
        vectors = spectral_norm.init(jax.random.fold_in(rng, 1), params["discriminator"])
    opt_state = {name: optimizers[name].init(params[name]) for name in params}
    return State(params, opt_state, vectors, jnp.zeros((), jnp.int32))


def train_step(
    setup: GANSetup, optimizers: dict, state: State, batch: dict, rng: jax.Array
) -> tuple[State, dict]:
    """Updates the discriminator `discriminator_steps` times, then the generator once.

    Args:
      setup: the setup.
      optimizers: {"generator": optax transformation, "discriminator": another}.
      state: see `State`.
      batch: B rows, see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      The new state; the sums of `discriminator_losses`, `generator_loss` and the penalty.

    Raises:
      ValueError: `discriminator_steps` does not divide B.
    """
    rows, steps = batch["index"].shape[0], setup.discriminator_steps
    if rows % steps:
        raise ValueError(f"discriminator_steps={steps} does not divide a batch of {rows} rows")

    def part(number):
        """Rows number, number + steps, ...: spread over all devices, as the batch is."""
        split = lambda leaf: leaf.reshape(rows // steps, steps, *leaf.shape[1:])[:, number]
        return jax.tree.map(split, batch)

    totals = {}
    # A loop in Python: inside lax.scan, XLA's convolutions are nine times slower on CPUs.
    for number in range(steps):
        state, sums = update_discriminator(setup, optimizers, state, part(number), rng)
        totals = {name: totals.get(name, 0.0) + value for name, value in sums.items()}
    turn = jax.random.fold_in(rng, TURN)
    state, sums = update_generator(setup, optimizers, state, part(0), turn)
    return state, totals | sums


def update_discriminator(
    setup: GANSetup, optimizers: dict, state: State, batch: dict, rng: jax.Array
) -> tuple[State, dict]:
    """Updates the discriminator once.

    Args:
      setup: the setup.
      optimizers: {"generator": optax transformation, "discriminator": another}.
      state: see `State`.
      batch: see `jaxgen.task.Task`.
      rng: key of the update.

    Returns:
      The new state; the sums of `discriminator_losses` and of the penalty.
    """
    real, condition = normalise(batch), setup.condition(batch)
    fake = setup.generate(state.params["generator"], condition, noise(setup, batch, rng))
    key = jax.random.fold_in(rng, AUGMENT)
    seen = [
        augment(setup.augmentations, images, jax.random.fold_in(key, number), batch["index"])
        for number, images in enumerate((real, fake))
    ]

    def loss(params):
        weights, vectors = discriminator_weights(setup, params, state.vectors)
        terms = discriminator_losses(setup, weights, *seen, condition)
        critic = lambda images: setup.discriminate(weights, images, condition)
        penalty, penalised = _penalty(setup, critic, seen, batch["index"], rng, state.updates)
        value = jnp.mean(terms["discriminator_loss"] + setup.penalty_weight * penalty)
        sums = masked_sums(terms, batch["mask"])
        if setup.penalty:
            sums |= {"penalty": jnp.sum(penalty) / setup.penalty_every, "penalised": penalised}
        return value, (sums, vectors)

    params = state.params["discriminator"]
    grads, (sums, vectors) = jax.grad(loss, has_aux=True)(params)
    state = _apply(optimizers, state, "discriminator", grads)
    return state._replace(vectors=vectors, updates=state.updates + 1), sums


def update_generator(
    setup: GANSetup, optimizers: dict, state: State, batch: dict, rng: jax.Array
) -> tuple[State, dict]:
    """Updates the generator once.

    Args:
      setup: the setup.
      optimizers: {"generator": optax transformation, "discriminator": another}.
      state: see `State`.
      batch: see `jaxgen.task.Task`.
      rng: key of the update; another than the discriminator's.

    Returns:
      The new state; the sums of `generator_loss` and of the distance.
    """
    condition = setup.condition(batch)
    z = noise(setup, batch, rng)
    key = jax.random.fold_in(rng, AUGMENT)
    weights, _ = discriminator_weights(setup, state.params["discriminator"], state.vectors)

    def loss(params):
        fake = setup.generate(params, condition, z)
        seen = augment(setup.augmentations, fake, key, batch["index"])
        terms = generator_loss(setup, weights, seen, condition)
        total = terms["loss"]
        if setup.distance:
            terms["distance"] = distance(fake, normalise(batch))
            # Twice: the weight is that of images in [-1, 1], the metric that of [0, 1].
            total = total + 2.0 * setup.distance * terms["distance"]
        sums = masked_sums(terms, batch["mask"])
        return jnp.mean(total), sums | {"generated": sums.pop("count")}

    grads, sums = jax.grad(loss, has_aux=True)(state.params["generator"])
    return _apply(optimizers, state, "generator", grads), sums


def evaluate(setup: GANSetup, state: State, batch: dict, rng: jax.Array) -> dict:
    """Sums the losses of both nets over a batch, with the moving average of the generator.

    Args:
      setup: the setup.
      state: see `State`.
      batch: see `jaxgen.task.Task`.
      rng: key.

    Returns:
      {name: sum} for `finish`.
    """
    real, condition = normalise(batch), setup.condition(batch)
    fake = setup.generate(ema_generator(state), condition, noise(setup, batch, rng))
    weights, _ = discriminator_weights(setup, state.params["discriminator"], state.vectors)
    terms = discriminator_losses(setup, weights, real, fake, condition)
    terms |= generator_loss(setup, weights, fake, condition)
    if setup.distance:
        terms["distance"] = distance(fake, real)
    sums = masked_sums(terms, batch["mask"])
    return sums | {"generated": sums["count"]}


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


def finish(sums: dict) -> dict[str, float]:
    """Divides sums over images by the number of images.

    Args:
      sums: of one or more batches, numpy float64.

    Returns:
      Means, and gap = d_real - d_fake: where it is much smaller on held-out images than
      in training, the discriminator has memorised its training images.
    """
    counts = {"loss": "generated", "distance": "generated", "penalty": "penalised"}
    means = {}
    for name in sums:
        if name not in ("count", "generated", "penalised"):
            count = sums[counts.get(name, "count")]
            means[name] = float(sums[name] / count) if count else float("nan")
    return means | {"gap": means["d_real"] - means["d_fake"]}


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
    draw = lambda rng: jax.random.normal(rng, (setup.latents,))
    return per_example(draw, jax.random.fold_in(rng, NOISE), batch[key])


def sample(setup: GANSetup, state: State, batch: dict, rng: jax.Array) -> jax.Array:
    """Generates images with the moving average of the generator.

    Args:
      setup: the setup.
      state: see `State`.
      batch: `index` [B] and the arrays that `setup.condition` takes.
      rng: key.

    Returns:
      Images [B, H, W, C] in [0, 1]. Image i depends on (rng, index[i]) and its condition.
    """
    params, z = ema_generator(state), noise(setup, batch, rng)
    return as_image(setup.generate(params, setup.condition(batch), z))


def normalise(batch: dict) -> jax.Array:
    """Scales `image` uint8 [B, H, W, C] of a batch to float32 in [-1, 1]."""
    return batch["image"].astype(jnp.float32) / 127.5 - 1.0


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


def recover(state: State) -> State:
    """The state with the moving average, which varies less, in place of the generator."""
    return state._replace(params=state.params | {"generator": ema_generator(state)})


def _penalty(setup, critic, seen, index, rng, updates):
    """The penalty of each row [B], and how many rows were computed.

    Where it is computed at every k-th update, it is k times as large there, else 0.
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


def _apply(optimizers, state, name, grads):
    """One update of the net of that name by its optimiser."""
    params = state.params[name]
    updates, opt_state = optimizers[name].update(grads, state.opt_state[name], params)
    return state._replace(
        params=state.params | {name: optax.apply_updates(params, updates)},
        opt_state=state.opt_state | {name: opt_state},
    )
