from functools import partial

import jax
import numpy as np
import optax
import pytest

from jaxseg import classification as naming
from jaxseg import losses
from jaxseg import segmentation as seg
from jaxseg.nets.cnn import CNN
from jaxseg.nets.unet import UNet

K, SIDE = 3, 16
EXAMPLE = {
    "image": jax.ShapeDtypeStruct((SIDE, SIDE, 3), np.uint8),
    "segmentation": jax.ShapeDtypeStruct((SIDE, SIDE, 1), np.uint8),
}
KEY = jax.random.key(0)


def make_batch(count=4, seed=0, **arrays):
    """Images whose colours are their labels, with a band that is ignored."""
    ids = np.random.default_rng(seed).integers(0, K, (count, SIDE // 4, SIDE // 4))
    ids = ids.repeat(4, 1).repeat(4, 2)
    image = np.eye(K)[ids] * 200
    ids[:, 5] = 255
    return {
        "image": image.astype(np.uint8),
        "segmentation": ids.astype(np.uint8)[..., None],
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    } | arrays


def make_task(net=None, **options):
    net = net or UNet(widths=(4, 8), norm="group", groups=2, convolutions=1)
    return seg.segmentation(net, optax.adam(1e-2), EXAMPLE, **({"classes": K} | options))


@pytest.fixture(scope="module")
def trained():
    """A task and its state after 40 steps, with the metrics before and after."""
    task, batch = make_task(), make_batch()
    state = task.init(KEY, batch)
    before = task.finish(jax.device_get(task.eval_step(state, batch, KEY)))
    step = jax.jit(task.train_step)
    for number in range(40):
        state, sums = step(state, batch, jax.random.fold_in(KEY, number))
    return task, state, before, task.finish(jax.device_get(sums))


def test_training_lowers_the_loss_and_finds_the_classes(trained):
    _, _, before, after = trained
    assert after["loss"] < 0.3 * before["loss"]
    assert after["mean_iou"] > 0.9


def test_the_state_knows_the_class_shares_of_training(trained):
    _, state, _, _ = trained
    ids = make_batch()["segmentation"]
    shares = np.bincount(ids[ids < K], minlength=K) / (ids < K).sum()
    np.testing.assert_allclose(seg.prior(state), shares, rtol=1e-4)
    assert seg.prior(make_task().init(KEY, make_batch())).tolist() == pytest.approx([1 / K] * K)


def test_sums_do_not_depend_on_how_the_batch_is_cut_or_padded(trained):
    task, state, _, _ = trained
    step = jax.jit(task.score_step)
    whole = jax.device_get(step(state, make_batch(), KEY))
    parts = [
        jax.device_get(step(state, make_batch() | {"mask": np.arange(4) // 2 == half}, KEY))
        for half in (0, 1)
    ]
    both = jax.tree.map(np.add, *parts)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), both, whole)
    metrics = task.finish(whole)
    assert {"boundary_f1", "hausdorff95", "calibration_error", "iou/0"} <= metrics.keys()


@pytest.mark.parametrize("bad", [K, 254])
def test_an_id_outside_the_contract_makes_loss_and_parameters_nan(trained, bad):
    task, state, _, _ = trained
    batch = make_batch()
    batch["segmentation"][2, 3, 4] = bad
    new, sums = jax.jit(task.train_step)(state, batch, KEY)
    assert np.isnan(sums["loss"])
    assert np.isnan(jax.tree.leaves(new.params)[0]).any()
    assert np.isnan(task.finish(jax.device_get(task.eval_step(state, batch, KEY)))["mean_iou"])


def test_an_all_ignored_mask_neither_trains_nor_scores(trained):
    task, state, _, _ = trained
    batch = make_batch()
    batch["segmentation"][:] = 255
    sums = jax.device_get(task.eval_step(state, batch, KEY))
    assert sums["loss"] == 0
    metrics = task.finish(sums)
    assert np.isnan(metrics["mean_iou"])
    grads = jax.grad(lambda p: task.train_step(state._replace(params=p), batch, KEY)[1]["loss"])
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads(state.params)))


def test_predictions_need_no_truth_and_say_how_sure_they_are(trained):
    task, state, _, _ = trained
    batch = {key: make_batch()[key] for key in ("image", "index")}
    found = jax.device_get(jax.jit(task.predict)(state, batch, KEY))
    p = found["probability"]
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found["entropy"], -(p * np.log(p)).sum(-1), atol=1e-4)
    truth = make_batch()["segmentation"][..., 0]
    assert (p.argmax(-1) == truth)[truth < K].mean() > 0.95


