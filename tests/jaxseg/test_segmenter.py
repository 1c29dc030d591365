import jax
import numpy as np
import pytest

from jaxseg import losses, segmenter

K, SIDE = 3, 16


def model(**options):
    defaults = {
        "net": None,
        "classes": K,
        "ignore": 255,
        "features": (),
        "depth_unit": 1.0,
        "loss": losses.cross_entropy(),
        "names": (),
        "flips": False,
        "passes": 0,
    }
    return segmenter.Model(**(defaults | options))


def make_batch():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, K, (4, SIDE, SIDE, 1)).astype(np.uint8)
    ids[:, 5] = 255
    return {
        "image": rng.integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8),
        "segmentation": ids,
        "depth": np.full((4, SIDE, SIDE, 1), 2500, np.int32),
        "mask": np.array([True, True, True, False]),
    }


def test_the_net_sees_the_image_in_minus_one_to_one_and_the_features():
    batch = make_batch()
    metres = lambda example: example["depth"]
    half = lambda example: 0.5 * example["image"][..., :1]
    x = segmenter.net_input(model(features=(metres, half), depth_unit=0.001), batch)
    assert x.shape == (4, SIDE, SIDE, 5)
    np.testing.assert_allclose(x[..., :3], batch["image"] / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(x[..., 3], 2.5)
    np.testing.assert_allclose(x[..., 4], batch["image"][..., 0] / 510, atol=1e-6)


def test_the_loss_is_the_mean_over_outputs_weighted_by_their_size():
    of_size = lambda logits, truth: logits * truth.valid.shape[-1]
    found = segmenter.supervised_loss(model(loss=of_size), (1.0, 10.0, 100.0), make_batch())
    assert found == pytest.approx((16 + 10 * 8 / 2 + 100 * 4 / 4) / (1 + 1 / 2 + 1 / 4))


def test_the_weight_of_pixels_counts_in_the_loss_alone():
    batch = make_batch()
    logits = np.random.default_rng(1).normal(size=(4, SIDE, SIDE, K)).astype(np.float32)
    batch["weight"] = np.random.default_rng(2).uniform(1, 11, (4, SIDE, SIDE, 1)).astype("f4")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    ids = batch["segmentation"][:3]
    counts = ids != 255
    terms = -np.take_along_axis(log_p[:3], np.where(counts, ids, 0), -1)
    weight = batch["weight"][:3] * counts
    expected = (terms * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    found = segmenter.supervised_loss(model(), (logits,), batch)
    np.testing.assert_allclose(found[:3], expected, rtol=1e-5)
    half = segmenter.supervised_loss(model(), (logits, logits[:, ::2, ::2]), batch)
    small = {key: value[:, ::2, ::2] if value.ndim > 1 else value for key, value in batch.items()}
    coarse = segmenter.supervised_loss(model(), (logits[:, ::2, ::2],), small)
    np.testing.assert_allclose(half, (found + coarse / 2) / 1.5, rtol=1e-5)
    sums = segmenter.sums_of(model(), logits, found, batch)
    assert float(np.sum(sums["confusion"])) == counts.sum()


def test_truth_takes_every_other_pixel_and_drops_rows_that_fill_up():
    batch = make_batch()
    truth = segmenter.truth(model(), batch, stride=2)
    ids = batch["segmentation"][:, ::2, ::2, 0]
    counts = (ids != 255) & batch["mask"][:, None, None]
    np.testing.assert_array_equal(truth.valid, counts)
    np.testing.assert_array_equal(np.asarray(truth.labels)[counts], ids[counts])


def test_sums_of_a_batch_by_hand():
    batch = make_batch()
    logits = np.random.default_rng(1).normal(size=(4, SIDE, SIDE, K)).astype(np.float32)
    terms = np.float32([1, 2, 4, 8])
    sums = jax.device_get(segmenter.sums_of(model(), logits, terms, batch))
    assert sums["loss"] == 7
    assert sums["count"] == 3
    ids, guess = batch["segmentation"][:3, ..., 0], logits[:3].argmax(-1)
    expected = np.zeros((K, K))
    np.add.at(expected, (ids[ids != 255], guess[ids != 255]), 1)
    np.testing.assert_array_equal(sums["confusion"], expected)
    assert np.sum(sums["calibration"]["pixels"]) == (ids != 255).sum()


@pytest.mark.parametrize(
    ("options", "train", "expected"),
    [
        ({}, False, {}),
        ({"drop": True}, False, {"drop": True, "rngs": {"dropout": "key"}}),
        ({"train": True}, True, {"rngs": {"dropout": "key"}, "mutable": ["batch_stats"]}),
    ],
)
def test_dropout_is_on_in_training_or_where_asked(options, train, expected):
    class Net:
        def apply(self, variables, x, index, train, **options):
            self.train, self.options = train, options
            return (x, {"batch_stats": "new"}) if train else x

    net, batch = Net(), make_batch() | {"index": np.arange(4)}
    variables = {"params": {}, "batch_stats": "old"}
    outputs, stats = segmenter.apply(model(net=net), variables, batch, "key", **options)
    assert (net.train, net.options) == (train, expected)
    assert stats == ("new" if train else "old")
    assert len(outputs) == 1
