import jax
import numpy as np
import pytest

from jaxseg.nets.encoders.stochastic_depth import StochasticDepth, linear_rates


def apply(rate, x, index, drop, seed=0):
    rngs = {"dropout": jax.random.key(seed)}
    return np.asarray(StochasticDepth(rate).apply({}, x, np.int32(index), drop, rngs=rngs))


def test_whole_examples_are_left_out_and_the_mean_stays():
    x = np.ones((4_000, 2, 3), np.float32)
    y = apply(0.25, x, np.arange(4_000), True)
    assert (y == y[:, :1, :1]).all()
    np.testing.assert_allclose(np.unique(y), [0.0, 4 / 3], rtol=1e-6)
    assert abs((y == 0).mean() - 0.25) < 0.03


def test_what_is_left_out_belongs_to_the_example():
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    order = np.random.default_rng(1).permutation(32)
    index = 100 + np.arange(32)
    whole = apply(0.5, x, index, True)
    np.testing.assert_array_equal(apply(0.5, x[order], index[order], True), whole[order])
    assert (apply(0.5, x, index, True, seed=1) != whole).any()


@pytest.mark.parametrize(("rate", "drop"), [(0.5, False), (0.0, True)])
def test_nothing_is_left_out_without_a_rate_or_unless_told(rate, drop):
    x = np.ones((2, 3), np.float32)
    assert StochasticDepth(rate).apply({}, x, np.arange(2), drop) is x  # without a key


def test_rates_grow_evenly():
    np.testing.assert_allclose(linear_rates(0.3, 4), [0.0, 0.1, 0.2, 0.3])
    assert linear_rates(0.3, 1) == [0.0]


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_out_of_range_is_an_error(rate):
    with pytest.raises(ValueError, match=rf"stochastic_depth must be in \[0, 1\), got {rate}"):
        linear_rates(rate, 2)
