from types import SimpleNamespace

import numpy as np
import pytest

from launch.config.errors import UserError
from launch.inference import priors
from tests.launch.inference.test_members import restored_of


def test_shares_have_the_sum_one():
    np.testing.assert_allclose(priors.given("2,1,1", 3), [0.5, 0.25, 0.25])


@pytest.mark.parametrize("shares", ["1,2", "1,2,3,4", "a,b,c", "-1,1,1", "0,0,0", "inf,1,1", "1"])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(UserError, match=f'--prior={shares}: give 3 shares, as "0.5,0.3,0.2"'):
        priors.given(shares, 3)


def test_shares_of_training_are_averaged_over_runs():
    other = restored_of()._replace(state=SimpleNamespace(class_frequencies=np.array([0, 0, 9.0])))
    np.testing.assert_allclose(priors.of_training([restored_of()]), [0.5, 0.25, 0.25])
    np.testing.assert_allclose(priors.of_training([restored_of(), other]), [0.25, 0.125, 0.625])
    with pytest.raises(UserError, match="the state of mine:task has no class_frequencies"):
        priors.of_training([restored_of(), restored_of()._replace(state=None)])


class Flat:
    """Reads images of one size, and gives all classes the same probability."""

    def __init__(self, *shape):
        self.shape = shape

    def read(self, files):
        return [{"image": np.zeros((*self.shape, 3), np.uint8)}]

    def posterior(self, examples):
        return [{"probability": np.full((*self.shape, 3), 1 / 3)}]


@pytest.mark.parametrize(
    ("shape", "pixels"), [((400, 410), 67 * 68), ((100, 90), 25 * 22), ((256, 256), 64 * 64)]
)
def test_a_sample_has_about_4096_pixels_of_an_image(shape, pixels):
    """Every 6th row and column of 400 x 410 pixels; but never more than every 4th."""
    assert priors.sample(Flat(*shape), [None, None], 3).shape == (2 * pixels, 3)


def test_there_is_nothing_to_estimate_from():
    with pytest.raises(UserError, match="--prior=estimate: no image could be read"):
        priors.sample(Flat(9, 9), [], 3)
    with pytest.raises(UserError, match="too small for an estimate"):
        priors.sample(Flat(1, 1), [None], 3)