def test_a_mirrored_image_gives_the_mirrored_prediction_when_flips_are_averaged(trained):
    _, state, _, _ = trained
    predict = jax.jit(make_task(flips=True).predict)
    batch = make_batch()
    mirrored = batch | {"image": batch["image"][:, :, ::-1]}
    one = predict(state, batch, KEY)["probability"]
    two = predict(state, mirrored, KEY)["probability"][:, :, ::-1]
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_dropout_samples_disagree_where_the_net_is_unsure():
    net = UNet(widths=(4, 8), convolutions=1, dropout=0.5, norm="batch")
    task, batch = make_task(net, passes=8), make_batch()
    state = task.init(KEY, batch)
    found = jax.device_get(jax.jit(task.predict)(state, batch, KEY))
    assert found["information"].min() >= 0
    assert found["information"].max() > 1e-3
    assert (found["information"] <= found["entropy"] + 1e-5).all()
    calm = jax.device_get(jax.jit(make_task(net).predict)(state, batch, KEY))
    assert "information" not in calm


def test_cues_are_seen_and_depth_has_a_unit():
    def metres(example):
        return example["depth"]

    task = make_task(features=(metres,), depth_unit=0.001)
    batch = make_batch(depth=np.full((4, SIDE, SIDE, 1), 2500, np.int32))
    state = task.init(KEY, batch)
    kernel = state.params["encoder0"]["Conv_0"]["kernel"]
    assert kernel.shape[2] == 4
    model = seg.Model(None, K, 255, (metres,), 0.001, losses.cross_entropy(), (), False, 0)
    x = seg.observe(model, batch)
    np.testing.assert_allclose(x[..., 3], 2.5)
    np.testing.assert_allclose(x[..., :3], batch["image"] / 127.5 - 1, atol=1e-6)


def test_deep_supervision_counts_every_depth():
    net = UNet(widths=(4, 8, 8), convolutions=1, deep_supervision=True)
    task, batch = make_task(net), make_batch()
    state = task.init(KEY, batch)
    new, _ = jax.jit(task.train_step)(state, batch, KEY)
    head = lambda s: np.asarray(s.params["head1"]["kernel"])
    assert (head(new) != head(state)).any()


def test_batch_statistics_are_part_of_the_state():
    task, batch = make_task(UNet(widths=(4, 8), norm="batch", convolutions=1)), make_batch()
    state = task.init(KEY, batch)
    new, _ = jax.jit(task.train_step)(state, batch, KEY)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    changed = jax.tree.map(lambda a, b: (a != b).any(), state.batch_stats, new.batch_stats)
    assert all(jax.tree.leaves(changed))


def test_figures_show_image_truth_prediction_and_errors(trained):
    task, state, _, _ = trained
    picture = np.asarray(task.figures(state, make_batch(), KEY)["predictions"])
    assert picture.shape == (4, 4, SIDE, SIDE, 3)
    np.testing.assert_array_equal(picture[:, 0], make_batch()["image"])
    assert (picture[:, 3, 5] == 128).all()  # the ignored band
    padded = make_batch(mask=np.arange(4) < 3)
    shown = np.asarray(task.figures(state, padded, KEY)["predictions"])
    np.testing.assert_array_equal(shown[:3], picture[:3])
    assert shown.dtype == np.uint8
    assert not shown[3].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "at least 2"),
        ({"ignore": 2}, "ignore=2 is one of the 3 classes"),
        ({"names": ("a", "b")}, "2 names for 3 classes"),
        ({"passes": -1}, "passes"),
        ({"passes": 2}, "needs a net with dropout"),
    ],
)
def test_arguments_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(**options)


@pytest.mark.parametrize(
    "example",
    [
        {},
        {"image": EXAMPLE["image"]},
        EXAMPLE | {"segmentation": jax.ShapeDtypeStruct((8, SIDE, 1), np.uint8)},
        EXAMPLE | {"image": jax.ShapeDtypeStruct((SIDE, SIDE, 3), np.float32)},
    ],
)
def test_examples_without_what_is_needed(example):
    with pytest.raises(ValueError, match="needs examples with"):
        seg.segmentation(UNet(), optax.adam(1e-2), example, K)


def test_the_founding_net_learns_to_name_images():
    example = {"image": EXAMPLE["image"], "label": jax.ShapeDtypeStruct((), np.int32)}
    net = CNN(widths=(4, 4), hidden=8)
    task = naming.classification(net, optax.adam(1e-2), example, K)
    label = np.arange(12) % K
    image = np.broadcast_to(np.eye(K)[label][:, None, None] * 200, (12, SIDE, SIDE, 3))
    batch = {
        "image": image.astype(np.uint8),
        "label": label,
        "index": np.arange(12),
        "mask": np.arange(12) < 9,
    }
    state, step = task.init(KEY, batch), jax.jit(task.train_step)
    for number in range(60):
        state, sums = step(state, batch, jax.random.fold_in(KEY, number))
    metrics = task.finish(jax.device_get(task.eval_step(state, batch, KEY)))
    assert metrics["accuracy"] == 1.0
    assert sums["count"] == 9
    assert task.figures(state, batch, KEY)["predictions"].shape == (12, SIDE + 4, SIDE + 4, 3)
    wrong = batch | {"label": np.where(np.arange(12) == 1, K, label)}
    assert np.isnan(task.eval_step(state, wrong, KEY)["loss"])
