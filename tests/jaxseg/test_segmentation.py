from functools import partial

import jax
import numpy as np
import pytest

from jaxseg import segmentation as seg
from jaxseg.nets.unet import UNet
from tests.jaxseg.optimizers import adam

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
    return seg.segmentation(net, adam(1e-2), EXAMPLE, **({"classes": K} | options))


@pytest.fixture(scope="module")
def trained():
    """A compiled task, its states before and after 40 steps, and their metrics."""
    task, batch = make_task(), make_batch()
    task = task._replace(
        **{
            name: jax.jit(getattr(task, name))
            for name in ("init", "train_step", "eval_step", "score_step", "predict", "figures")
        }
    )
    start = state = task.init(KEY, batch)
    before = task.finish(jax.device_get(task.eval_step(state, batch, KEY)))
    for number in range(40):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, number))
    return task, start, state, before, task.finish(jax.device_get(sums))


def test_training_lowers_the_loss_and_finds_the_classes(trained):
    _, _, _, before, after = trained
    assert after["loss"] < 0.3 * before["loss"]
    assert after["mean_iou"] > 0.9


def test_the_state_keeps_the_class_frequencies_of_training(trained):
    _, start, state, _, _ = trained
    ids = make_batch()["segmentation"]
    frequencies = np.bincount(ids[ids < K], minlength=K) / (ids < K).sum()
    np.testing.assert_allclose(seg.prior(state), frequencies, rtol=1e-4)
    # Each of the 40 steps adds shares of all pixels; one row of 16 is ignored.
    np.testing.assert_allclose(state.class_frequencies.sum(), 40 * 15 / 16, rtol=1e-4)
    assert seg.prior(start).tolist() == pytest.approx([1 / K] * K)


def test_sums_do_not_depend_on_how_the_batch_is_cut_or_padded(trained):
    task, _, state, _, _ = trained
    whole = jax.device_get(task.score_step(state, make_batch(), KEY))
    parts = [
        jax.device_get(
            task.score_step(state, make_batch() | {"mask": np.arange(4) // 2 == half}, KEY)
        )
        for half in (0, 1)
    ]
    both = jax.tree.map(np.add, *parts)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), both, whole)
    metrics = task.finish(whole)
    assert {"boundary_f1", "hausdorff95", "calibration_error", "iou/0"} <= metrics.keys()


@pytest.mark.parametrize("bad", [K, 254])
def test_an_id_outside_the_contract_makes_loss_and_parameters_nan(trained, bad):
    task, _, state, _, _ = trained
    batch = make_batch()
    batch["segmentation"][2, 3, 4] = bad
    new, sums = task.train_step(state, batch, KEY)
    assert np.isnan(sums["loss"])
    assert np.isnan(jax.tree.leaves(new.params)[0]).any()
    assert np.isnan(task.finish(jax.device_get(task.eval_step(state, batch, KEY)))["mean_iou"])


def test_an_all_ignored_mask_neither_trains_nor_scores(trained):
    task, start, _, _, _ = trained
    batch = make_batch()
    batch["segmentation"][:] = 255
    new, sums = jax.device_get(task.train_step(start, batch, KEY))
    assert sums["loss"] == 0
    assert np.isnan(task.finish(sums)["mean_iou"])
    # A first step of Adam moves every parameter with a gradient by the learning rate.
    jax.tree.map(np.testing.assert_array_equal, new.params, jax.device_get(start.params))


def test_predictions_need_no_truth_and_tell_the_classes(trained):
    task, _, state, _, _ = trained
    batch = {key: make_batch()[key] for key in ("image", "index")}
    p = np.asarray(task.predict(state, batch, KEY)["probability"])
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    truth = make_batch()["segmentation"][..., 0]
    assert (p.argmax(-1) == truth)[truth < K].mean() > 0.95


def test_dropout_samples_disagree_where_the_net_is_unsure():
    net = UNet(widths=(4, 8), convolutions=1, dropout=0.5, norm="batch")
    task, batch = make_task(net, passes=8, flips=True), make_batch()
    found = jax.device_get(jax.jit(lambda: task.predict(task.init(KEY, batch), batch, KEY))())
    assert found["information"].min() >= 0
    assert found["information"].max() > 1e-3
    assert (found["information"] <= found["entropy"] + 1e-5).all()


def test_thorough_scores_are_those_of_predictions():
    task, batch = make_task(flips=True), make_batch()
    state = jax.jit(task.init)(KEY, batch)
    run = lambda function: jax.device_get(jax.jit(function)(state, batch, KEY))
    guess = np.argmax(run(task.predict)["probability"], -1)
    truth = batch["segmentation"][..., 0]
    cells = K * truth.astype(int) + guess
    expected = np.bincount(cells[truth < K], minlength=K * K).reshape(K, K)
    np.testing.assert_array_equal(run(task.score_step)["confusion"], expected)
    assert (run(task.eval_step)["confusion"] != expected).any()


