import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaxgen import likelihoods

LEVELS = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
INDEX = jnp.arange(256)


def outputs(*values):
    return jnp.broadcast_to(jnp.array(values, jnp.float32), (256, 1, 1, len(values)))


def masses(mean, log_scale):
    model = likelihoods.discretized_logistic()
    x = model.observe(LEVELS, jax.random.key(0), INDEX)
    return np.exp(np.asarray(model.log_prob(x, outputs(mean, log_scale)), np.float64))


def test_discretized_logistic_known_value():
    model = likelihoods.discretized_logistic()
    x = model.observe(LEVELS, jax.random.key(0), INDEX)
    found = model.log_prob(x, outputs(0.3, -3.0))[128]
    np.testing.assert_allclose(found, -7.799214021452246, rtol=1e-5)


@given(mean=st.floats(-1.2, 1.2), log_scale=st.floats(-6.9, 6.0))
def test_discretized_logistic_bins_sum_to_one(mean, log_scale):
    np.testing.assert_allclose(masses(mean, log_scale).sum(), 1.0, atol=2e-5)


def test_discretized_logistic_bins_against_scipy():
    edges = np.concatenate([[-np.inf], (LEVELS.ravel()[1:] - 0.5) / 127.5 - 1, [np.inf]])
    expected = np.diff(stats.logistic.cdf(edges, 0.1, np.exp(-1.5)))
    np.testing.assert_allclose(masses(0.1, -1.5), expected, rtol=2e-5)


@pytest.mark.parametrize("make", [likelihoods.bernoulli, likelihoods.discretized_logistic])
def test_extreme_outputs_stay_finite(make):
    model = make()
    x = model.observe(LEVELS, jax.random.key(0), INDEX)
    for value in (-1e4, 1e4):
        wild = outputs(*[value] * model.outputs)
        assert np.isfinite(model.log_prob(x, wild)).all()
        slope = jax.grad(lambda o, x=x, model=model: model.log_prob(x, o).sum())(wild)
        assert np.isfinite(slope).all()


@given(logit=st.floats(-30, 30))
def test_bernoulli_probabilities_sum_to_one(logit):
    model = likelihoods.bernoulli()
    x = jnp.array([0.0, 1.0]).reshape(2, 1, 1, 1)
    total = np.exp(np.asarray(model.log_prob(x, jnp.full((2, 1, 1, 1), logit)), np.float64)).sum()
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_binarisation_follows_the_grey_level():
    model = likelihoods.bernoulli()
    image = jnp.broadcast_to(jnp.array([0, 64, 128, 255], jnp.uint8), (500, 20, 5, 4))
    x = np.asarray(model.observe(image, jax.random.key(3), jnp.arange(500)))
    assert set(np.unique(x)) == {0.0, 1.0}
    shares = x.mean((0, 1, 2))
    np.testing.assert_allclose(shares, np.array([0, 64, 128, 255]) / 255, atol=0.01)


@pytest.mark.parametrize("make", [likelihoods.bernoulli, likelihoods.gaussian])
def test_an_example_meets_the_same_noise_in_any_batch(make):
    image = jax.random.randint(jax.random.key(0), (8, 5, 3, 1), 0, 256).astype(jnp.uint8)
    whole = make().observe(image, jax.random.key(1), jnp.arange(8))
    order = jnp.array([5, 2])
    np.testing.assert_array_equal(
        make().observe(image[order], jax.random.key(1), order), whole[order]
    )


@pytest.mark.parametrize("scale", [None, 0.1])
def test_gaussian_against_scipy(scale):
    model = likelihoods.gaussian(scale)
    rng = np.random.default_rng(0)
    x, mean = rng.uniform(size=(2, 6, 4, 4, 1)).astype(np.float32)
    log_scale = rng.normal(size=x.shape).astype(np.float32) * 0.3
    given_outputs = mean if scale else np.concatenate([mean, log_scale], -1)
    expected = stats.norm.logpdf(x, mean, scale or np.exp(log_scale)).sum((1, 2, 3))
    np.testing.assert_allclose(model.log_prob(x, given_outputs), expected, rtol=1e-4)


def test_scales_have_a_floor_of_exp_minus_seven():
    logistic, normal = likelihoods.discretized_logistic(), likelihoods.gaussian()
    x = logistic.observe(LEVELS, jax.random.key(0), INDEX)
    at = lambda log_scale: np.asarray(logistic.log_prob(x, outputs(0.3, log_scale)))
    np.testing.assert_array_equal(at(-50.0), at(-7.0))
    assert np.abs(at(-6.9) - at(-7.0)).max() > 1
    found = normal.log_prob(x[:3], outputs(-0.99, -50.0)[:3])
    wanted = stats.norm.logpdf(np.float64(x[:3, 0, 0, 0]), -0.99, np.exp(-7))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_mean_images_are_in_the_unit_interval():
    logistic = likelihoods.discretized_logistic().mean(outputs(0.5, 9.0)[:1])
    np.testing.assert_allclose(logistic, 0.75)
    for model in (likelihoods.gaussian(), likelihoods.gaussian(0.1)):
        found = [
            model.mean(outputs(value, *[9.0] * (model.outputs - 1))[:1]) for value in (-1, 0.3, 2)
        ]
        np.testing.assert_allclose(np.ravel(found), [0, 0.3, 1])
    for value, end in ((-3.0, 0), (3.0, 1)):
        assert likelihoods.discretized_logistic().mean(outputs(value, 9.0)[:1]) == end


def test_several_outputs_for_an_image_give_several_probabilities():
    model = likelihoods.gaussian(0.5)
    x = jnp.linspace(0, 1, 12).reshape(2, 3, 2, 1)
    means = jnp.stack([x, x + 0.5, x - 1.0])
    one = -np.log(0.5) - 0.5 * np.log(2 * np.pi)
    wanted = 6 * (one - 0.5 * (np.array([0, 0.5, 1]) / 0.5) ** 2)
    found = model.log_prob(x, means)
    np.testing.assert_allclose(found, np.broadcast_to(wanted[:, None], (3, 2)), rtol=1e-5)


def test_dequantised_images_fill_the_unit_interval():
    x = likelihoods.gaussian().observe(LEVELS, jax.random.key(0), INDEX)
    np.testing.assert_array_equal(np.floor(np.asarray(x).ravel() * 256), np.arange(256))


def test_a_uniform_model_scores_eight_bits():
    dimensions = 8 * 8 * 3
    discrete = likelihoods.bits_per_dim(dimensions * np.log(256), dimensions)
    density = likelihoods.bits_per_dim(0.0, dimensions, likelihoods.gaussian().offset_bits)
    assert discrete == pytest.approx(8.0, abs=1e-12)
    assert (
        likelihoods.bernoulli().offset_bits == likelihoods.discretized_logistic().offset_bits == 0
    )
    assert density == pytest.approx(8.0, abs=1e-12)


@given(x=st.floats(-80, 1e6, width=32))
def test_softplus_and_its_derivative_against_numpy(x):
    value, slope = jax.value_and_grad(likelihoods.softplus)(jnp.float32(x))
    np.testing.assert_allclose(value, np.logaddexp(0.0, x), rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(slope, 1.0 / (1.0 + np.exp(-np.float64(x))), rtol=1e-4)
