import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jaxseg import distance

SHAPE = (13, 17)
plain = jax.jit(distance.distance)
signed = jax.jit(distance.signed_distance)


@given(st.integers(0, 999), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_distances_are_those_of_scipy(seed, share):
    mask = np.random.default_rng(seed).random(SHAPE) < share
    ours = np.asarray(plain(mask))
    if mask.any():
        np.testing.assert_allclose(ours, ndimage.distance_transform_edt(~mask), atol=1e-5)
    else:
        np.testing.assert_allclose(ours, np.sqrt(distance.FAR))


def test_signed_distance_is_negative_inside_and_zero_at_the_border():
    mask = np.random.default_rng(0).random(SHAPE) < 0.7
    outside, inside = map(ndimage.distance_transform_edt, (~mask, mask))
    np.testing.assert_allclose(signed(mask), np.where(mask, 1 - inside, outside), atol=1e-5)


def test_signed_distance_is_zero_without_a_border():
    for full in (np.zeros(SHAPE, bool), np.ones(SHAPE, bool)):
        assert not np.asarray(signed(full)).any()
