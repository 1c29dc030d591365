import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from jaxgen.metrics import neighbours


def by_matrices(real, generated, k):
    """Naeem et al. 2020, section 3, on whole matrices of distances in float64."""
    within = [np.sort(pairwise_distances(x), axis=1)[:, k] for x in (real, generated)]
    between = pairwise_distances(real, generated)
    inside = between < within[0][:, None]
    return {
        "precision": inside.any(0).mean(),
        "recall": (between < within[1]).any(1).mean(),
        "density": inside.sum() / (k * len(generated)),
        "coverage": (between.min(1) < within[0]).mean(),
    }


@pytest.mark.parametrize(
    ("real", "generated", "k", "rows"),
    [
        (60, 60, 5, 1024),
        (50, 33, 3, 16),
        (31, 64, 1, 10),
    ],
)
def test_blocks_of_rows_give_what_whole_matrices_give(real, generated, k, rows):
    rng = np.random.default_rng(real)
    x, y = rng.normal(50, 1, (real, 4)), rng.normal(50.5, 1.1, (generated, 4))
    found = neighbours.precision_recall(x, y, k, rows)
    assert found == pytest.approx(by_matrices(x, y, k), abs=1e-6)
    assert 0 < found["recall"] < 1


@pytest.mark.parametrize("step", [1.0, 0.25, 64.0])
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_equal_distances_stay_equal_in_float32(seed, offset, step):
    """Whole numbers, whose mean is not whole: half of the balls end at other points."""
    rng = np.random.default_rng(seed)
    x, y = (step * (offset + rng.integers(0, 4, (size, 3))) for size in (61, 45))
    found = neighbours.precision_recall(x, y, 3, 16)
    assert found == pytest.approx(by_matrices(x, y, 3), abs=1e-12)


def test_a_centre_is_near_the_mean_and_on_a_grid_of_a_power_of_two():
    x = np.array([[3, 0.3], [4, 0.4], [9, 0.4]])  # deviations of 2.62 and 0.05
    np.testing.assert_array_equal(neighbours.centre(x), [6, 0])
    np.testing.assert_array_equal(neighbours.centre(x / 64), [6 / 64, 0])
    np.testing.assert_array_equal(neighbours.centre(x[:1]), [3, 0.5])
    far = np.random.default_rng(0).normal(1e6, 1e-2, (50, 4))
    assert np.abs(neighbours.centre(far) - 1e6).max() < 1e-2


@given(st.integers(0, 1000))
def test_a_set_against_itself(seed):
    x = np.random.default_rng(seed).normal(size=(40, 3))
    found = neighbours.precision_recall(x, x, 5, 16)
    assert found == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}


def test_a_set_far_away_scores_nothing():
    x = np.random.default_rng(0).normal(size=(40, 3))
    found = neighbours.precision_recall(x, x + 100)
    assert set(found.values()) == {0.0}


def test_one_image_drawn_over_and_over_is_precise_and_recalls_nothing():
    x = np.random.default_rng(0).normal(size=(100, 3))
    found = neighbours.precision_recall(x, np.repeat(x[:1], 50, axis=0))
    assert found["precision"] == 1.0
    assert found["recall"] == 0.0
    assert found["coverage"] < 0.2


def test_radii_and_nearest_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    points, queries = (rng.normal(size=(n, 6)).astype(np.float32) for n in (70, 9))
    fitted = NearestNeighbors(algorithm="brute").fit(points)
    wanted = fitted.kneighbors(points, 5)[0][:, 4]
    np.testing.assert_allclose(np.sqrt(neighbours.radii(points, 4, 32)), wanted, rtol=1e-5)
    distance, place = jax.device_get(neighbours.nearest(queries, points))
    wanted, index = fitted.kneighbors(queries, 1)
    np.testing.assert_array_equal(place, index[:, 0])
    np.testing.assert_allclose(np.sqrt(distance), wanted[:, 0], rtol=1e-5)


def test_copies_are_nearer_to_training_images_than_new_images_are():
    rng = np.random.default_rng(0)
    training, real, new = rng.normal(size=(3, 2_000, 4))
    fitted = NearestNeighbors().fit(training)
    distances = lambda points: fitted.kneighbors(points, 1)[0][:, 0]
    assert neighbours.copied(distances(new), distances(real)) == pytest.approx(0.05, abs=0.02)
    half = np.concatenate([new[:1000], training[:1000] + 1e-3])
    assert neighbours.copied(distances(half), distances(real)) == pytest.approx(0.525, abs=0.02)


def test_equal_distances_count_one_by_one():
    points = np.array([0, 0, 0, 1, 1, 3], np.float32)[:, None]
    for k, wanted in ((1, [0, 0, 0, 0, 0, 4]), (3, [1, 1, 1, 1, 1, 9]), (5, [9, 9, 9, 4, 4, 9])):
        np.testing.assert_array_equal(neighbours.radii(points, k), wanted)


def test_too_few_images_are_refused():
    x = np.ones((5, 3))
    with pytest.raises(ValueError, match="at least 6 images of each kind; there are 5 and 9"):
        neighbours.precision_recall(x, np.ones((9, 3)))
    with pytest.raises(ValueError, match="k must be at least 1"):
        neighbours.precision_recall(x, x, 0)
