import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import gan_players, gan_training
from jaxgen.losses import adversarial
from jaxgen.nets import spectral_norm
from tests.jaxgen.test_gan import EVERYTHING, KEY, make_batch, make_task, plain, same


def parts(task):
    """The setup and optimisers that a task is closed over, and a state."""
    setup, optimizers = task.train_step.__wrapped__.args
    return setup, optimizers, task.init(KEY, make_batch())


def test_an_update_of_one_net_leaves_the_other_as_it_is():
    setup, optimizers, state = parts(make_task(**EVERYTHING))
    batch = make_batch()
    # The nets and the vectors of the power iteration begin with keys of their own.
    params = jax.jit(setup.init)(jax.random.fold_in(KEY, 0), batch)
    for one, other in zip(*map(jax.tree.leaves, (params, state.params)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    start = spectral_norm.init(jax.random.fold_in(KEY, 1), params["discriminator"])
    for name, vector in start.items():
        np.testing.assert_allclose(state.vectors[name], vector, atol=1e-6)
    after, _ = jax.jit(
        lambda s: gan_training.update_discriminator(setup, optimizers, s, batch, KEY)
    )(state)
    assert same(after.params["generator"], state.params["generator"])
    assert same(after.opt_state["generator"], state.opt_state["generator"])
    assert not same(after.params["discriminator"], state.params["discriminator"])
    assert not same(after.vectors, state.vectors)
    assert after.updates == state.updates + 1
    after, _ = jax.jit(lambda s: gan_training.update_generator(setup, optimizers, s, batch, KEY))(
        state
    )
    assert same(after.params["discriminator"], state.params["discriminator"])
    assert same(after.opt_state["discriminator"], state.opt_state["discriminator"])
    assert same((after.vectors, after.updates), (state.vectors, state.updates))
    assert not same(after.params["generator"], state.params["generator"])


def test_the_generator_follows_the_slope_of_its_own_loss():
    """A step of plain gradient descent against finite differences of the loss."""
    setup, _, state = parts(plain())
    batch, params = make_batch(), state.params["generator"]
    optimizers = dict.fromkeys(state.params, optax.sgd(1.0))
    state = gan_players.State(
        state.params,
        {name: optax.sgd(1.0).init(state.params[name]) for name in state.params},
        {},
        state.updates,
    )
    update = jax.jit(lambda s: gan_training.update_generator(setup, optimizers, s, batch, KEY))
    after, sums = update(state)
    step = jax.tree.map(jnp.subtract, params, after.params["generator"])  # the gradient

    @jax.jit
    def loss(scale):
        moved = jax.tree.map(lambda p, g: p - scale * g, params, step)
        fake = setup.generate(moved, None, gan_players.noise(setup, batch, KEY))
        return gan_players.generator_loss(setup, state.params["discriminator"], fake, None)[
            "loss"
        ].mean()

    slope = (loss(-0.1) - loss(0.1)) / 0.2
    assert float(slope) == pytest.approx(float(optax.tree.norm(step, squared=True)), rel=1e-2)
    assert float(sums["loss"] / sums["generated"]) == pytest.approx(float(loss(0.0)), rel=1e-5)


def test_several_discriminator_steps_each_take_their_own_rows():
    task, batch = make_task(discriminator_steps=3), make_batch(24)
    state = task.init(KEY, batch)
    after, sums = task.train_step(state, batch, KEY)
    assert (after.updates, sums["count"], sums["generated"]) == (3, 24, 8)
    setup, optimizers, by_hand = parts(task)
    update = jax.jit(
        lambda s, b: gan_training.update_discriminator(setup, optimizers, s, b, KEY)[0]
    )
    for number in range(3):
        rows = {key: leaf[number::3] for key, leaf in batch.items()}
        by_hand = update(by_hand, rows)
    rows, turn = (
        {key: leaf[::3] for key, leaf in batch.items()},
        jax.random.fold_in(KEY, gan_players.TURN),
    )
    by_hand, _ = gan_training.update_generator(setup, optimizers, by_hand, rows, turn)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(ValueError, match="discriminator_steps=3 does not divide a batch of 8"):
        task.train_step(state, {key: leaf[:8] for key, leaf in batch.items()}, KEY)


def test_a_lazy_penalty_is_the_same_on_average():
    """At the same parameters, an update with it weighs as much as `every` updates."""
    found = {}
    for every in (1, 4):
        task = make_task(0.0, penalty="r1", penalty_weight=0.5, penalty_every=every)
        state, batch, totals = task.init(KEY, make_batch()), make_batch(), []
        for number in range(4):
            state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, number))
            totals.append(jax.device_get(sums))
        assert [bool(t["penalised"]) for t in totals] == [True, every == 1, every == 1, every == 1]
        summed = {name: sum(t[name] for t in totals) for name in totals[0]}
        found[every] = task.finish(summed)["penalty"]
    assert found[1] > 0
    assert found[4] == pytest.approx(found[1], rel=1e-5)