def test_features_are_channels_of_the_net_s_input():
    def metres(example):
        return example["depth"]

    task = make_task(features=(metres,), depth_unit=0.001)
    batch = make_batch(depth=np.full((4, SIDE, SIDE, 1), 2500, np.int32))
    state = jax.eval_shape(task.init, KEY, batch)
    assert state.params["encoder0"]["Conv_0"]["kernel"].shape[2] == 4


class Depth:
    """A net whose logits are 0, and once and twice the fourth channel plus the column."""

    def init(self, keys, x, index, train):
        return {"params": {}}

    def apply(self, variables, x, index, train):
        column = np.arange(x.shape[2], dtype=np.float32)[None, None, :, None]
        return (x[..., 3:] + column) * np.arange(K, dtype=np.float32)[None, None, None]


def test_by_default_depth_is_in_metres_and_a_prediction_is_the_net_s_own():
    metres = lambda example: example["depth"]
    task, batch = make_task(Depth(), features=(metres,)), make_batch(9)
    batch["depth"] = np.full((9, SIDE, SIDE, 1), 0.25, np.float32)
    state = task.init(KEY, batch)
    found = jax.jit(task.predict)(state, batch, KEY)
    assert found.keys() == {"probability", "entropy"}
    powers = np.exp((0.25 + np.arange(SIDE))[:, None] * np.arange(K))
    expected = powers / powers.sum(-1, keepdims=True)
    np.testing.assert_allclose(found["probability"][0, 0], expected, atol=1e-5)
    assert "contours" not in jax.eval_shape(task.eval_step, state, batch, KEY)
    assert "contours" in jax.eval_shape(task.score_step, state, batch, KEY)
    shown = jax.eval_shape(task.figures, state, batch, KEY)["predictions/prediction"]
    assert shown.shape == (8, SIDE, SIDE, 1)  # of the first eight


def test_deep_supervision_trains_every_head_and_batch_statistics_are_part_of_the_state():
    net = UNet(widths=(4, 8, 8), convolutions=1, deep_supervision=True, norm="batch")
    task, batch = make_task(net), make_batch()
    state = jax.jit(task.init)(KEY, batch)
    new, _ = jax.jit(task.train_step)(state, batch, KEY)
    assert (
        np.asarray(new.params["head1"]["kernel"]) != np.asarray(state.params["head1"]["kernel"])
    ).any()
    assert jax.tree.structure(new) == jax.tree.structure(state)
    same = jax.tree.map(np.array_equal, jax.device_get(state.batch_stats), new.batch_stats)
    assert jax.tree.leaves(same)
    assert not any(jax.tree.leaves(same))


def test_figures_are_image_truth_and_prediction(trained):
    task, _, state, _, _ = trained
    batch = make_batch()
    shown = jax.device_get(task.figures(state, batch, KEY))
    assert {name: part.dtype for name, part in shown.items()} == dict.fromkeys(
        ("predictions/image", "predictions/truth", "predictions/prediction"), np.uint8
    )
    np.testing.assert_array_equal(shown["predictions/image"], batch["image"])
    truth = np.where(batch["segmentation"] == 255, K, batch["segmentation"])
    np.testing.assert_array_equal(shown["predictions/truth"], truth)
    guess = task.predict(state, batch, KEY)["probability"].argmax(-1)
    np.testing.assert_array_equal(shown["predictions/prediction"][..., 0], guess)


def test_ids_of_many_classes_are_shown_as_floats():
    task, batch = make_task(classes=300, ignore=999), make_batch()
    state = jax.eval_shape(task.init, KEY, batch)
    shown = jax.eval_shape(task.figures, state, batch, KEY)
    assert shown["predictions/truth"].dtype == np.float32


def test_an_evaluation_gives_the_mean_iou_of_each_example(trained):
    task, start, _, _, _ = trained
    batch = make_batch(index=np.array([5, 0, 2, 9], np.int32), mask=np.arange(4) < 3)
    table = np.asarray(task.eval_step(start, batch, KEY)["example_scores"]["mean_iou"])
    assert np.flatnonzero(table[:, 1]).tolist() == [0, 2, 5]
    for row, index in enumerate([5, 0, 2]):
        alone = batch | {"mask": np.arange(4) == row}
        wanted = task.finish(jax.device_get(task.eval_step(start, alone, KEY)))["mean_iou"]
        assert table[index, 0] == pytest.approx(wanted, abs=1e-6)


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
def test_options_out_of_range_are_refused(options, message):
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
def test_examples_without_an_array_are_refused(example):
    with pytest.raises(ValueError, match="needs examples with"):
        seg.segmentation(UNet(), adam(1e-2), example, K)
