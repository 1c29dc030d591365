"""Training of a generator against a discriminator, for `jaxgen.gan` and `jaxgen.translation`.

One training step holds `discriminator_steps` updates of the discriminator and one of the
generator, in one compiled program.
"""

import jax
import jax.numpy as jnp
import optax

from jaxgen.augmentations.diffaugment import augment
from jaxgen.batches import masked_sums
from jaxgen.gan_players import (
    AUGMENT,
    TURN,
    GANSetup,
    State,
    as_image,
    discriminator_losses,
    discriminator_weights,
    distance,
    ema_generator,
    generator_loss,
    noise,
    normalise,
    penalty,
)
from jaxgen.nets import spectral_norm


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
        slope, penalised = penalty(setup, critic, seen, batch["index"], rng, state.updates)
        value = jnp.mean(terms["discriminator_loss"] + setup.penalty_weight * slope)
        sums = masked_sums(terms, batch["mask"])
        if setup.penalty:
            sums |= {"penalty": jnp.sum(slope) / setup.penalty_every, "penalised": penalised}
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


def recover(state: State) -> State:
    """The state with the moving average, which varies less, in place of the generator."""
    return state._replace(params=state.params | {"generator": ema_generator(state)})


def _apply(optimizers, state, name, grads):
    """One update of the net of that name by its optimiser."""
    params = state.params[name]
    updates, opt_state = optimizers[name].update(grads, state.opt_state[name], params)
    return state._replace(
        params=state.params | {name: optax.apply_updates(params, updates)},
        opt_state=state.opt_state | {name: opt_state},
    )
