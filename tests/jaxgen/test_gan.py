import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import gan_training, nets
from jaxgen.augmentations import diffaugment
from jaxgen.gan import gan
from jaxgen.losses import adversarial
from jaxgen.nets import gan as gan_nets
from tests.jaxgen.optimizers import adam

SHAPE = (6, 5, 1)
KEY = jax.random.key(0)
EXAMPLE = {
    "image": jax.ShapeDtypeStruct(SHAPE, np.uint8),
    "label": jax.ShapeDtypeStruct((), np.int32),
}


def make_batch(count=24, seed=0):
    """Images of two kinds: bright above, or bright below."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (count, *SHAPE))
    image[::2, :3] += 180
    image[1::2, 3:] += 180
    return {
        "image": image.astype(np.uint8),
        "label": (np.arange(count) % 2).astype(np.int32),
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


def make_task(rate=2e-3, **kwargs):
    optimizer = lambda: adam(rate, b1=0.5, b2=0.9)
    arguments = {"latents": 4} | kwargs
    task = gan(
        nets.MLPDecoder((16,)),
        gan_nets.MLPDiscriminator((16,)),
        optimizer(),
        optimizer(),
        EXAMPLE,
        **arguments,
    )
    compiled = ("init", "train_step", "eval_step", "sample")
    return task._replace(**{name: jax.jit(getattr(task, name)) for name in compiled})


@functools.cache
def plain():
    """The plain task, compiled once for all tests that need no other."""
    return make_task()


@functools.cache
def conditional():
    """The same, told of two classes."""
    return make_task(classes=2)


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


EVERYTHING = {
    "classes": 2,
    "discriminator_steps": 2,
    "penalty": "r1",
    "penalty_weight": 0.3,
    "penalty_every": 2,
    "spectral_norm": True,
    "augmentations": (diffaugment.translation(0.2),),
}


def parts(task):
    """The setup and optimisers that a task is closed over, and a state."""
    setup, optimizers = task.train_step.__wrapped__.args
    return setup, optimizers, task.init(KEY, make_batch())


def test_a_players_update_leaves_the_other_as_it_is():
    setup, optimizers, state = parts(make_task(**EVERYTHING))
    batch = make_batch()
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
    state = gan_training.State(
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
        fake = setup.generate(moved, None, gan_training.noise(setup, batch, KEY))
        return gan_training.generator_loss(setup, state.params["discriminator"], fake, None)[
            "loss"
        ].mean()

    slope = (loss(-0.1) - loss(0.1)) / 0.2
    assert float(slope) == pytest.approx(float(optax.tree.norm(step, squared=True)), rel=1e-2)
    assert float(sums["loss"] / sums["generated"]) == pytest.approx(float(loss(0.0)), rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {},
        EVERYTHING,
        {"loss": adversarial.least_squares()},
        {"loss": adversarial.hinge(), "spectral_norm": True},
        {
            "loss": adversarial.wasserstein(),
            "penalty": "gradient",
            "penalty_weight": 10.0,
            "discriminator_steps": 2,
        },
    ],
)
def test_the_generator_learns_what_images_look_like(change):
    task, batch = make_task(**change), make_batch(24)
    state = task.init(KEY, batch)
    seeds = {"index": np.arange(64), "label": np.arange(64) % 2}
    mean = batch["image"].mean() / 255.0
    contrast = lambda images: np.abs(images[:, :3].mean((1, 2, 3)) - images[:, 3:].mean((1, 2, 3)))
    before = contrast(np.asarray(task.sample(state, seeds, KEY)))
    for number in range(300):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, number))
    images = np.asarray(task.sample(state, seeds, KEY))
    metrics = task.finish(jax.device_get(sums))
    assert all(np.isfinite(value) for name, value in metrics.items() if name != "penalty")
    # Real halves differ by 0.7 of full scale, those of a fresh generator hardly.
    assert before.mean() < 0.2
    assert contrast(images).mean() > 0.45
    assert abs(images.mean() - mean) < 0.15


def test_a_class_has_its_own_images():
    task, batch = conditional(), make_batch(24)
    state = task.init(KEY, batch)
    for number in range(300):
        state, _ = task.train_step(state, batch, jax.random.fold_in(KEY, number))
    label = np.arange(64) % 2
    images = task.sample(state, {"index": np.arange(64), "label": label}, KEY)
    above = images[:, :3].mean((1, 2, 3)) > images[:, 3:].mean((1, 2, 3))
    assert np.mean(above == (label == 0)) > 0.9


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
        jax.random.fold_in(KEY, gan_training.TURN),
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


def test_a_blind_discriminator_guesses():
    _, _, state = parts(plain())
    blind = jax.tree.map(jnp.zeros_like, state.params["discriminator"])
    batch = make_batch()
    state = state._replace(params=state.params | {"discriminator": blind})
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


def test_samples_depend_on_their_seed_and_class_and_strips_run_between_them():
    task, batch = conditional(), make_batch()
    state = task.init(KEY, batch)
    seeds = {"index": np.array([3, 9, 3, 3]), "label": np.array([0, 0, 0, 1])}
    images = np.asarray(task.sample(state, seeds, KEY))
    assert images.shape == (4, *SHAPE)
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images[0], images[2])
    assert np.abs(images[0] - images[1]).max() > 0
    assert np.abs(images[0] - images[3]).max() > 0
    strips = task.interpolate(state, seeds | {"end": np.array([9, 3, 9, 9])}, KEY)
    assert strips.shape == (4, 10, *SHAPE)
    np.testing.assert_allclose(strips[:2, 0], images[:2], atol=1e-4)
    np.testing.assert_allclose(strips[0, -1], images[1], atol=1e-4)


def test_figures_have_a_column_for_each_class():
    for classes, columns in ((0, 8), (2, 2)):
        task, batch = conditional() if classes else plain(), make_batch()
        state = jax.eval_shape(task.init, KEY, batch)
        figures = jax.eval_shape(task.figures, state, batch, KEY)
        assert figures["samples"].shape == (8, columns, *SHAPE)
        assert figures["interpolation"].shape == (8, 10, *SHAPE)


def test_a_class_id_out_of_range_never_trains_silently():
    task, batch = conditional(), make_batch(8)
    state = task.init(KEY, batch)
    for bad in (-1, 2, 255):
        wrong = batch | {"label": batch["label"].copy()}
        wrong["label"][3] = bad
        _, sums = task.train_step(state, wrong, KEY)
        assert np.isnan(sums["loss"])
    _, sums = task.train_step(state, batch, KEY)
    assert np.isfinite(sums["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": 0}, "latents must be at least 1, got 0"),
        ({"discriminator_steps": 0}, "discriminator_steps must be at least 1"),
        ({"penalty": "r2", "penalty_weight": 1.0}, "must be r1, gradient or empty; got 'r2'"),
        ({"penalty": "r1"}, "give both or none"),
        ({"penalty_weight": 1.0}, "give both or none"),
        ({"classes": -1}, "classes must be 0"),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_task(**change)
