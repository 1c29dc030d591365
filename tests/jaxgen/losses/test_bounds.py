from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaxgen.likelihoods import gaussian
from jaxgen.losses import bounds

finite = st.floats(-3, 3)


def test_gaussian_kl_closed_form():
    mean, log_std = jnp.array([1.0, -0.5]), jnp.array([0.0, -1.0]) / 2
    np.testing.assert_allclose(bounds.gaussian_kl(mean, log_std).sum(), 0.8089397205857212, 1e-6)


@given(mean=finite, log_std=finite)
def test_gaussian_kl_against_quadrature(mean, log_std):
    z = np.linspace(mean - 12 * np.exp(log_std), mean + 12 * np.exp(log_std), 20001)
    q = stats.norm.pdf(z, mean, np.exp(log_std))
    integrand = q * (stats.norm.logpdf(z, mean, np.exp(log_std)) - stats.norm.logpdf(z))
    expected = np.trapezoid(integrand, z)
    found = bounds.gaussian_kl(jnp.float32(mean), jnp.float32(log_std))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=5))
def test_gaussian_log_prob_against_scipy(rows):
    z, mean, log_std = np.array(rows, np.float32).T
    expected = stats.norm.logpdf(z, mean, np.exp(log_std)).sum()
    np.testing.assert_allclose(bounds.gaussian_log_prob(z, mean, log_std), expected, 1e-3, 1e-4)


def test_importance_bound_is_the_log_of_the_mean_weight():
    weights = np.random.default_rng(0).uniform(0.1, 2.0, (7, 3))
    found = bounds.importance_bound(jnp.log(weights))
    np.testing.assert_allclose(found, np.log(weights.mean(0)), rtol=1e-5, atol=1e-6)


def test_importance_bound_rises_with_k_to_the_evidence():
    # p(x) = integral N(x; z, 1) N(z; 0, 1) dz = N(x; 0, 2); q = N(0, 1) is a poor guess.
    x, truth = 1.5, stats.norm.logpdf(1.5, 0, np.sqrt(2))
    z = jax.random.normal(jax.random.key(0), (64, 20000, 1))
    log_weights = bounds.gaussian_log_prob(x - z)
    values = [float(bounds.importance_bound(log_weights[:k]).mean()) for k in (1, 4, 16, 64)]
    assert values == sorted(values)
    assert values[0] < truth - 0.3
    assert truth - 0.02 < values[-1] < truth + 0.002


@pytest.mark.parametrize(("samples", "chunk"), [(1, 5), (7, 3), (6, 3), (4, 9)])
def test_the_estimated_nll_is_the_bound_of_all_chunks(samples, chunk):
    key = jax.random.key(3)
    log_weights = lambda key, count: 50.0 * jax.random.normal(key, (count, 2))
    size = min(chunk, samples)
    parts = [log_weights(jax.random.fold_in(key, n), size) for n in range(-(-samples // size))]
    wanted = -bounds.importance_bound(jnp.concatenate(parts)[:samples])
    found = bounds.estimated_nll(log_weights, key, 2, samples, chunk)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def log_weights_of(theta, phi, noise, tag_samples):
    """A toy model with all three places where phi enters: path, and q's density."""
    theta, mean, log_std = (x[None, None] for x in (theta, *phi))
    z = mean + jnp.exp(log_std) * noise
    tag = 0.0
    if tag_samples:
        mean, log_std = jax.lax.stop_gradient((mean, log_std))
        z, tag = bounds.doubly_reparameterise(z)
    likelihood = bounds.gaussian_log_prob(2.0 - theta * z)
    prior, posterior = bounds.gaussian_log_prob(z), bounds.gaussian_log_prob(z, mean, log_std)
    return likelihood + prior - posterior + tag


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0])
def test_doubly_reparameterised_gradient_is_the_papers_formula(scale):
    theta, phi = jnp.array([0.7, -1.2]), (jnp.array([0.3, 0.1]), jnp.array([-0.2, 0.4]))
    noise = jax.random.normal(jax.random.key(1), (6, 1, 2))

    def bound(theta, phi, tagged):
        return scale * bounds.importance_bound(log_weights_of(theta, phi, noise, tagged)).sum()

    # The formula by hand: sum_k w_k^2 (dlog w_k / dz_k) (dz_k / dphi).
    mean, log_std = phi
    z = mean[None, None] + jnp.exp(log_std)[None, None] * noise

    def log_weight(z_k):
        return (
            bounds.gaussian_log_prob(2.0 - theta * z_k)
            + bounds.gaussian_log_prob(z_k)
            - bounds.gaussian_log_prob(z_k, mean, log_std)
        )

    weights = jax.nn.softmax(jax.vmap(log_weight)(z[:, 0]))
    slope = jax.jit(jax.vmap(jax.grad(log_weight)))(z[:, 0])
    by_mean = (weights[:, None] ** 2 * slope).sum(0) * scale
    spread = jnp.exp(log_std)[None]
    by_log_std = (weights[:, None] ** 2 * slope * noise[:, 0] * spread).sum(0) * scale
    gradients = jax.jit(jax.value_and_grad(bound, argnums=(0, 1)), static_argnums=2)
    (value, (for_theta, found)), (plain, (plain_theta, _)) = (
        gradients(theta, phi, tagged) for tagged in (True, False)
    )
    np.testing.assert_allclose(found[0], by_mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], by_log_std, rtol=1e-4, atol=1e-6)
    # Value and decoder gradient stay those of the plain bound.
    assert value == pytest.approx(float(plain), rel=1e-6)
    np.testing.assert_allclose(plain_theta, for_theta, rtol=1e-5)


def test_doubly_reparameterised_gradient_has_the_same_mean_and_less_variance():
    theta, phi = jnp.array([0.7, -1.2]), (jnp.array([0.3, 0.1]), jnp.array([-0.2, 0.4]))
    noise = jax.random.normal(jax.random.key(2), (4000, 16, 1, 2))

    def gradient(noise, tagged):
        def bound(phi):
            return bounds.importance_bound(log_weights_of(theta, phi, noise, tagged)).sum()

        return jnp.concatenate(jax.grad(bound)(phi))

    plain, doubly = (jax.jit(jax.vmap(lambda n, t=t: gradient(n, t)))(noise) for t in (False, True))
    error = np.sqrt((plain.var(0) + doubly.var(0)) / len(noise))
    assert np.all(np.abs(plain.mean(0) - doubly.mean(0)) < 4 * error)
    assert np.all(doubly.var(0) < plain.var(0))


def test_the_metrics_of_a_vae_are_means_in_nats_and_bits_per_dimension():
    model = SimpleNamespace(shape=(6, 5, 1), likelihood=gaussian())
    sums = {"count": 4.0, "reconstruction": 60.0, "kl": 20.0, "nll": 72.0}
    assert bounds.elbo_metrics(model, sums) == pytest.approx(
        {
            "reconstruction": 15.0,
            "kl": 5.0,
            "nll": 18.0,
            "negative_elbo": 20.0,
            "bits_per_dim": 20.0 / (30 * np.log(2)) + 8,
            "nll_bits_per_dim": 18.0 / (30 * np.log(2)) + 8,
        }
    )
