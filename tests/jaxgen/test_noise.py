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
