import functools

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans

from jaxseg.unsupervised import kmeans

KEY = jax.random.key(0)
kmeans_jit = functools.partial(jax.jit, static_argnums=(1, 3, 4))(kmeans.kmeans)


def blobs(centres=4, each=30):
    rng = np.random.default_rng(0)
    middles = 4 * rng.normal(size=(centres, 1, 3))
    return (middles + rng.normal(size=(centres, each, 3))).reshape(-1, 3).astype(np.float32)


@pytest.mark.parametrize("clusters", [4, 6])
def test_inertia_is_that_of_scikit_learn(clusters):
    points = blobs()
    found = kmeans_jit(points, clusters, KEY, 8, 30)
    reference = KMeans(clusters, n_init=20, random_state=0).fit(points)
    assert found.inertia <= 1.03 * reference.inertia_
    nearest = ((points[:, None] - np.asarray(found.centres)) ** 2).sum(-1).min(1)
    assert found.inertia == pytest.approx(nearest.sum(), rel=1e-4)


def test_same_key_same_clusters():
    first, second = (kmeans_jit(blobs(), 4, KEY, 8, 30) for _ in range(2))
    np.testing.assert_array_equal(first.centres, second.centres)


@pytest.mark.parametrize("count", [1, 3])
def test_more_clusters_than_points(count):
    points = np.eye(3, dtype=np.float32)[:count]
    found = kmeans_jit(points, 5, KEY, 2, 3)
    assert np.isfinite(found.centres).all()
    assert found.inertia == pytest.approx(0.0, abs=1e-5)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="at least 1"):
        kmeans.kmeans(blobs(), 0, KEY)
    with pytest.raises(ValueError, match="at least 1"):
        kmeans.kmeans(np.zeros((0, 3), np.float32), 2, KEY)
