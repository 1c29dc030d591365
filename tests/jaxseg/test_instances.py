import jax
import numpy as np
import pytest

from jaxseg import instance_targets
from jaxseg import instances as module
from jaxseg.nets.unet import UNet
from tests.jaxseg.optimizers import adam

SIDE = 16
KEY = jax.random.key(0)
EXAMPLE = {
    "image": jax.ShapeDtypeStruct((SIDE, SIDE, 1), np.uint8),
    "instances": jax.ShapeDtypeStruct((SIDE, SIDE, 1), np.int32),
}
NET = UNet(widths=(8, 16), norm="group", groups=2, convolutions=1)


def make_batch(count=4, **arrays):
    """Two boxes side by side, which touch along a column that differs."""
    numbers = np.zeros((count, SIDE, SIDE, 1), np.int32)
    for row in range(count):
        numbers[row, 3:12, 1 : 6 + row], numbers[row, 3:12, 6 + row : 14] = 5, 9
    image = np.where(numbers > 0, 150, 40) + 40 * (numbers == 9)
    return {
        "image": image.astype(np.uint8),
        "instances": numbers,
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    } | arrays


def make_task(net=NET, **options):
    return module.instances(net, adam(1e-2), EXAMPLE, **options)


@pytest.fixture(scope="module")
def trained():
    """A compiled task, its state after 120 steps, and the metrics before and after."""
    task, batch = make_task(), make_batch()
    names = ("init", "train_step", "eval_step", "predict", "figures")
    task = task._replace(**{name: jax.jit(getattr(task, name)) for name in names})
    state = task.init(KEY, batch)
    before = task.finish(jax.device_get(task.eval_step(state, batch, KEY)))
    for number in range(120):
        state, _ = task.train_step(state, batch, jax.random.fold_in(KEY, number))
    return task, state, before, task.finish(jax.device_get(task.eval_step(state, batch, KEY)))


def test_training_lowers_the_loss_and_divides_objects_that_touch(trained):
    _, _, before, after = trained
    assert after["loss"] < 0.2 * before["loss"]
    assert after["ap50"] == 1.0
    assert after["pq"] > 0.8


def test_sums_do_not_depend_on_how_the_batch_is_cut_or_padded(trained):
    task, state, _, _ = trained
    whole = task.eval_step(state, make_batch(), KEY)
    halves = [make_batch(mask=np.arange(4) // 2 == half) for half in (0, 1)]
    parts = [task.eval_step(state, half, KEY) for half in halves]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-5), whole, *parts)