def test_evaluation_sums_do_not_depend_on_how_examples_are_batched():
    task, batch = plain(), make_batch(24)
    state = task.init(KEY, batch)
    whole = task.eval_step(state, batch, KEY)
    padded = {key: np.concatenate([leaf[20:], leaf[:6]]) for key, leaf in batch.items()}
    padded["mask"] = np.arange(10) < 4
    first = {key: leaf[:20] for key, leaf in batch.items()}
    found = [task.eval_step(state, part, KEY) for part in (first, padded)]
    for name, value in whole.items():
        np.testing.assert_allclose(found[0][name] + found[1][name], value, rtol=1e-5, err_msg=name)
    metrics = task.finish(jax.device_get(whole))
    assert metrics["gap"] == pytest.approx(metrics["d_real"] - metrics["d_fake"])
    assert 0 <= metrics["d_accuracy"] <= 1


def test_a_constant_discriminator_guesses():
    _, _, state = parts(plain())
    zeros = jax.tree.map(jnp.zeros_like, state.params["discriminator"])
    batch = make_batch()
    state = state._replace(params=state.params | {"discriminator": zeros})
    metrics = gan_training.finish(jax.device_get(plain().eval_step(state, batch, KEY)))
    assert metrics["d_accuracy"] == 0.5
    assert metrics["discriminator_loss"] == pytest.approx(2 * np.log(2))
    assert metrics["loss"] == pytest.approx(np.log(2))


def test_samples_and_recovery_use_the_moving_average():
    task, batch = plain(), make_batch()
    state = task.init(KEY, batch)
    average = jax.tree.map(lambda leaf: 0.5 * leaf, state.params["generator"])
    opt_state = state.opt_state | {"generator": {"ema": average}}
    seeds = {"index": np.arange(5)}
    halved = state._replace(params=state.params | {"generator": average})
    kept = state._replace(opt_state=opt_state)
    np.testing.assert_array_equal(task.sample(kept, seeds, KEY), task.sample(halved, seeds, KEY))
    recovered = task.recover(kept)
    assert same(recovered.params["generator"], average)
    assert same(recovered.params["discriminator"], state.params["discriminator"])


def by_hand(**change):
    """A generator tanh(a z) and a discriminator b x + c x^2 of images of one pixel."""

    def generate(params, condition, z):
        return jnp.tanh(params["a"] * z).reshape(-1, 1, 1, 1)

    def discriminate(params, x, condition):
        return (params["b"] * x + params["c"] * x**2)[:, 0, 0, 0]

    setup = gan_players.GANSetup(
        init=lambda rng, batch: {
            "generator": {"a": jnp.float32(0.5)},
            "discriminator": {"b": jnp.float32(0.3), "c": jnp.float32(-0.2)},
        },
        condition=lambda batch: None,
        generate=generate,
        discriminate=discriminate,
        latents=1,
        loss=adversarial.least_squares(),
    )._replace(**change)
    batch = {
        "image": np.array([0, 100, 200, 255], np.uint8).reshape(4, 1, 1, 1),
        "index": np.arange(4, dtype=np.int32),
        "mask": np.ones(4, bool),
    }
    optimizers = dict.fromkeys(("generator", "discriminator"), optax.sgd(1.0))
    state = gan_training.init(setup, optimizers, KEY, batch)
    x = np.array([0, 100, 200, 255]) / 127.5 - 1
    z = np.asarray(gan_players.noise(setup, batch, KEY), np.float64)[:, 0]
    return setup, optimizers, state, batch, x, z


def logit(x, b=0.3, c=-0.2):
    return b * x + c * x**2


def slope(function, value, step=1e-4):
    return (function(value + step) - function(value - step)) / (2 * step)


