import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.flows import samplers

KEY, MEAN, STD = jax.random.key(0), 0.3, 0.5
NAMES = ("euler", "heun", "dpm_solver", "ddim", "sde")


def denoise(z, t):
    """The mean of N(MEAN, STD^2) given z: the samples of an ODE are MEAN + STD z_0."""
    gain = t * STD**2 / (t**2 * STD**2 + (1.0 - t) ** 2)
    return MEAN + gain * (z - t * MEAN)


def start(count=64):
    return jax.random.normal(jax.random.key(1), (count, 2, 2, 1))


def drawn(sampler, steps, z=None, grid=samplers.even_times):
    z = start() if z is None else z
    times, index = jnp.asarray(grid(steps)), jnp.arange(len(z), dtype=jnp.int32)
    return samplers.run(sampler, denoise, (1.0 - times[0]) * z, times, KEY, index)


def error(sampler, steps, grid=samplers.even_times):
    found = drawn(sampler, steps, grid=grid)
    return float(jnp.abs(found - (MEAN + STD * start())).max())


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("dpm_solver", 1.3)])
def test_errors_fall_by_the_order_of_the_sampler(name, order):
    sampler = getattr(samplers, name)()
    coarse, fine = error(sampler, 16), error(sampler, 64)
    assert fine < 0.04
    assert coarse / fine > 0.7 * 4**order


def test_a_step_of_dpm_solver_is_that_of_its_paper():
    """Lu et al. 2022, algorithm 2, in its own terms: D = x_hat, alpha = t, sigma = 1 - t."""
    times, z = np.array([0.2, 0.35, 0.6, 0.7]), np.asarray(start(), np.float64)
    x_hat = lambda z, t: np.asarray(denoise(z, t))
    t, s, u = times[:3]
    level = np.log(times / (1 - times))
    (h, next_h), first = np.diff(level)[:2], x_hat(z, t)
    second_z = (1 - s) / (1 - t) * z - s * (np.exp(-h) - 1) * first
    second, r = x_hat(second_z, s), h / next_h
    mixed = (1 + 1 / (2 * r)) * second - 1 / (2 * r) * first
    wanted = (1 - u) / (1 - s) * second_z - u * (np.exp(-next_h) - 1) * mixed
    sampler = samplers.dpm_solver()
    between, memory = sampler.step(denoise, jnp.asarray(z), sampler.start(z), t, s, None)
    found, _ = sampler.step(denoise, between, memory, s, u, None)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_ten_steps_of_dpm_solver_are_better_than_forty_of_euler():
    assert error(samplers.dpm_solver(), 10) < error(samplers.euler(), 40)


def test_karras_times_lead_to_the_image():
    times = samplers.karras_times(18)
    sigma = (1 - times[:-1]) / times[:-1]
    assert (len(times), times[-1]) == (19, 1.0)
    np.testing.assert_allclose(sigma[[0, -1]], [80.0, 0.002], rtol=1e-3)
    root = sigma ** (1 / 7)
    np.testing.assert_allclose(np.diff(root), np.diff(root)[0], rtol=2e-2)
    assert error(samplers.heun(), 18, samplers.karras_times) < 0.02


@pytest.mark.parametrize("sampler", [samplers.ddim(1.0), samplers.sde(1.0)], ids=["ddim", "sde"])
def test_noise_in_steps_keeps_the_distribution(sampler):
    found = np.asarray(drawn(sampler, 100, start(4000)))
    assert found.mean() == pytest.approx(MEAN, abs=0.02)
    assert found.std() == pytest.approx(STD, rel=0.05)
    assert np.abs(np.corrcoef(found.ravel(), start(4000).ravel())[0, 1]) < 0.8


@pytest.mark.parametrize("sampler", [samplers.ddim(0.0), samplers.sde(0.0)], ids=["ddim", "sde"])
def test_without_noise_they_are_eulers(sampler):
    assert not sampler.noisy
    np.testing.assert_allclose(drawn(sampler, 7), drawn(samplers.euler(), 7), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_belongs_to_its_seed(name):
    sampler, z, times = getattr(samplers, name)(), start(8), jnp.asarray(samplers.even_times(5))
    some = jnp.array([6, 1])
    all_of = samplers.run(sampler, denoise, z, times, KEY, jnp.arange(8))
    found = samplers.run(sampler, denoise, z[some], times, KEY, some)
    np.testing.assert_allclose(found, all_of[some], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_one_step_gives_the_clean_image(name):
    z = start()
    np.testing.assert_allclose(drawn(getattr(samplers, name)(), 1), denoise(z, 0.0), atol=1e-6)


def test_what_is_kept_stays():
    keep = lambda z, t: z.at[:, 0].set(t)
    times = jnp.asarray(samplers.even_times(4))
    found = samplers.run(samplers.heun(), denoise, start(), times, KEY, jnp.arange(64), keep)
    np.testing.assert_array_equal(found[:, 0], 1.0)
    assert float(jnp.abs(found[:, 1] - (MEAN + STD * start()[:, 1])).max()) < 0.3


@pytest.mark.parametrize(
    "make",
    [
        lambda: samplers.even_times(0),
        lambda: samplers.karras_times(0),
        lambda: samplers.karras_times(5, low=2.0, high=1.0),
        lambda: samplers.ddim(1.5),
        lambda: samplers.sde(-1.0),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match=r"steps=0|low=2|eta=1.5|strength=-1"):
        make()
