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


def test_normal_noise_belongs_to_its_example():
    index = np.array([4, 9, 4], np.int32)
    found = noise.normal(jax.random.key(0), index, (50, 40))
    np.testing.assert_array_equal(found[0], found[2])
    alone = jax.random.normal(jax.random.fold_in(jax.random.key(0), 9), (50, 40))
    np.testing.assert_array_equal(found[1], alone)
    assert stats.kstest(np.ravel(found[:2]), "norm").pvalue > 1e-3


@pytest.mark.parametrize("shape", [(4000,), (33, 121), (1,)])
def test_coin_flips_are_uniform(shape):
    flips = np.asarray(noise.coin_flips(jax.random.key(0), shape))
    assert flips.shape == shape
    assert flips.min() >= 0
    assert flips.max() < 1
    np.testing.assert_array_equal(flips * 2**16 % 1, 0)  # 16 bits each
    if flips.size > 1:
        assert stats.kstest(flips.ravel(), "uniform").pvalue > 0.01


def test_interpolation_keeps_the_length_of_its_ends_and_turns_evenly():
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


def test_interpolation_between_parallel_latents():
    first = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    path = noise.slerp(first, first)
    np.testing.assert_allclose(path, np.broadcast_to(first, path.shape), rtol=1e-5)
    # Opposite latents leave the arc open, but not its ends.
    path = np.asarray(noise.slerp(first, -first))
    assert path.shape == (10, 2, 6)
    assert np.isfinite(path).all()
    np.testing.assert_allclose(path[0], first, rtol=1e-2)
    np.testing.assert_allclose(path[-1], -first, rtol=1e-2)


def test_interpolation_from_zero_is_finite():
    last = np.ones((1, 4), np.float32)
    path = np.asarray(noise.slerp(np.zeros((1, 4), np.float32), last, 3))
    np.testing.assert_allclose(path[0], 0)
    np.testing.assert_allclose(path[-1], last, rtol=1e-5)
    # Zero has no direction: the angle is that of independent draws, 90 degrees.
    np.testing.assert_allclose(path[1], np.sin(np.pi / 4) * last, rtol=1e-5)
