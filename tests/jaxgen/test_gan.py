import functools

import jax
import numpy as np
import pytest

from jaxgen import nets
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
    """The same, conditioned on two classes."""
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
    steps = change.get("discriminator_steps", 1)
    assert (sums["count"], sums["generated"]) == (24, 24 / steps)
    if change.get("penalty") == "gradient":
        assert sums["penalised"] == 24  # computed at every update, where nothing else is said
    assert bool(state.vectors) == change.get("spectral_norm", False)
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
    task, batch = conditional(), make_batch()
    state = task.init(KEY, batch)
    figures = jax.device_get(jax.jit(task.figures)(state, batch, KEY))
    seeds = {"index": np.arange(16), "label": np.arange(16) % 2}
    wanted = task.sample(state, seeds, KEY)
    np.testing.assert_allclose(figures["samples"], wanted.reshape(8, 2, *SHAPE), atol=1e-5)
    strips = figures["interpolation"]
    assert strips.shape == (8, 10, *SHAPE)
    np.testing.assert_allclose(strips[:, 0], wanted[:8], atol=1e-4)
    ends = task.sample(state, {"index": np.arange(8, 16), "label": seeds["label"][:8]}, KEY)
    np.testing.assert_allclose(strips[:, -1], ends, atol=1e-4)
    state = jax.eval_shape(plain().init, KEY, batch)
    figures = jax.eval_shape(plain().figures, state, batch, KEY)
    assert figures["samples"].shape == (8, 8, *SHAPE)
    assert figures["interpolation"].shape == (8, 10, *SHAPE)


def test_noise_has_64_numbers_where_nothing_else_is_said():
    nets_of = nets.MLPDecoder((16,)), gan_nets.MLPDiscriminator((16,)), adam(1.0), adam(1.0)
    shapes = jax.eval_shape(gan(*nets_of, EXAMPLE).init, KEY, make_batch())
    assert shapes.params["generator"]["Dense_0"]["kernel"].shape == (64, 16)


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
    make_task(latents=1)
    with pytest.raises(ValueError, match=message):
        make_task(**change)
