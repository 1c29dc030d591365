import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.quantisation import code_of, grid_index, grid_value, quantised


@pytest.mark.parametrize("levels", [(5,), (4,), (2,), (3, 4), (8, 5, 5)])
def test_each_channel_takes_all_of_its_levels(levels):
    z = np.stack([np.linspace(-9, 9, 4001)] * len(levels), -1).astype(np.float32)
    found = np.asarray(quantised(z, levels))
    for channel, level in enumerate(levels):
        values = np.unique(found[:, channel])
        steps = np.arange(-(level // 2), (level - 1) // 2 + 1) / (level // 2)
        np.testing.assert_allclose(values, steps, atol=1e-6)
    assert np.isfinite(found).all()
    assert not np.asarray(quantised(np.zeros((1, len(levels)), np.float32), levels)).any()


def test_every_code_has_its_own_number():
    levels = (4, 3, 5)
    grid = [np.arange(-(n // 2), (n - 1) // 2 + 1) / (n // 2) for n in levels]
    z = np.array(list(itertools.product(*grid)), np.float32)
    codes = np.asarray(code_of(z, levels))
    assert sorted(codes) == list(range(60))
    index = np.asarray(grid_index(z, levels))
    np.testing.assert_array_equal(index, list(itertools.product(*map(range, levels))))
    np.testing.assert_array_equal(grid_value(index, levels), z)
    np.testing.assert_array_equal(quantised(z, levels, bounded=True), z)
    # Values near a code, as another model gives them, become that code.
    moved = z + np.random.default_rng(0).uniform(-0.2, 0.2, z.shape).astype(np.float32) / 2
    np.testing.assert_allclose(quantised(moved, levels, bounded=True), z, atol=1e-6)


def test_gradients_pass_as_through_the_smooth_function():
    z = jnp.array([[0.3, -0.7, 0.2]])
    slope = jax.grad(lambda z: quantised(z, (5, 4, 2)).sum())(z)
    half = np.array([4, 3, 1]) * 1.001 / 2
    shift = np.arctanh(np.array([0, 0.5, 0]) / half)
    expected = half * (1 - np.tanh(np.asarray(z) + shift) ** 2) / np.array([2, 2, 1])
    np.testing.assert_allclose(slope, expected, rtol=1e-5)
