import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import gan_players, gan_training, translation
from jaxgen.nets.translation import PatchDiscriminator, UNetGenerator
from tests.jaxgen.optimizers import adam

SHAPE = (9, 7, 3)
KEY = jax.random.key(0)
EXAMPLE = {
    "image": jax.ShapeDtypeStruct(SHAPE, np.uint8),
    "segmentation": jax.ShapeDtypeStruct((9, 7, 1), np.uint8),
}


def make_batch(count=12, seed=0):
    """Class 0 is dark, 1 red, 2 green; some pixels have no class."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, (count, 3, 3)).repeat(3, 1).repeat(3, 2)[:, :, :7]
    colours = np.array([[20, 20, 20], [220, 30, 30], [30, 200, 30]])
    image = colours[ids] + rng.integers(-15, 15, (count, *SHAPE))
    ids = np.where(rng.random(ids.shape) < 0.05, 255, ids)
    return {
        "image": image.astype(np.uint8),
        "segmentation": ids.astype(np.uint8)[..., None],
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


@functools.cache
def make_task(**change):
    optimizer = lambda: adam(3e-3, b1=0.5)
    arguments = {"classes": 3, "distance": 20.0, "latents": 2} | change
    task = translation.translation(
        UNetGenerator((8,)),
        PatchDiscriminator((8,)),
        optimizer(),
        optimizer(),
        EXAMPLE,
        **arguments,
    )
    compiled = ("init", "train_step", "eval_step", "complete")
    return task._replace(**{name: jax.jit(getattr(task, name)) for name in compiled})


def of_image(**change):
    return make_task(given="image", classes=0, degrade=translation.upper_half(), **change)


def test_it_learns_to_colour_a_label_map():
    task, batch, fresh = make_task(), make_batch(), make_batch(seed=1)
    state = task.init(KEY, batch)
    for number in range(150):
        state, _ = task.train_step(state, batch, jax.random.fold_in(KEY, number))
    given = {key: fresh[key] for key in ("segmentation", "index")}
    drawn = np.asarray(task.complete(state, given, KEY))
    error = np.abs(drawn - fresh["image"] / 255.0)[fresh["segmentation"][..., 0] != 255]
    assert drawn.shape == (12, *SHAPE)
    assert error.mean() < 0.1  # a mean colour for all would be 0.25 off
    metrics = task.finish(jax.device_get(task.eval_step(state, fresh, KEY)))
    assert metrics["distance"] == pytest.approx(np.abs(drawn - fresh["image"] / 255).mean(), 0.1)


def test_distance_is_weighed_on_images_of_minus_one_to_one():
    """As published: lambda times the mean absolute error of images in [-1, 1]."""
    task, batch = make_task(), make_batch()
    setup, _ = task.train_step.__wrapped__.args
    state = task.init(KEY, batch)
    optimizers = dict.fromkeys(state.params, optax.sgd(1.0))
    blank = {name: optax.sgd(1.0).init(params) for name, params in state.params.items()}
    state = state._replace(opt_state=blank)

    @functools.partial(jax.jit, static_argnums=1)
    def gradients(state, weight):
        played = setup._replace(distance=weight)
        after, _ = gan_training.update_generator(played, optimizers, state, batch, KEY)
        return jax.tree.map(jnp.subtract, state.params["generator"], after.params["generator"])

    def error(params):
        fake = setup.generate(params, setup.condition(batch), gan_players.noise(setup, batch, KEY))
        return 7.0 * jnp.abs(fake - (batch["image"] / 127.5 - 1.0)).mean()

    wanted = jax.jit(jax.grad(error))(state.params["generator"])
    found = jax.tree.map(jnp.subtract, gradients(state, 8.0), gradients(state, 1.0))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_images_depend_on_their_condition_and_seed():
    task, batch = make_task(), make_batch()
    state = task.init(KEY, batch)
    given = {key: batch[key][:3].copy() for key in ("segmentation", "index")}
    given["segmentation"][1] = given["segmentation"][0]
    given["segmentation"][2] = given["segmentation"][0]
    given["index"] = np.array([4, 4, 5], np.int32)
    images = np.asarray(task.complete(state, given, KEY))
    np.testing.assert_array_equal(images[0], images[1])
    assert np.abs(images[0] - images[2]).max() > 0
    given["segmentation"][1] = 0
    assert np.abs(np.asarray(task.complete(state, given, KEY))[1] - images[1]).max() > 0


def test_an_image_model_sees_only_what_is_left():
    task, batch = of_image(), make_batch()
    state = task.init(KEY, batch)
    given = {"image": batch["image"], "index": batch["index"]}
    hidden = given | {"image": given["image"].copy()}
    hidden["image"][:, 5:] = 255
    whole = task.complete(state, given, KEY)
    np.testing.assert_array_equal(task.complete(state, hidden, KEY), whole)
    hidden["image"][:, :5] = 255
    assert np.abs(task.complete(state, hidden, KEY) - whole).max() > 0


def test_degraded_images():
    image = jax.random.normal(KEY, (2, 7, 9, 3))
    half = translation.upper_half()(image)
    np.testing.assert_array_equal(half[:, :4], image[:, :4])
    assert (half[:, 4:] == -1).all()
    found = np.asarray(translation.coarse(4)(image))
    assert found.shape == image.shape
    np.testing.assert_allclose(found[0, 3, 2], image[0, :4, :4].mean((0, 1)), atol=1e-6)
    assert (found[:, :4, 4:8] == found[:, :1, 4:5]).all()
    np.testing.assert_array_equal(translation.coarse()(image), found)
    pairs = translation.coarse(2)(image)[:, :2, :2]
    np.testing.assert_allclose(pairs[:, 1, 1], image[:, :2, :2].mean((1, 2)), atol=1e-6)
    with pytest.raises(ValueError, match="factor must be at least 2"):
        translation.coarse(1)


def test_label_maps_become_one_hot():
    ids = np.array([[[0], [2], [255]]], np.uint8)[None]
    found = translation.one_hot_map(ids, 3, 255)[0, 0]
    np.testing.assert_array_equal(found, [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert np.isnan(translation.one_hot_map(ids, 2, 255)[0, 0, 1]).all()
    signed = np.array([[[-1], [1], [0]]])[None]
    found = translation.one_hot_map(signed, 3, 0)[0, 0]
    np.testing.assert_array_equal(found, [[np.nan] * 3, [0, 1, 0], [0, 0, 0]])


def test_a_class_id_out_of_range_never_trains_silently():
    task, batch = make_task(), make_batch()
    state = task.init(KEY, batch)
    wrong = batch | {"segmentation": batch["segmentation"].copy()}
    wrong["segmentation"][3, 2, 2] = 3
    _, sums = task.train_step(state, wrong, KEY)
    assert np.isnan(sums["loss"])
    _, sums = task.train_step(state, batch, KEY)
    assert np.isfinite(sums["loss"])


@pytest.mark.parametrize("given", ["segmentation", "image"])
def test_figures_show_condition_truth_and_two_draws(given):
    task = make_task() if given == "segmentation" else of_image()
    batch = make_batch()
    state = task.init(KEY, batch)
    figure = np.asarray(jax.jit(task.figures)(state, batch, KEY)["translations"])
    assert figure.shape == (4, 8, *SHAPE)
    assert 0 <= figure.min() <= figure.max() <= 1
    np.testing.assert_allclose(figure[1], batch["image"][:8] / 255.0, atol=1e-6)
    assert np.abs(figure[2] - figure[3]).max() > 0
    if given == "segmentation":
        ids, shown = batch["segmentation"][:8, ..., 0], figure[0]
        assert len({tuple(np.round(c, 3)) for c in shown.reshape(-1, 3)}) == 4
        assert (shown[ids == 255] == 0).all()
        # 0.5 + 0.4 cos of the hue of each channel: 0 for red; then 222.5 and 85 degrees on.
        colours = [(0.9, 0.3, 0.3), (0.205, 0.881, 0.414), (0.535, 0.137, 0.828)]
        for label, colour in enumerate(colours):
            assert np.abs(shown[ids == label] - colour).max() < 1e-3


def test_what_is_trained_where_nothing_else_is_said():
    """As published: 100 times the mean absolute error (Isola et al. 2017, section 6.2)."""
    net = UNetGenerator((8,)), PatchDiscriminator((8,)), adam(1.0), adam(1.0)
    task = translation.translation(*net, EXAMPLE, classes=3)
    setup, _ = task.train_step.args
    assert (setup.distance, setup.latents, setup.discriminator_steps) == (100, 0, 1)
    assert (setup.penalty_weight, setup.penalty_every, setup.spectral_norm) == (0, 1, False)
    batch = make_batch()
    figures = jax.eval_shape(task.figures, jax.eval_shape(task.init, KEY, batch), batch, KEY)
    assert figures["translations"].shape == (3, 8, *SHAPE)  # no noise: one draw


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": "image", "classes": 3, "degrade": abs}, "takes no classes"),
        ({"degrade": abs}, "and no degrade"),
        ({"given": "mask"}, "given must be segmentation or image, got 'mask'"),
        ({"given": "image"}, "needs `degrade`"),
        ({"classes": 1}, "needs classes >= 2"),
        ({"distance": -1.0}, "distance must be at least 0"),
        ({"latents": -1}, "latents must be at least 0"),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    make_task(classes=2, latents=0, distance=0.0)
    with pytest.raises(ValueError, match=message):
        make_task(**change)


def test_examples_without_label_maps_are_refused():
    arguments = (UNetGenerator((4,)), PatchDiscriminator((4,)), optax.sgd(1.0), optax.sgd(1.0))
    wrong = [jax.ShapeDtypeStruct((9, 6, 1), np.uint8), jax.ShapeDtypeStruct((9, 7, 1), np.float32)]
    for found in ({}, *({"segmentation": one} for one in wrong)):
        with pytest.raises(ValueError, match=r"needs integer `segmentation` \[9, 7, 1\]; got"):
            translation.translation(*arguments, {"image": EXAMPLE["image"]} | found, classes=3)
