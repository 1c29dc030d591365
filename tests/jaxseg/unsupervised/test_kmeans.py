import functools

import jax
import jax.numpy as jnp
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


def test_a_run_has_thirty_iterations_by_default_and_the_best_run_is_kept(monkeypatch):
    begin = lambda points, clusters, key: jax.random.uniform(key, (clusters, 1))
    monkeypatch.setattr(kmeans, "_plus_plus", begin)
    monkeypatch.setattr(kmeans, "_lloyd", lambda points, centres: centres + 1.0)
    found = kmeans.kmeans(np.float32([[30.0]]), 1, KEY, 4)
    starts = [float(begin(None, 1, key)[0, 0]) for key in jax.random.split(KEY, 4)]
    np.testing.assert_allclose(found.centres, [[30 + min(starts)]], rtol=1e-6)
    assert found.inertia == pytest.approx(min(starts) ** 2, abs=1e-4)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="at least 1"):
        kmeans.kmeans(blobs(), 0, KEY, 8)
    with pytest.raises(ValueError, match="at least 1"):
        kmeans.kmeans(np.zeros((0, 3), np.float32), 2, KEY, 8)


def test_seeding_never_takes_a_point_twice_while_others_are_far():
    points = np.float32([[0, 0]] * 40 + [[10, 0], [0, 10]])
    keys = jax.random.split(KEY, 64)
    found = np.asarray(
        jax.jit(jax.vmap(lambda key: kmeans._plus_plus(jnp.asarray(points), 3, key)))(keys)
    )
    for centres in found:
        assert {tuple(centre) for centre in centres} == {(0, 0), (10, 0), (0, 10)}


def test_seeding_is_by_the_squared_distance():
    points = np.float32([[0.0]] * 2 + [[1.0], [3.0]])
    keys = jax.random.split(KEY, 4000)
    found = np.asarray(
        jax.jit(jax.vmap(lambda key: kmeans._plus_plus(jnp.asarray(points), 2, key)))(keys)
    )
    second = found[found[:, 0, 0] == 0, 1, 0]
    assert len(second) == pytest.approx(2000, abs=200)  # the first is drawn uniformly
    assert np.mean(second == 3) == pytest.approx(9 / 10, abs=0.03)


def test_a_step_of_lloyd_moves_centres_to_means_and_keeps_those_without_points():
    points = np.float32([[0.0], [1.0], [5.0]])
    found = kmeans._lloyd(points, np.float32([[0.0], [4.0], [99.0]]))
    np.testing.assert_allclose(found, [[0.5], [5.0], [99.0]])
