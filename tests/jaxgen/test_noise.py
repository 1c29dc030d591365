import jax
import numpy as np
import pytest
from scipy import stats

from jaxgen import noise


def test_rows_depend_on_their_index_alone():
    draw = lambda key: jax.random.normal(key, (3,))
    whole = noise.per_example(draw, jax.random.key(0), np.arange(10))
    part = noise.per_example(draw, jax.random.key(0), np.array([7, 2, 7]))
    np.testing.assert_array_equal(part, whole[np.array([7, 2, 7])])
    assert len(np.unique(np.asarray(whole))) == 30


@pytest.mark.parametrize("shape", [(4000,), (33, 121), (1,)])
def test_coin_flips_are_uniform(shape):
    flips = np.asarray(noise.coin_flips(jax.random.key(0), shape))
    assert flips.shape == shape
    assert flips.min() >= 0
    assert flips.max() < 1
    if flips.size > 1:
        assert stats.kstest(flips.ravel(), "uniform").pvalue > 0.01


def test_an_arc_keeps_the_length_of_its_ends_and_turns_evenly():
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(2, 5, 40))
    last *= np.linalg.norm(first, axis=1, keepdims=True) / np.linalg.norm(last, axis=1)[:, None]
    path = np.asarray(noise.slerp(first, last, 7), np.float64)
    np.testing.assert_allclose(path[0], first, atol=1e-5)
    np.testing.assert_allclose(path[-1], last, atol=1e-5)
    lengths = np.linalg.norm(path, axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), rtol=1e-5)
    cosine = np.sum(path[1:] * path[:-1], -1) / lengths[0] ** 2
    np.testing.assert_allclose(cosine, np.broadcast_to(cosine[0], cosine.shape), atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_an_arc_between_parallel_latents_is_finite(factor):
    first = np.random.default_rng(0).normal(size=(2, 6))
    assert np.isfinite(noise.slerp(first, factor * first)).all()
