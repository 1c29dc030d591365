"""The game of a generator and a discriminator, whatever they draw and judge.

One training step holds `discriminator_steps` updates of the discriminator and one of
the generator, in one program. `jaxgen.gan` draws from noise, `jaxgen.translation`
from an image; both play this game.
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

# What a key of a step is for.
NOISE, POLICY, BETWEEN, TURN = range(4)


class State(NamedTuple):
    """What training changes.

    Attributes:
      params: {"generator": ..., "discriminator": ...}.
      opt_state: the same keys; an `optimizers` below is a dict of them too.
      vectors: of the power iteration on the discriminator's kernels; {} without
        spectral normalisation.
      updates: int32, updates of the discriminator so far.
    """

    params: dict
    opt_state: dict
    vectors: dict
    updates: jax.Array


class GANSetup(NamedTuple):
    """Who plays, and for what. Images are in [-1, 1] here.

    Attributes:
      init: (rng, batch) -> params.
      condition: batch -> what both players are told of each row, or None.
      generate: (params of the generator, condition, z [B, latents]) -> images.
      judge: (params of the discriminator, images, condition) -> logits [B, ...].
      latents: length of the noise vector z.
      loss: see `jaxgen.losses.adversarial`.
      distance: weight of the mean |real - generated|, for players that are told
        which image is meant (Isola et al. 2017, equation 4); 0 for none.
      discriminator_steps: n, updates of the discriminator in a step, each on an n-th
        of the batch's rows; the generator then plays on the first of these parts.
      penalty: "", "r1" or "gradient", see `jaxgen.losses.adversarial`.
      penalty_weight: what it is multiplied by; R1's published gamma is twice this.
      penalty_every: it is taken at every so many-th update, and weighs so many times
        more (lazy regularisation, Karras et al. 2020). Of no use to convolutions on
        CPUs, where XLA runs them nine times slower inside a condition.
      spectral_norm: whether the discriminator's kernels are normalised.
      policy: functions (image, key) -> image that the discriminator looks through.
    """

    init: Callable
    condition: Callable
    generate: Callable
    judge: Callable
    latents: int
    loss: adversarial.Loss
    distance: float = 0.0
    discriminator_steps: int = 1
    penalty: str = ""
    penalty_weight: float = 0.0
    penalty_every: int = 1
    spectral_norm: bool = False
    policy: tuple = ()


def check(game: GANSetup) -> None:
    """Refuses a game that cannot be played.

    Raises:
      ValueError: names the argument, its value, and what would do.
    """
    least = {"latents": 0, "discriminator_steps": 1, "penalty_every": 1, "distance": 0}
    for name, value in least.items():
        if getattr(game, name) < value:
            raise ValueError(f"{name} must be at least {value}, got {getattr(game, name)}")
    if game.penalty not in ("", "r1", "gradient"):
        raise ValueError(f"penalty must be r1, gradient or empty; got {game.penalty!r}")
    weight = game.penalty_weight
    if bool(game.penalty) != (weight > 0):
        raise ValueError(f"penalty={game.penalty!r}, penalty_weight={weight}: give both or none")


def init(game: GANSetup, optimizers: dict, rng: jax.Array, batch: dict) -> State:
    """A fresh state."""
    params = game.init(jax.random.fold_in(rng, 0), batch)
    vectors = {}
    if game.spectral_norm:
        vectors = spectral_norm.init(jax.random.fold_in(rng, 1), params["discriminator"])
    opt_state = {name: optimizers[name].init(params[name]) for name in params}
    return State(params, opt_state, vectors, jnp.zeros((), jnp.int32))


def train_step(
    game: GANSetup, optimizers: dict, state: State, batch: dict, rng: jax.Array
) -> tuple[State, dict]:
    """`discriminator_steps` updates of the discriminator, then one of the generator."""
    rows, steps = batch["index"].shape[0], game.discriminator_steps
    if rows % steps:
        raise ValueError(f"discriminator_steps={steps} does not divide a batch of {rows} rows")

    def rows_of(batch, number):
        split = lambda leaf: leaf.reshape(rows // steps, steps, *leaf.shape[1:])[:, number]
        return jax.tree.map(split, batch)

    totals = {}
    # A loop in Python: inside lax.scan, XLA's convolutions are nine times slower on CPUs.
    for number in range(steps):
        # Rows i, i + n, ...: each part is spread over all devices, as the batch is.
        part = rows_of(batch, number)
        state, sums = update_discriminator(game, optimizers, state, part, rng)
        totals = {name: totals.get(name, 0.0) + value for name, value in sums.items()}
    turn = jax.random.fold_in(rng, TURN)
    state, more = update_generator(game, optimizers, state, rows_of(batch, 0), turn)
    return state, totals | more


def update_discriminator(game, optimizers, state: State, batch: dict, rng) -> tuple[State, dict]:
    """One update of the discriminator, and the sums of `judgement` and of the penalty."""
    real, condition = observe(batch), game.condition(batch)
    fake = game.generate(state.params["generator"], condition, noise(game, batch, rng))
    seen = [
        augment(
            game.policy,
            images,
            jax.random.fold_in(jax.random.fold_in(rng, POLICY), number),
            batch["index"],
        )
        for number, images in enumerate((real, fake))
    ]

    def loss(params):
        weights, vectors = normalised(game, params, state.vectors)
        terms = judgement(game, weights, *seen, condition)
        penalty, penalised = _penalty(game, weights, seen, condition, batch, rng, state.updates)
        value = jnp.mean(terms["discriminator_loss"] + game.penalty_weight * penalty)
        sums = masked_sums(terms, batch["mask"])
        if game.penalty:
            sums |= {"penalty": jnp.sum(penalty) / game.penalty_every, "penalised": penalised}
        return value, (sums, vectors)

    params = state.params["discriminator"]
    grads, (sums, vectors) = jax.grad(loss, has_aux=True)(params)
    state = _updated(optimizers, state, "discriminator", grads)
    return state._replace(vectors=vectors, updates=state.updates + 1), sums


def update_generator(game, optimizers, state: State, batch: dict, rng) -> tuple[State, dict]:
    """One update of the generator, by noise of its own, and the sums of its loss."""
    condition = game.condition(batch)
    z = noise(game, batch, rng)
    key = jax.random.fold_in(rng, POLICY)
    weights, _ = normalised(game, state.params["discriminator"], state.vectors)

    def loss(params):
        fake = game.generate(params, condition, z)
        seen = augment(game.policy, fake, key, batch["index"])
        terms = verdict(game, weights, seen, condition)
        total = terms["loss"]
        if game.distance:
            terms["distance"] = distance(fake, observe(batch))
            total = total + 2.0 * game.distance * terms["distance"]  # of axes of length 2
        sums = masked_sums(terms, batch["mask"])
        return jnp.mean(total), sums | {"generated": sums.pop("count")}

    grads, sums = jax.grad(loss, has_aux=True)(state.params["generator"])
    return _updated(optimizers, state, "generator", grads), sums


def evaluate(game: GANSetup, state: State, batch: dict, rng: jax.Array) -> dict:
    """Sums of both players' terms on images that may be held out, by the averaged generator."""
    real, condition = observe(batch), game.condition(batch)
    fake = game.generate(best_generator(state), condition, noise(game, batch, rng))
    weights, _ = normalised(game, state.params["discriminator"], state.vectors)
    terms = judgement(game, weights, real, fake, condition)
    terms |= verdict(game, weights, fake, condition)
    if game.distance:
        terms["distance"] = distance(fake, real)
    sums = masked_sums(terms, batch["mask"])
    return sums | {"generated": sums["count"]}


