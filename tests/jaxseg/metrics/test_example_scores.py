import numpy as np
import pytest

from jaxseg.metrics import example_scores, pixel_scores

RNG = np.random.default_rng(0)


def test_the_mean_iou_of_each_example_is_that_of_its_own_confusion():
    counts = RNG.integers(0, 9, (5, 3, 3)).astype(np.float32)
    counts[1, 2], counts[1, :, 2] = 0, 0  # neither truth nor prediction holds class 2
    counts[2] = np.diag([4, 0, 2])
    found = example_scores.mean_iou(counts)
    np.testing.assert_allclose(found, [pixel_scores.scores(c)["mean_iou"] for c in counts], 1e-6)
    assert found[2] == 1.0


def test_an_example_without_a_labelled_pixel_has_no_score():
    assert np.isnan(example_scores.mean_iou(np.zeros((1, 3, 3), np.float32)))[0]


def test_classes_without_a_whole_are_left_out_of_the_mean():
    part, whole = np.array([[1.0, 0, 3], [0, 0, 0]]), np.array([[2.0, 0, 3], [0, 0, 0]])
    found = example_scores.mean_ratio(part, whole)
    assert found[0] == 0.75
    assert np.isnan(found[1])


def test_tables_of_batches_add_up_and_padding_adds_nothing():
    scores = np.array([0.5, 0.0, np.nan, 0.25, 0.75], np.float32)
    index = np.array([3, 0, 1, 4, 2], np.int32)
    whole = np.asarray(example_scores.table(scores, index))
    assert whole[:6].tolist() == [[0, 1], [0, 0], [0.75, 1], [0.5, 1], [0.25, 1], [0, 0]]
    assert not whole[6:].any()
    parts = example_scores.table(scores[:3], index[:3]), example_scores.table(scores[3:], index[3:])
    np.testing.assert_array_equal(sum(map(np.asarray, parts)), whole)
    filling = example_scores.table(np.full(2, np.nan, np.float32), np.zeros(2, np.int32))
    assert not np.asarray(filling).any()


@pytest.mark.parametrize("index", [example_scores.ROWS, 10**6])
def test_examples_beyond_the_table_are_left_out(index):
    assert not np.asarray(example_scores.table(np.ones(1, np.float32), np.array([index]))).any()
