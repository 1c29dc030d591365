import jax
import numpy as np
import pytest

from jaxseg import multilabel as module
from jaxseg.nets.unet import UNet
from tests.jaxseg.optimizers import adam

K, SIDE = 2, 16
KEY = jax.random.key(0)
NET = UNet(widths=(4, 8), norm="group", groups=2, convolutions=1)


def example(classes=K):
    return {
        "image": jax.ShapeDtypeStruct((SIDE, SIDE, 3), np.uint8),
        "labels": jax.ShapeDtypeStruct((SIDE, SIDE, classes), np.uint8),
    }


def make_batch(count=4, classes=K, **arrays):
    """Two channels, each of which shows a class of its own; a band of the first is void."""
    coarse = np.random.default_rng(0).integers(0, 2, (count, SIDE // 4, SIDE // 4, 2))
    labels = coarse.repeat(4, 1).repeat(4, 2)
    image = np.concatenate([200 * labels, np.full((count, SIDE, SIDE, 1), 90)], -1)
    labels[:, 5, :, 0] = 255
    return {
        "image": image.astype(np.uint8),
        "labels": labels[..., :classes].astype(np.uint8),
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    } | arrays


def make_task(net=NET, classes=K, **options):
    return module.multilabel(net, adam(1e-2), example(classes), classes=classes, **options)


@pytest.fixture(scope="module")
def trained():
    """A compiled task, its state after 50 steps, and the metrics before and after."""
    task, batch = make_task(names=("red", "green")), make_batch()
    names = ("init", "train_step", "eval_step", "predict", "figures")
    task = task._replace(**{name: jax.jit(getattr(task, name)) for name in names})
    state = task.init(KEY, batch)
    before = task.finish(jax.device_get(task.eval_step(state, batch, KEY)))
    for number in range(50):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, number))
    return task, state, before, task.finish(jax.device_get(sums))


def test_training_lowers_the_loss_and_finds_classes_that_overlap(trained):
    task, state, before, after = trained
    assert after["loss"] < 0.3 * before["loss"]
    assert min(after["dice/red"], after["dice/green"]) > 0.9
    found = task.finish(jax.device_get(task.eval_step(state, make_batch(), KEY)))
    assert found["average_precision"] > 0.95
    assert found.keys() - {"average_precision"} == after.keys()


def test_sums_do_not_depend_on_how_the_batch_is_cut_or_padded(trained):
    task, state, _, _ = trained
    whole = task.eval_step(state, make_batch(), KEY)
    halves = [make_batch(mask=np.arange(4) // 2 == half) for half in (0, 1)]
    parts = [task.eval_step(state, half, KEY) for half in halves]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-5), whole, *parts)


def test_predictions_need_no_labels_and_are_independent(trained):
    task, state, _, _ = trained
    batch = {key: leaf for key, leaf in make_batch().items() if key in ("image", "index")}
    presence = np.asarray(task.predict(state, batch, KEY)["presence"])
    assert presence.shape == (4, SIDE, SIDE, K)
    labels = make_batch()["labels"]
    assert presence[(labels == 1).all(-1)].sum(-1).mean() > 1.5  # both at once


def test_figures_are_image_truth_and_prediction_of_each_class(trained):
    task, state, _, _ = trained
    batch = make_batch()
    shown = jax.device_get(task.figures(state, batch, KEY))
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in shown.items()} == {
        "predictions/image": ((4, SIDE, SIDE, 3), np.uint8),
        "predictions/true classes": ((4, K, SIDE, SIDE, 1), np.uint8),
        "predictions/predicted classes": ((4, K, SIDE, SIDE, 1), np.uint8),
    }
    by_class = lambda maps: np.moveaxis(np.asarray(maps), -1, 1)[..., None]
    labels = by_class(batch["labels"])
    wanted = np.where(labels == 255, 2, labels)
    np.testing.assert_array_equal(shown["predictions/true classes"], wanted)
    guess = by_class(task.predict(state, batch, KEY)["presence"]) >= 0.5
    np.testing.assert_array_equal(shown["predictions/predicted classes"], guess)


def test_an_evaluation_gives_the_mean_iou_of_each_example(trained):
    task, state, _, _ = trained
    batch = make_batch(index=np.array([5, 0, 2, 9], np.int32), mask=np.arange(4) < 3)
    table = np.asarray(task.eval_step(state, batch, KEY)["example_scores"]["mean_iou"])
    assert np.flatnonzero(table[:, 1]).tolist() == [0, 2, 5]
    alone = task.eval_step(state, batch | {"mask": np.arange(4) == 1}, KEY)
    assert table[0, 0] == pytest.approx(task.finish(jax.device_get(alone))["mean_iou"], abs=1e-6)


def test_one_class_is_binary_with_one_logit():
    task, batch = make_task(classes=1), make_batch(classes=1)
    state = jax.jit(task.init)(KEY, batch)
    assert state.params["head0"]["kernel"].shape[-1] == 1
    found = task.finish(jax.device_get(jax.jit(task.eval_step)(state, batch, KEY)))
    assert found["mean_dice"] == found["micro_dice"] == found["dice/0"]


def test_flips_average_over_the_mirror_image(trained):
    plain, state, _, _ = trained
    batch = make_batch()
    mirror = batch | {"image": batch["image"][:, :, ::-1]}
    once, other = (np.asarray(plain.predict(state, b, KEY)["presence"]) for b in (batch, mirror))
    found = jax.jit(make_task(flips=True).predict)(state, batch, KEY)["presence"]
    np.testing.assert_allclose(found, (once + other[:, :, ::-1]) / 2, rtol=1e-5)


def test_the_loss_averages_over_outputs_and_takes_weights_of_pixels():
    net = UNet(widths=(4, 8, 8), groups=2, convolutions=1, deep_supervision=True)
    task, batch = make_task(net), make_batch()
    model = task.eval_step.args[0]
    ones, zeros = np.ones((4, SIDE, SIDE, K), np.float32), np.zeros((4, 8, 8, K), np.float32)
    loss = jax.jit(lambda batch: module.supervised_loss(model, (ones, zeros), batch))
    fine = module.supervised_loss(model, (ones,), batch)
    coarse = model.loss(zeros, module.truth(model, batch, 2))
    np.testing.assert_allclose(loss(batch), (fine + coarse / 2) / 1.5, rtol=1e-6)
    state, _ = jax.eval_shape(task.train_step, jax.eval_shape(task.init, KEY, batch), batch, KEY)
    assert "head1" in state.params
    weight = np.zeros((4, SIDE, SIDE, 1), np.float32)
    assert not np.any(loss(batch | {"weight": weight}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes=0 >= 1"),
        ({"ignore": 1}, "ignore=1 other"),
        ({"names": ("a",)}, "1 names for 2 classes"),
        ({"thresholds": (0.5,)}, "1 thresholds for 2 classes"),
        ({"thresholds": (0.5, 1.0)}, "between 0 and 1"),
        ({"classes": 3}, r"labels` uint8 \[H, W, 3\]"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        module.multilabel(NET, adam(1e-2), example(), **({"classes": K} | options))