def judgement(game: GANSetup, weights, real, fake, condition) -> dict:
    """What the discriminator makes of both, per row [B].

    `d_real` and `d_fake` are mean logits; `d_accuracy` is whether the real image has the
    larger one of a pair, which means the same for every loss: 1/2 is guessing.
    """
    # One call on pairs: a row and its generated partner stay neighbours, and so on one device.
    pairs = jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])
    twice = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), condition)
    logits = game.judge(weights, pairs, twice)
    on_real, on_fake = logits[0::2], logits[1::2]
    scores = adversarial.per_image(on_real), adversarial.per_image(on_fake)
    return {
        "discriminator_loss": adversarial.per_image(game.loss.discriminator(on_real, on_fake)),
        "d_real": scores[0],
        "d_fake": scores[1],
        "d_accuracy": jnp.where(scores[0] == scores[1], 0.5, scores[0] > scores[1]),
    }


def verdict(game: GANSetup, weights, fake, condition) -> dict:
    """The generator's own loss per row: {"loss": [B]}."""
    return {
        "loss": adversarial.per_image(game.loss.generator(game.judge(weights, fake, condition)))
    }


def finish(sums: dict) -> dict[str, float]:
    """Sums over images -> means.

    `gap` is d_real - d_fake: where it is much smaller on held-out images than in
    training, the discriminator knows its training images by heart.
    """
    counts = {"loss": "generated", "distance": "generated", "penalty": "penalised"}
    means = {}
    for name in sums:
        if name not in ("count", "generated", "penalised"):
            count = sums[counts.get(name, "count")]
            means[name] = float(sums[name] / count) if count else float("nan")
    return means | {"gap": means["d_real"] - means["d_fake"]}


