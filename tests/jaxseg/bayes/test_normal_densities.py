import jax
import numpy as np
import pytest
from scipy import stats

from jaxseg.bayes import normal_densities

K, M, F = 2, 3, 2
RNG = np.random.default_rng(0)


def test_log_densities_are_those_of_scipy():
    mean = RNG.normal(size=(K, M, F))
    root = RNG.normal(size=(K, M, F, F))
    covariance = root @ root.swapaxes(-1, -2) + 0.5 * np.eye(F)
    weight = RNG.dirichlet(np.ones(M), K)
    params = {
        "log_weight": np.log(weight),
        "mean": mean,
        "whiten": np.linalg.inv(np.linalg.cholesky(covariance)),
    }
    x = RNG.normal(size=(4, 5, F)).astype(np.float32)
    found = jax.jit(normal_densities.component_log_prob)(jax.tree.map(np.float32, params), x)
    for k, m in np.ndindex(K, M):
        expected = stats.multivariate_normal(mean[k, m], covariance[k, m]).logpdf(x)
        np.testing.assert_allclose(
            found[..., k, m], expected + np.log(weight[k, m]), rtol=1e-3, atol=1e-3
        )


def test_moments_are_weighted_sums():
    share = RNG.random((4, 5, K, M)).astype(np.float32)
    x = RNG.normal(size=(4, 5, F)).astype(np.float32)
    found = jax.jit(normal_densities.moments)(share, x)
    np.testing.assert_allclose(found["count"], share.sum((0, 1)), rtol=1e-5)
    first = np.einsum("hwkm,hwf->kmf", share, x)
    np.testing.assert_allclose(found["first"], first, rtol=1e-4, atol=1e-5)
    second = np.einsum("hwkm,hwf,hwg->kmfg", share, x, x).reshape(K, M, F * F)
    np.testing.assert_allclose(found["second"], second, rtol=1e-4, atol=1e-5)


def sums_of(x, share):
    return {
        "count": share.sum(0),
        "first": np.einsum("nkm,nf->kmf", share, x),
        "second": np.einsum("nkm,nf,ng->kmfg", share, x, x).reshape(*share.shape[1:], -1),
    }


def test_normals_of_moments_and_of_empty_components_and_classes():
    x = RNG.normal(size=(50, F))
    share = np.zeros((50, 3, 2))
    share[:20, 0, 0], share[20:, 0, 1] = 1, 1
    share[:30, 1, 0] = 1  # component (1, 1) and class 2 have no pixels
    weight, mean, covariance = normal_densities.normals(sums_of(x, share), 0.1)
    np.testing.assert_allclose(weight, [[0.4, 0.6], [1, 0], [0.5, 0.5]])
    # A component that took its class's moments counts once more.
    pooled = np.concatenate([x, x[:30], x[:30]])
    parts = {(0, 0): x[:20], (0, 1): x[20:], (1, 0): x[:30], (1, 1): x[:30], (2, 0): pooled}
    for place, part in parts.items():
        np.testing.assert_allclose(mean[place], part.mean(0))
        expected = np.cov(part.T, bias=True) + 0.1 * np.eye(F)
        np.testing.assert_allclose(covariance[place], expected)


def test_no_pixel_at_all_is_refused():
    with pytest.raises(ValueError, match="nothing to fit"):
        normal_densities.normals(sums_of(np.zeros((2, F)), np.zeros((2, K, 1))), 0.1)


def test_parts_lie_at_quantiles_of_the_longest_axis():
    covariance = np.diag([4.0, 1.0])[None, None]
    weight, mean, found = normal_densities.split(np.array([[[5.0, 6.0]]]), covariance, 2)
    assert weight.tolist() == [[0.5, 0.5]]
    quartile = 2.0 * stats.norm.ppf(0.75)
    np.testing.assert_allclose(np.sort(mean[0, :, 0]), [5 - quartile, 5 + quartile])
    np.testing.assert_allclose(mean[0, :, 1], 6.0)
    np.testing.assert_array_equal(found, np.broadcast_to(covariance, (1, 2, 2, 2)))
