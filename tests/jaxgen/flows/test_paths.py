import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.stats import qmc

from jaxgen.flows import paths

DENSITIES = {
    "uniform": paths.uniform(),
    "jit": paths.logit_normal(),
    "edm": paths.logit_normal(1.2, 1.2),
    "log_snr": paths.log_snr(-6.0, 5.0),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_is_that_of_its_times(name):
    density = DENSITIES[name]
    u = np.array([0.02, 0.3, 0.5, 0.77, 0.98], np.float32)
    for share, t in zip(u, np.asarray(density.of(u)), strict=True):
        total = quad(lambda x: float(density.density(jnp.float32(x))), 1e-6, t, limit=200)[0]
        assert total == pytest.approx(share, abs=2e-3)


def test_logit_normal_is_edms_distribution_of_noise():
    t = paths.logit_normal(1.2, 1.2).of(np.linspace(0.001, 0.999, 999, dtype=np.float32))
    expected = stats.norm(-1.2, 1.2).ppf(np.linspace(0.999, 0.001, 999))
    np.testing.assert_allclose(np.log((1 - t) / t), expected, atol=1e-3)


@pytest.mark.parametrize("name", DENSITIES)
def test_times_are_inside_for_every_uniform_number(name):
    t = np.asarray(DENSITIES[name].of(np.array([0.0, 1.0 - 2**-24], np.float32)))
    assert np.all((t > 0) & (t < 1))
    assert np.all(np.isfinite(DENSITIES[name].density(t)))


def test_the_path_leads_from_noise_to_the_image():
    x, noise = np.full((3, 2, 2, 1), 0.5, np.float32), np.ones((3, 2, 2, 1), np.float32)
    z = paths.noisy(x, noise, np.array([0.0, 0.25, 1.0], np.float32))
    np.testing.assert_allclose(z[:, 0, 0, 0], [1.0, 0.875, 0.5])


def test_van_der_corput_is_scipys():
    found = paths.van_der_corput(np.arange(1000, dtype=np.int32))
    expected = qmc.Halton(1, scramble=False).random(1000)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    "make", [lambda: paths.logit_normal(std=0.0), lambda: paths.log_snr(2.0, 1.0)]
)
def test_an_empty_density_is_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_heun_steps_follow_a_tree_of_curves():
    """d(a, b)/dt = (1 - t, a): the step is exact for a, and of third order for b."""
    slope = lambda state, t: (1.0 - t, state[0])
    found = paths.heun_step(slope, (2.0, 1.0), 0.0, 0.1)
    assert found[0] == pytest.approx(2.0 + 0.1 - 0.005)
    assert found[1] == pytest.approx(1.0 + 0.2 + 0.005, abs=2e-4)
    assert paths.velocity(lambda z, t: 3.0 * z)(2.0, 0.5) == 8.0