def noise(game: GANSetup, batch: dict, rng: jax.Array, key: str = "index") -> jax.Array:
    """Standard normal z [B, latents], each row of its own example or seed."""
    draw = lambda rng: jax.random.normal(rng, (game.latents,))
    return per_example(draw, jax.random.fold_in(rng, NOISE), batch[key])


def drawn(game: GANSetup, state: State, batch: dict, rng: jax.Array) -> jax.Array:
    """Images [B, H, W, C] in [0, 1] by the averaged generator.

    Image i depends on (rng, index[i]) and on what the players are told of row i.
    """
    params, z = best_generator(state), noise(game, batch, rng)
    return as_image(game.generate(params, game.condition(batch), z))


def observe(batch: dict) -> jax.Array:
    """Images uint8 -> [-1, 1]."""
    return batch["image"].astype(jnp.float32) / 127.5 - 1.0


def as_image(x: jax.Array) -> jax.Array:
    """What a generator draws in [-1, 1] -> [0, 1]."""
    return (x + 1.0) / 2.0


def distance(fake: jax.Array, real: jax.Array) -> jax.Array:
    """Mean absolute error [B] on the axis of [0, 1]."""
    return jnp.mean(jnp.abs(as_image(fake) - as_image(real)), axis=(1, 2, 3))


def normalised(game: GANSetup, params, vectors: dict) -> tuple[Any, dict]:
    """The discriminator's weights as they are applied, and the vectors to go on with."""
    return spectral_norm.normalise(params, vectors) if game.spectral_norm else (params, vectors)


def best_generator(state: State):
    """The moving average of the generator where its optimiser keeps one, else itself."""
    return ema_params(state.opt_state["generator"], state.params["generator"])


def recover(state: State) -> State:
    """Goes on from the averaged generator: it wanders less than the one that is trained."""
    return state._replace(params=state.params | {"generator": best_generator(state)})


def _penalty(game, weights, seen, condition, batch, rng, updates):
    """The penalty per row, `penalty_every` times at every so many-th update, else 0."""
    rows = batch["index"].shape[0]
    if not game.penalty:
        return jnp.zeros(rows), jnp.zeros(())
    critic = lambda images: game.judge(weights, images, condition)

    def compute():
        if game.penalty == "r1":
            return adversarial.r1(critic, seen[0])
        uniform = per_example(jax.random.uniform, jax.random.fold_in(rng, BETWEEN), batch["index"])
        return adversarial.gradient_penalty(critic, *seen, uniform)

    if game.penalty_every == 1:
        return compute(), jnp.float32(rows)
    due = updates % game.penalty_every == 0
    value = jax.lax.cond(due, compute, lambda: jnp.zeros(rows))
    return game.penalty_every * value, jnp.where(due, jnp.float32(rows), 0.0)


def _updated(optimizers, state, player, grads):
    params = state.params[player]
    updates, opt_state = optimizers[player].update(grads, state.opt_state[player], params)
    return state._replace(
        params=state.params | {player: optax.apply_updates(params, updates)},
        opt_state=state.opt_state | {player: opt_state},
    )
