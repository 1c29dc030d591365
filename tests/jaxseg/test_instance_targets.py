import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jaxseg import instance_targets

SHAPE = (10, 13)
distance = jax.jit(instance_targets.relative_distance, static_argnames="reach")
targets = jax.jit(instance_targets.targets)


def by_scipy(numbers, reach):
    """By scipy's exact transform of each object; the border of the image ends none."""
    result = np.zeros(numbers.shape)
    for number in np.unique(numbers[(numbers > 0) & (numbers < 65535)]):
        padded = np.pad(numbers == number, 3 * reach, mode="edge")
        inner = (slice(3 * reach, -3 * reach),) * 2
        depth = np.full(padded.shape, float(reach))
        if not padded.all():
            depth = np.minimum(ndimage.distance_transform_edt(padded), reach)
        depth = np.where(numbers == number, depth[inner] - 0.5, 0)
        result += depth / depth.max()
    return result


@given(st.integers(0, 2**16), st.sampled_from([2, 5]), st.sampled_from([1, 3, 20]))
def test_distances_are_those_of_scipy(seed, reach, size):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, 7, 65534, 65535], (20, 20))
    numbers = coarse.repeat(size, 0).repeat(size, 1)[: SHAPE[0], : SHAPE[1]].astype(np.int32)
    found = distance(numbers, reach=reach)
    np.testing.assert_allclose(found, by_scipy(numbers, reach), rtol=1e-5, atol=1e-6)


def test_targets_of_a_batch():
    numbers = np.zeros((3, 4, 5), np.int32)
    numbers[:, 1:3, 1:3] = 4
    numbers[1, 0] = 65535
    found = targets(numbers, np.array([True, True, False]))
    np.testing.assert_array_equal(found.foreground, numbers == 4)
    np.testing.assert_array_equal(found.distance, numbers == 4)  # two pixels wide: all deepest
    np.testing.assert_array_equal(found.valid[0], 1)
    np.testing.assert_array_equal(found.valid[1], numbers[1] != 65535)
    np.testing.assert_array_equal(found.valid[2], 0)


@pytest.mark.parametrize("wrong", [-1, 65536])
def test_a_number_outside_of_the_contract_is_nan(wrong):
    numbers = np.zeros((1, 4, 5), np.int32)
    numbers[0, 2, 2] = wrong
    valid = targets(numbers, np.array([True])).valid
    assert np.isnan(valid).sum() == 1
