import numpy as np
import pytest

from launch.config.errors import UserError
from launch.inference import class_evidence


def racing(scores, spread, draws=32, shared=0.0, seed=0):
    """Means, draws of each pair, and the number of pairs asked for in each draw."""
    asked, scores = [], np.asarray(scores, float)

    def estimate(examples, labels, number):
        rng = np.random.default_rng((seed, number))
        common = shared * rng.normal(size=len(scores))
        own = spread * rng.normal(size=scores.shape)
        asked.append(len(examples))
        return (scores + common[:, None] + own)[examples, labels]

    return *class_evidence.collect(estimate, *scores.shape, draws), asked


def test_one_draw_of_an_exact_likelihood_is_enough():
    scores = [[-3.0, -5.0], [-9.0, -1.0]]
    means, taken, asked = racing(scores, 0.0, draws=1)
    np.testing.assert_array_equal(means, scores)
    assert (taken == 1).all()
    assert asked == [4]


def test_classes_that_fall_behind_get_no_more_draws():
    means, taken, asked = racing([[-10.0, -10.4, -90.0, -95.0]] * 50, 1.0)
    assert (taken[:, 2:] == class_evidence.LEAST).all()
    assert (taken[:, :2] > class_evidence.LEAST).mean() > 0.8
    assert asked[0] == 200
    assert asked[class_evidence.LEAST] <= 100
    assert (means[:, :2].argmax(1) == 0).mean() > 0.8


def test_noise_that_classes_share_does_not_matter():
    """The best class leads by 1 nat, below noise of 50 nats that all classes have alike."""
    means, taken, _ = racing([[-1.0, -2.0, -3.0]] * 40, 0.1, shared=50.0)
    assert (means.argmax(1) == 0).all()
    assert taken.mean() < class_evidence.LEAST + 2


def test_a_class_that_was_dropped_early_is_compared_on_the_draws_that_it_got():
    """Later draws are lower for all classes, by far more than the classes differ."""

    def estimate(examples, labels, number):
        rng = np.random.default_rng((number, 1))
        own = rng.normal(size=(30, 3)) * np.array([0.0, 1.0, 0.0])
        level = -100.0 if number < class_evidence.LEAST else -200.0
        return (np.array([0.0, -0.1, -10.0]) + own + level)[examples, labels]

    means, taken = class_evidence.collect(estimate, 30, 3, 32)
    assert (taken[:, 2] == class_evidence.LEAST).all()
    assert (means.argmax(1) != 2).all()
    np.testing.assert_allclose(means[:, 0] - means[:, 2], 10.0, atol=1.0)


def test_what_is_alike_gets_all_draws():
    _, taken, _ = racing([[-1.0, -1.0]] * 30, 1.0, draws=12)
    assert (taken == 12).mean() > 0.8


@pytest.mark.parametrize("draws", [1, 3])
def test_few_draws_drop_nothing(draws):
    _, taken, _ = racing([[-1.0, -99.0]], 0.1, draws=draws)
    assert (taken == draws).all()


def test_a_likelihood_that_is_no_number_does_not_win():
    scores = np.array([[-3.0, -5.0, -4.0], [-9.0, -1.0, np.nan]])
    with pytest.raises(UserError, match=r"1 of 6 pairs .* first of image 1 and class 2"):
        racing(scores, 0.0, draws=1)
