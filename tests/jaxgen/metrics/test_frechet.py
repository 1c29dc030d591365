import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from jaxgen.metrics import frechet

feature_sums = jax.jit(frechet.feature_sums)


def sums_of(features, logits=None, sizes=(), mask=None):
    features = np.asarray(features, np.float32)
    logits = np.zeros((len(features), 2), np.float32) if logits is None else logits
    mask = np.ones(len(features), bool) if mask is None else mask
    cuts = np.cumsum(sizes, dtype=int)
    parts = zip(*(np.split(array, cuts) for array in (features, logits, mask)), strict=True)
    return frechet.add(feature_sums(*part) for part in parts)


def scipy_distance(x, y):
    """Heusel et al. 2017, by the general square root of a matrix."""
    first, second = (np.cov(np.asarray(z, np.float64), rowvar=False) for z in (x, y))
    root = linalg.sqrtm(first @ second)
    apart = np.sum((np.mean(x, 0, np.float64) - np.mean(y, 0, np.float64)) ** 2)
    return float(apart + np.trace(first + second - 2 * root.real))


def test_the_published_example():
    # google/compare_gan, fid_score_test.py: 89.091 of 100 images with two features.
    real, generated = np.ones((100, 2)), np.full((100, 2), 9.0)
    real[:50, 0] = generated[50:, 0] = 2.0
    found = frechet.fid(sums_of(generated), sums_of(real))
    assert found == pytest.approx(80 + (np.sqrt(12.25 / 0.99) - np.sqrt(0.25 / 0.99)) ** 2)
    assert found == pytest.approx(89.0909, abs=1e-4)


def test_gaussians_of_known_distance():
    mean, spread, other = np.array([1.0, -1, 2]), np.array([1.0, 2, 3]), np.array([2.0, 2, 1])
    standard = np.zeros(3), np.diag(spread**2)
    found = frechet.frechet_distance(*standard, mean, np.diag(other**2))
    assert found == pytest.approx(6 + 1 + 0 + 4)
    # N(0, I) against N(m, S): |m|^2 + tr(S) + d - 2 tr(S^1/2), S with known roots.
    rotation = linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    covariance = rotation @ np.diag(spread**2) @ rotation.T
    found = frechet.frechet_distance(np.zeros(3), np.eye(3), mean, covariance)
    assert found == pytest.approx(6 + np.sum((spread - 1) ** 2))


@pytest.mark.parametrize("rank", [8, 3])
def test_equal_covariances_leave_the_distance_of_the_means(rank):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(8, rank))
    first, second = rng.normal(size=(2, 8))
    found = frechet.frechet_distance(first, root @ root.T, second, root @ root.T)
    assert found == pytest.approx(np.sum((first - second) ** 2), rel=1e-9)


@given(st.integers(0, 10_000), st.sampled_from([2, 12]), st.floats(0.1, 20))
def test_the_distance_is_that_of_scipy(seed, size, offset):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(2, size, size))
    x, y = (rng.normal(size=(60, size)) @ m for m in mixing)
    y = np.abs(y) + offset
    found = frechet.fid(sums_of(y, sizes=(20, 20)), sums_of(x, sizes=(20, 20)))
    assert found == pytest.approx(scipy_distance(np.float32(x), np.float32(y)), rel=1e-4)


def test_fewer_images_than_features_give_a_finite_distance():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 10, 40))
    first, second = (np.float32(z) - z.mean(0, dtype=np.float32) for z in (x, y))
    # tr (S1 S2)^1/2 is the sum of the singular values of X Y^T / (n - 1), by the data alone.
    shared = np.linalg.svd(first.astype(np.float64) @ second.T / 9, compute_uv=False).sum()
    total = (np.sum(first.astype(np.float64) ** 2) + np.sum(second.astype(np.float64) ** 2)) / 9
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + total - 2 * shared
    assert frechet.fid(sums_of(x), sums_of(y)) == pytest.approx(expected, rel=1e-5)


def test_sums_do_not_depend_on_how_images_are_batched():
    rng = np.random.default_rng(2)
    features, logits = rng.normal(100, 1, (50, 6)), rng.normal(size=(50, 4)).astype(np.float32)
    whole = sums_of(features, logits)
    mask = np.arange(60) < 50
    padded = [np.concatenate([a, np.full((10, a.shape[1]), np.nan)]) for a in (features, logits)]
    parts = sums_of(*padded, sizes=(20, 20), mask=mask)
    mean, covariance = frechet.gaussian(parts)
    np.testing.assert_allclose(mean, np.float32(features).mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(covariance, np.cov(np.float32(features), rowvar=False), atol=2e-4)
    np.testing.assert_allclose(covariance, frechet.gaussian(whole)[1], atol=2e-4)
    np.testing.assert_array_equal(parts["classes"], np.bincount(logits.argmax(1), minlength=4))
    assert parts["count"] == 50


def test_a_small_spread_around_a_large_mean_is_kept():
    features = np.float32(np.random.default_rng(3).normal(1000, 0.01, (500, 3)))
    _, covariance = frechet.gaussian(sums_of(features, sizes=(100, 250)))
    wanted = np.cov(features.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(np.diag(covariance), np.diag(wanted), rtol=0.01)


def test_nothing_compiled_depends_on_the_number_of_devices():
    x = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "x")
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    mask = np.arange(16) < 13
    single = feature_sums(x, x, mask)
    spread = feature_sums(*(jax.device_put(a, rows) for a in (x, x, mask)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), single, spread)


def test_class_shares():
    found = frechet.class_shares([40, 30, 29, 1])
    assert found == {
        "class_coverage": 0.75,
        "least_class_share": 0.01,
        "most_class_share": 0.4,
    }
    # A sixteenth of all is just enough for one of four.
    assert frechet.class_shares([10, 3, 2, 1])["class_coverage"] == 1.0
    assert np.isnan(frechet.class_shares([0, 0])["class_coverage"])


def test_a_collapsed_model_shows():
    rng = np.random.default_rng(4)
    real = sums_of(rng.normal(size=(200, 4)))
    one_place = sums_of(0.1 * rng.normal(size=(200, 4)))
    assert frechet.feature_variance(one_place, real) == pytest.approx(0.01, rel=0.3)
    broken = sums_of(np.full((8, 4), np.nan), np.full((8, 2), np.nan, np.float32))
    assert np.isnan(frechet.fid(broken, real))
    assert np.isnan(frechet.feature_variance(broken, real))
    assert broken["classes"].sum() == 0


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 2 images"):
        frechet.gaussian(sums_of(np.ones((1, 3))))
    with pytest.raises(ValueError, match="no images"):
        frechet.add([])
    assert frechet.least_images(2048) == 2049