def test_sums_do_not_depend_on_the_number_of_devices(trained):
    task, state, _, _ = trained
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = jax.device_put(make_batch(), rows)
    copies = jax.device_put(state, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    found, one = task.eval_step(copies, spread, KEY), task.eval_step(state, make_batch(), KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, one)


def test_predictions_need_no_truth(trained):
    task, state, _, _ = trained
    batch = {key: leaf for key, leaf in make_batch().items() if key in ("image", "index")}
    maps = task.predict(state, batch, KEY)
    assert {name: leaf.shape for name, leaf in maps.items()} == {
        "foreground": (4, SIDE, SIDE),
        "distance": (4, SIDE, SIDE),
    }
    inside = make_batch()["instances"][..., 0] > 0
    assert np.asarray(maps["foreground"])[inside].mean() > 0.9


def test_figures_are_image_true_and_predicted_objects(trained):
    task, state, _, _ = trained
    batch = make_batch()
    shown = jax.device_get(task.figures(state, batch, KEY))
    np.testing.assert_array_equal(shown["predictions/image"], batch["image"].repeat(3, -1))
    true, guess = (shown[f"predictions/{kind} objects"] for kind in ("true", "predicted"))
    np.testing.assert_array_equal(true, batch["instances"])
    assert (true.dtype, guess.dtype, guess.shape) == (np.float32, np.float32, true.shape)
    assert [len(np.unique(numbers)) for numbers in guess] == [3] * 4  # background and two objects


def test_an_evaluation_gives_the_ap50_of_each_example(trained):
    task, state, _, _ = trained
    numbers = make_batch()["instances"]
    numbers[1, numbers[1] == 5] = 9  # the two are one object
    numbers[2] = 65535
    batch = make_batch(
        instances=numbers, index=np.array([5, 0, 2, 9], np.int32), mask=np.arange(4) < 3
    )
    table = np.asarray(task.eval_step(state, batch, KEY)["example_scores"]["ap50"])
    assert table[[5, 2, 9]].tolist() == [[1, 1], [0, 0], [0, 0]]  # right, all void, no example
    assert table[0, 0] in (0, 0.5)
    assert table[0, 1] == 1


@pytest.fixture(scope="module")
def pixel_loss():
    return jax.jit(module.pixel_loss)


def test_the_loss_is_0_where_the_maps_are_right(pixel_loss):
    numbers = make_batch()["instances"][..., 0]
    target = jax.device_get(jax.jit(instance_targets.targets)(numbers, np.ones(4, bool)))
    d = np.clip(target.distance, 1e-7, 1 - 1e-7)
    right = np.stack([40 * target.foreground - 20, np.log(d / (1 - d))], -1)
    assert np.max(pixel_loss(right, target, 1.0)) < 1e-5
    wrong = right + np.float32([0, 1])
    terms = np.asarray(pixel_loss(wrong, target, 1.0))
    np.testing.assert_allclose(pixel_loss(wrong, target, 3.0), 3 * terms, rtol=1e-3)
    # The divergence at every pixel, by its definition.
    logits = np.full((4, SIDE, SIDE, 2), 0.4, np.float32)
    logits[..., 0] = right[..., 0]
    p = 1 / (1 + np.exp(-0.4))
    expected = (d * np.log(d / p) + (1 - d) * np.log((1 - d) / (1 - p))).mean((1, 2))
    np.testing.assert_allclose(pixel_loss(logits, target, 1.0), expected, rtol=1e-4)


def test_void_pixels_do_not_train_and_weights_of_pixels_do(pixel_loss):
    batch, model = make_batch(), make_task().eval_step.args[0]
    logits = np.random.default_rng(0).normal(size=(4, SIDE, SIDE, 2)).astype(np.float32)
    loss = jax.jit(lambda batch: module.supervised_loss(model, (logits,), batch))
    void = batch | {"instances": np.full_like(batch["instances"], 65535)}
    assert not np.any(loss(void))
    wrong = batch | {"instances": batch["instances"] - 1}
    assert np.isnan(loss(wrong)).all()
    target = jax.device_get(
        jax.jit(instance_targets.targets)(batch["instances"][..., 0], batch["mask"])
    )
    weight = np.zeros((4, SIDE, SIDE, 1), np.float32)
    weight[:, :8] = 2.0
    upper = target._replace(valid=weight[..., 0] / 2)
    expected = pixel_loss(logits, upper, 1.0)
    np.testing.assert_allclose(loss(batch | {"weight": weight}), expected, rtol=1e-6)


def test_the_loss_averages_over_outputs(pixel_loss):
    net = UNet(widths=(4, 8, 8), groups=2, convolutions=1, deep_supervision=True)
    task, batch = make_task(net), make_batch()
    _, sums = jax.eval_shape(task.train_step, jax.eval_shape(task.init, KEY, batch), batch, KEY)
    assert sums.keys() == {"loss", "count"}
    assert task.finish({"loss": np.array(6.0), "count": np.array(4.0)}) == {"loss": 1.5}
    model, fine = task.eval_step.args[0], np.ones((4, SIDE, SIDE, 2), np.float32)
    loss = jax.jit(lambda *outputs: module.supervised_loss(model, outputs, batch))
    target = jax.jit(instance_targets.targets)(batch["instances"][..., 0], batch["mask"])
    target = jax.tree.map(lambda leaf: np.asarray(leaf)[:, ::2, ::2], target)
    coarse = pixel_loss(0 * fine[:, ::2, ::2], target, 1.0)
    both = loss(fine, 0 * fine[:, ::2, ::2])
    np.testing.assert_allclose(both, (loss(fine) + coarse / 2) / 1.5, rtol=1e-6)


def test_flips_average_over_the_mirror_image(trained):
    plain, state, _, _ = trained
    batch = make_batch()
    mirror = batch | {"image": batch["image"][:, :, ::-1]}
    found = jax.jit(make_task(flips=True).predict)(state, batch, KEY)
    for name, leaf in found.items():
        once, other = (np.asarray(plain.predict(state, b, KEY)[name]) for b in (batch, mirror))
        np.testing.assert_allclose(leaf, (once + other[:, :, ::-1]) / 2, rtol=1e-5)


def test_options_that_cannot_work_are_refused():
    for options, message in (
        ({"seed": 0.0}, "seed must be between"),
        ({"reach": 0}, "reach=0 >= 1"),
        ({"distance_weight": -1.0}, "distance_weight=-1.0 >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_task(**options)
    with pytest.raises(ValueError, match=r"instances`, integer \[H, W, 1\]"):
        module.instances(NET, adam(1e-2), {"image": EXAMPLE["image"]})
