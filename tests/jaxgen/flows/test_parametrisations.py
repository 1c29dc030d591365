import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.flows import parametrisations

T = np.array([0.05, 0.5, 0.95], np.float32)


def numbers(seed=0):
    return np.random.default_rng(seed).normal(size=(3, 2, 2, 1)).astype(np.float32)


def test_preconditioning_is_that_of_the_paper():
    sd, z, output = 0.6, numbers(), numbers(1)
    made = parametrisations.preconditioned(sd)
    sigma, y = ((1 - T) / T)[:, None, None, None], z / T[:, None, None, None]
    total = sigma**2 + sd**2
    np.testing.assert_allclose(made.scale(z, T), y / np.sqrt(total), rtol=1e-5)
    expected = sd**2 / total * y + sigma * sd / np.sqrt(total) * output
    np.testing.assert_allclose(made.image(output, z, T), expected, rtol=1e-4, atol=1e-6)


def test_a_net_that_says_nothing_is_the_best_linear_guess():
    """With an output of 0, the mean of N(0, sd^2) given z."""
    rng, sd, t = np.random.default_rng(0), 0.5, 0.4
    x, e = sd * rng.normal(size=10**6), rng.normal(size=10**6)
    z = t * x + (1 - t) * e
    slope = np.dot(x, z) / np.dot(z, z)
    made = parametrisations.preconditioned(sd)
    one = np.ones((1, 1, 1, 1), np.float32)
    found = made.image(jnp.zeros_like(one), one, np.full(1, t, np.float32))
    assert float(found[0, 0, 0, 0]) == pytest.approx(slope, rel=0.01)


def test_binary_values_follow_bayes_rule():
    z, p, t = 0.3, 0.7, 0.45
    weight = lambda x: np.exp(-((z - t * x) ** 2) / (2 * (1 - t) ** 2))
    white = p * weight(1) / (p * weight(1) + (1 - p) * weight(-1))
    output = np.full((1, 1, 1, 1), 0.5 * np.log(p / (1 - p)), np.float32)
    made = parametrisations.binary()
    found = made.image(output, np.full((1, 1, 1, 1), z, np.float32), np.full(1, t, np.float32))
    assert float(found[0, 0, 0, 0]) == pytest.approx(2 * white - 1, rel=1e-5)


@pytest.mark.parametrize("name", ["clean", "preconditioned", "binary"])
def test_all_is_finite_at_both_ends(name):
    made, ends = getattr(parametrisations, name)(), np.array([0.0, 1.0], np.float32)
    z, output = numbers()[:2], numbers(1)[:2]
    assert np.all(np.isfinite(made.scale(z, ends)))
    assert np.all(np.isfinite(made.image(output, z, ends)))


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(ValueError, match="must be above 0"):
        parametrisations.preconditioned(0.0)
