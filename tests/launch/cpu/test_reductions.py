"""Sums in two parts, beside numpy's in float64; max-pooling is in test_lowerings.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from launch.cpu import lowerings, reductions


@st.composite
def sums(draw):
    """A shape, and axes to sum over."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    return tuple(shape), tuple(sorted(axes))


@given(sums())
def test_inner_axes_are_those_after_the_last_one_that_is_kept(case):
    shape, axes = case
    inner = reductions.inner_axes(tuple(100 * n if n > 1 else 1 for n in shape), axes)
    assert not inner  # of more than 64 elements
    every = reductions.inner_axes((2**16, *shape), (0, *(axis + 1 for axis in axes)))
    for axis in every:
        assert axis - 1 in axes
        assert all(n - 1 in axes or shape[n - 1] == 1 for n in range(axis, len(shape) + 1))
    if every:
        assert 1 < math.prod(shape[axis - 1] for axis in every) <= 64


@given(sums())
def test_two_sums_are_one(case):
    shape, axes = case
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for cut in range(len(axes) + 1):
        ours = reductions.sum_in_two(x, axes, axes[cut:])
        np.testing.assert_allclose(ours, x.astype(float).sum(axes), atol=1e-5)


@pytest.fixture
def rules(monkeypatch):
    monkeypatch.delenv("SEGEN_CPU_RULES", raising=False)
    assert lowerings.install()
    yield
    lowerings.remove()


def text(function, *arguments):
    return jax.jit(function).lower(*arguments).as_text()


def test_group_norm_is_summed_in_two_with_the_same_values_and_gradients(rules):
    x = np.random.default_rng(0).normal(1, 2, (2, 32, 32, 32)).astype(np.float32)
    norm = nn.GroupNorm(num_groups=8)
    params = norm.init(jax.random.key(0), x)
    run = lambda x: norm.apply(params, x)
    both = lambda x: (run(x), jax.grad(lambda x: jnp.sum(jnp.sin(run(x))))(x))
    assert "optimization_barrier" in text(both, x)
    ours = jax.jit(both)(x)
    lowerings.remove()
    jax.clear_caches()
    assert "optimization_barrier" not in text(both, x)
    for one, other in zip(ours, jax.jit(both)(x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axes", "dtype"),
    [
        ((64, 64, 8, 2), (0, 1, 3), np.int32),  # sums of integers are as they were
        ((64, 64, 8, 2), (0, 1), np.float32),
        ((64, 64, 8, 2), (3,), np.float32),
        ((64, 64, 8, 2), (0, 1, 2, 3), np.float32),
        ((64, 8, 8, 2), (0, 1, 3), np.float32),  # small
        ((64, 64, 8, 128), (0, 1, 3), np.float32),
    ],
)
def test_other_sums_are_as_they_were(rules, shape, axes, dtype):
    assert "optimization_barrier" not in text(lambda x: jnp.sum(x, axes), np.ones(shape, dtype))
