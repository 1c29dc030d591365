import numpy as np
import pytest

from jaxgen.flows import paths, weights

RNG = np.random.default_rng(0)
T = np.array([0.1, 0.5, 0.8], np.float32)
X, GUESS, NOISE = (RNG.normal(size=(3, 2, 2, 1)).astype(np.float32) for _ in range(3))


def test_velocity_is_the_error_of_the_velocity():
    t = T[:, None, None, None]
    z = t * X + (1 - t) * NOISE
    expected = np.mean(((GUESS - z) / (1 - t) - (X - NOISE)) ** 2, (1, 2, 3))
    found = weights.weighted(weights.velocity(), paths.uniform(), X, GUESS, T)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_velocity_stays_bounded_near_the_image():
    near = np.array([1 - 1e-6], np.float32)
    assert float(weights.velocity(0.05).of(near, paths.uniform())[0]) == pytest.approx(400)


def test_edm_is_the_weight_of_the_paper():
    sigma, sd = (1 - T) / T, 0.4
    expected = (sigma**2 + sd**2) / (sigma * sd) ** 2
    np.testing.assert_allclose(weights.edm(sd).of(T, None), expected, rtol=1e-5)


@pytest.mark.parametrize("density", [paths.log_snr(-9.0, 9.0), paths.logit_normal(0.3, 1.5)])
def test_the_bound_has_one_mean_for_every_density(density):
    """Half the integral over gamma of |error|^2 / sigma^2."""
    t = np.asarray(density.of((np.arange(200_000, dtype=np.float32) + 0.5) / 200_000))
    sigma = (1 - t) / t
    found = np.mean(weights.bound().of(t, density) * sigma**4 / (1 + sigma**2) ** 2)
    # The integral of s / (1 + s)^2 over ln s, s = sigma^2, is 1.
    assert found == pytest.approx(0.5, rel=2e-3)


def test_nats_are_sums_and_others_means():
    error = weights.weighted(weights.bound(), paths.uniform(), X, GUESS, T)
    factor = weights.bound().of(T, paths.uniform())
    np.testing.assert_allclose(error, factor * np.sum((X - GUESS) ** 2, (1, 2, 3)), rtol=1e-5)