@pytest.mark.parametrize(
    ("penalty", "every", "updates", "factor"),
    [("", 1, 0, 0), ("r1", 1, 1, 1), ("r1", 2, 1, 0), ("r1", 2, 2, 2), ("gradient", 1, 0, 1)],
)
def test_the_discriminator_descends_its_loss_and_penalty(penalty, every, updates, factor):
    weight = 0.7 if penalty else 0.0
    change = {"penalty": penalty, "penalty_weight": weight, "penalty_every": every}
    setup, optimizers, state, batch, x, z = by_hand(**change)
    state = state._replace(updates=jnp.int32(updates))
    fake = np.tanh(0.5 * z)
    key = jax.random.fold_in(KEY, gan_players.BETWEEN)
    u = np.array([float(jax.random.uniform(jax.random.fold_in(key, i))) for i in range(4)])

    def penalties(b, c):
        if penalty == "gradient":
            return (np.abs(b + 2 * c * (u * x + (1 - u) * fake)) - 1) ** 2
        return (b + 2 * c * x) ** 2

    def loss(b, c):
        values = (logit(x, b, c) - 1) ** 2 / 2 + logit(fake, b, c) ** 2 / 2
        return (values + factor * weight * penalties(b, c)).mean()

    update = jax.jit(lambda s: gan_training.update_discriminator(setup, optimizers, s, batch, KEY))
    after, sums = jax.device_get(update(state))
    found = after.params["discriminator"]
    assert found["b"] == pytest.approx(0.3 - slope(lambda b: loss(b, -0.2), 0.3), abs=1e-4)
    assert found["c"] == pytest.approx(-0.2 - slope(lambda c: loss(0.3, c), -0.2), abs=1e-4)
    assert after.updates == updates + 1
    assert sums["d_real"] == pytest.approx(logit(x).sum(), abs=1e-5)
    assert sums["d_fake"] == pytest.approx(logit(fake).sum(), abs=1e-5)
    assert sums["d_accuracy"] == (logit(x) > logit(fake)).sum()
    if penalty:
        rows = 4 * bool(factor)
        assert sums["penalised"] == rows
        assert sums["penalty"] == pytest.approx(bool(factor) * penalties(0.3, -0.2).sum(), rel=1e-4)
    else:
        assert "penalty" not in sums


@pytest.mark.parametrize("distance", [0.0, 1.5])
def test_the_generator_descends_its_loss_and_distance(distance):
    setup, optimizers, state, batch, x, z = by_hand(distance=distance)

    def loss(a):
        fake = np.tanh(a * z)
        return ((logit(fake) - 1) ** 2 / 2 + distance * np.abs(fake - x)).mean()

    update = jax.jit(lambda s: gan_training.update_generator(setup, optimizers, s, batch, KEY))
    after, sums = jax.device_get(update(state))
    assert after.params["generator"]["a"] == pytest.approx(0.5 - slope(loss, 0.5), abs=1e-4)
    assert sums["generated"] == 4
    assert "count" not in sums
    if distance:
        assert sums["distance"] == pytest.approx(np.abs(np.tanh(0.5 * z) - x).sum() / 2, rel=1e-5)


def test_a_step_updates_each_net_once_on_all_rows_where_nothing_else_is_said():
    setup, optimizers, state, batch, x, _ = by_hand()
    after, sums = gan_training.train_step(setup, optimizers, state, batch, KEY)
    assert (after.updates, after.vectors) == (1, {})
    assert (sums["count"], sums["generated"]) == (4, 4)
    assert "distance" not in sums
    np.testing.assert_allclose(sums["d_real"], logit(x).sum(), rtol=1e-5)
    penalised = setup._replace(penalty="r1", penalty_weight=0.1)
    state = state._replace(updates=jnp.int32(1))
    _, sums = gan_training.update_discriminator(penalised, optimizers, state, batch, KEY)
    assert sums["penalised"] == 4


def test_means_are_over_the_rows_that_were_computed():
    sums = {"count": 8.0, "generated": 2.0, "penalised": 4.0, "loss": 3.0, "distance": 5.0}
    sums |= {"penalty": 6.0, "d_real": 16.0, "d_fake": 4.0}
    found = gan_training.finish(sums)
    assert found == {
        "loss": 1.5,
        "distance": 2.5,
        "penalty": 1.5,
        "d_real": 2.0,
        "d_fake": 0.5,
        "gap": 1.5,
    }
    assert np.isnan(gan_training.finish(sums | {"penalised": 0.0})["penalty"])
