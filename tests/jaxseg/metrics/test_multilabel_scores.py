import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from jaxseg import multilabel_losses
from jaxseg.metrics import multilabel_scores

SHAPE = (2, 5, 6, 2)


@st.composite
def drawn(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = rng.integers(0, 2, SHAPE).astype(np.uint8)
    values[rng.random(SHAPE) < 0.2] = 255
    if draw(st.booleans()):
        values[..., 1] = 0
    steps = draw(st.sampled_from([5, 256, 10**6]))
    return rng.integers(0, steps + 1, SHAPE).astype(np.float32) / steps, values


@jax.jit
def sums_of(probability, values, mask):
    truth = multilabel_losses.labels(values, 255, mask)
    counts = multilabel_scores.counts(probability, truth, (0.5, 0.3))
    return counts | multilabel_scores.histograms(probability, truth)


@given(drawn())
def test_scores_are_those_of_the_pixels(pair):
    probability, values = pair
    found = multilabel_scores.scores(
        jax.device_get(sums_of(probability, values, np.ones(2, bool))), ("a", "b")
    )
    hits, wrongs, dices = 0, 0, []
    for k, (name, threshold) in enumerate({"a": 0.5, "b": np.float32(0.3)}.items()):
        known = values[..., k] != 255
        guess, true = probability[..., k][known] >= threshold, values[..., k][known] == 1
        hit, wrong = (guess & true).sum(), (guess != true).sum()
        hits, wrongs = hits + hit, wrongs + wrong
        dices.append(2 * hit / (2 * hit + wrong))
        assert found[f"dice/{name}"] == pytest.approx(dices[-1])
        assert found[f"iou/{name}"] == pytest.approx(hit / (hit + wrong))
    assert found["mean_dice"] == pytest.approx(np.mean(dices))
    assert found["micro_dice"] == pytest.approx(2 * hits / (2 * hits + wrongs))
    assert found["micro_iou"] == pytest.approx(hits / (hits + wrongs))


@given(drawn())
def test_average_precision_is_that_of_scikit_learn_of_probabilities_in_256_steps(pair):
    probability, values = pair
    terms = []
    for k in range(2):
        known = values[..., k] != 255
        true = values[..., k][known] == 1
        steps = np.minimum(np.floor(probability[..., k][known] * 256), 255)
        if true.any():
            terms.append(average_precision_score(true, steps))
    sums = jax.device_get(sums_of(probability, values, np.ones(2, bool)))
    assert multilabel_scores.average_precision(sums) == pytest.approx(np.mean(terms))


def test_rows_that_only_fill_up_do_not_count():
    rng = np.random.default_rng(0)
    probability = rng.random(SHAPE, np.float32)
    values = rng.integers(0, 2, SHAPE).astype(np.uint8)
    whole = sums_of(probability, values, np.ones(2, bool))
    parts = [sums_of(probability, values, np.arange(2) == row) for row in range(2)]
    jax.tree.map(lambda a, b, c: np.testing.assert_array_equal(a, b + c), whole, *parts)
    assert float(whole["positive"].sum()) == (values == 1).sum()


def test_a_class_without_pixels_is_left_out_of_the_means():
    sums = {"hit": np.array([3, 0]), "extra": np.array([1, 0]), "missed": np.array([0, 0])}
    found = multilabel_scores.scores(sums)
    assert found["mean_iou"] == found["iou/0"] == 0.75
    assert np.isnan(found["dice/1"])
    nothing = {"positive": np.zeros((1, 256)), "negative": np.ones((1, 256))}
    assert np.isnan(multilabel_scores.average_precision(nothing))
