import jax
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as theirs

from jaxseg import labels
from jaxseg.metrics import pixel_scores
from tests.jaxseg.reference import CLASSES, SHAPE, labelled, softmax

confusion = jax.jit(lambda p, t: pixel_scores.confusion(p, labels.truth(t, CLASSES)))
calibration = jax.jit(lambda p, t: pixel_scores.calibration(p, labels.truth(t, CLASSES)))


@settings(max_examples=40)
@given(labelled())
def test_scores_equal_those_of_sklearn(data):
    logits, ids = data
    guess, counted = logits.argmax(-1), ids != 255
    counts = np.asarray(confusion(guess, ids))
    true, found = ids[counted], guess[counted]
    if not true.size:
        assert not counts.any()
        assert np.isnan(pixel_scores.scores(counts)["mean_iou"])
        return
    every = np.arange(CLASSES)
    np.testing.assert_array_equal(counts, theirs.confusion_matrix(true, found, labels=every))
    scores = pixel_scores.scores(counts)
    seen = np.union1d(true, found)
    iou = theirs.jaccard_score(true, found, labels=seen, average=None, zero_division=0)
    dice = theirs.f1_score(true, found, labels=seen, average=None, zero_division=0)
    share = np.array([(true == k).mean() for k in seen])
    expected = {
        "pixel_accuracy": theirs.accuracy_score(true, found),
        "class_accuracy": theirs.recall_score(
            true, found, labels=np.unique(true), average="macro", zero_division=0
        ),
        "mean_iou": iou.mean(),
        "mean_dice": dice.mean(),
        "frequency_weighted_iou": (share * iou).sum(),
        "micro_iou": theirs.jaccard_score(true, found, labels=every, average="micro"),
    } | {f"iou/{k}": value for k, value in zip(seen, iou, strict=True)}
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name
    for k in set(every) - set(seen):
        assert np.isnan(scores[f"iou/{k}"])


@settings(max_examples=20)
@given(labelled())
def test_calibration_error_equals_a_loop_over_bins(data):
    logits, ids = data
    probability = softmax(logits).astype(np.float32)
    ours = pixel_scores.calibration_error(jax.device_get(calibration(probability, ids)))
    counted = ids != 255
    sure, right = probability.max(-1)[counted], (probability.argmax(-1) == ids)[counted]
    if not sure.size:
        assert np.isnan(ours)
        return
    place = np.minimum((sure * np.float32(pixel_scores.BINS)).astype(int), pixel_scores.BINS - 1)
    gaps = [abs(sure[place == b].sum() - right[place == b].sum()) for b in range(pixel_scores.BINS)]
    assert ours == pytest.approx(sum(gaps) / sure.size, abs=1e-5)


def test_confidence_falls_into_fifteen_bins():
    logits = np.zeros((*SHAPE, CLASSES), np.float32)  # a third each: the sixth bin
    sums = calibration(softmax(logits).astype(np.float32) + 1e-3, np.zeros(SHAPE, np.int32))
    pixels = np.prod(SHAPE)
    np.testing.assert_array_equal(sums["pixels"], pixels * (np.arange(15) == 5))
    np.testing.assert_array_equal(sums["correct"], sums["pixels"])


def test_sums_of_parts_are_the_sum_of_the_whole():
    rng = np.random.default_rng(0)
    guess, ids = rng.integers(0, CLASSES, (2, *SHAPE))
    parts = confusion(guess[:1], ids[:1]) + confusion(guess[1:], ids[1:])
    np.testing.assert_array_equal(confusion(guess, ids), parts)


def test_a_class_that_is_only_predicted_scores_zero_and_one_that_is_nowhere_is_left_out():
    scores = pixel_scores.scores(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert scores["iou/a"] == 0.75
    assert scores["iou/b"] == 0.0
    assert np.isnan(scores["iou/c"])
    assert scores["mean_iou"] == 0.375


@pytest.mark.parametrize("bad", [-1, CLASSES, 254])
def test_an_id_outside_the_contract_never_scores(bad):
    ids = np.zeros(SHAPE, int)
    ids[0, 0, 0] = bad
    assert np.isnan(confusion(np.zeros(SHAPE, int), ids)).all()


def test_masked_rows_do_not_count():
    ids = np.zeros(SHAPE, int)
    truth = labels.truth(ids, CLASSES, mask=np.array([True, False])[:, None, None])
    assert np.asarray(pixel_scores.confusion(ids, truth)).sum() == ids[0].size
