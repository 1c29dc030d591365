import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.flows import ode, samplers

KEY, MEAN = jax.random.key(0), 0.3
# Deviations of the four values; independent ones.
STD = np.array([0.03, 0.5, 0.8, 1.2], np.float32).reshape(2, 2, 1)


def denoise(z, t):
    """The mean of N(MEAN, STD^2) given z."""
    gain = t * STD**2 / (t**2 * STD**2 + (1.0 - t) ** 2)
    return MEAN + gain[None] * (z - t * MEAN)


def images(count=16):
    noise = jax.random.normal(jax.random.key(1), (count, 2, 2, 1))
    return noise, MEAN + STD[None] * noise


@pytest.mark.parametrize("probes", [0, 3])
def test_the_density_of_a_normal_distribution(probes):
    """Of independent values the divergence has no variance: each probe is exact."""
    noise, x = images()
    found, z = ode.log_density(ode.density(100, probes, last=1e-3), denoise, x, KEY, jnp.arange(16))
    expected = stats.norm(MEAN, STD).logpdf(np.asarray(x)).sum((1, 2, 3))
    np.testing.assert_allclose(found, expected, atol=0.06)
    np.testing.assert_allclose(z, noise, atol=0.02)


def test_values_that_do_not_vary_are_as_dense_as_the_noise_that_is_left():
    """Of a constant image, with the steps of the default."""
    constant, x = (lambda z, t: jnp.zeros_like(z)), np.zeros((1, 2, 2, 1), np.float32)
    found, _ = ode.log_density(ode.density(), constant, x, KEY, jnp.arange(1))
    expected = 4 * stats.norm(0, ode.LAST).logpdf(0)
    assert float(found[0]) == pytest.approx(expected, abs=0.5)


def test_random_probes_are_right_in_the_mean():
    mix = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32) / 4
    mixed = lambda z, t: denoise(z, t) + t * jnp.sin(z.reshape(-1, 4) @ mix).reshape(z.shape)
    _, x = images(1)
    exact, _ = ode.log_density(ode.density(20, 0), mixed, x, KEY, jnp.arange(1))
    x, index = jnp.tile(x, (2000, 1, 1, 1)), jnp.arange(2000)
    found, _ = ode.log_density(ode.density(20, 1), mixed, x, KEY, index)
    assert found.std() > 0.01
    error = float(found.std()) / np.sqrt(2000)
    assert float(found.mean()) == pytest.approx(float(exact[0]), abs=3 * error)


def test_there_and_back_is_the_image():
    _, x = images()
    _, z = ode.log_density(ode.density(100, 1, last=1e-3), denoise, x, KEY, jnp.arange(16))
    times = jnp.asarray(samplers.even_times(100))
    back = samplers.run(samplers.heun(), denoise, z, times, KEY, jnp.arange(16))
    np.testing.assert_allclose(back, x, atol=0.02)


def test_a_density_belongs_to_its_example():
    _, x = images()
    some = np.array([7, 2])
    whole, _ = ode.log_density(ode.density(5, 1), denoise, x, KEY, jnp.arange(16))
    found, _ = ode.log_density(ode.density(5, 1), denoise, x[some], KEY, jnp.asarray(some))
    np.testing.assert_allclose(found, whole[some], rtol=1e-5)


@pytest.mark.parametrize("arguments", [(0, 1), (5, -1)])
def test_no_steps_are_refused(arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        ode.density(*arguments)


def test_the_way_back_ends_where_the_way_there_began():
    squash = lambda z, t: jnp.tanh(2.0 * z) * t
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (3, 2, 2, 1)), jnp.float32)
    _, noise = ode.log_density(ode.density(200), squash, x, KEY, np.arange(3))
    assert np.abs(noise - x).max() > 0.1
    np.testing.assert_allclose(ode.image_of(ode.density(200), squash, noise), x, atol=2e-3)


def test_noise_of_the_image_is_a_share():
    with pytest.raises(ValueError, match=r"last=1\.0 must be between 0 and 1"):
        ode.density(last=1.0)
