import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxgen.losses import adversarial

KEY = jax.random.key(0)
REAL, FAKE = np.float32([-2.0, -0.3, 0.4, 30.0]), np.float32([1.5, -40.0, 0.2, -0.1])


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.float64(x)))


CLOSED = {
    "non_saturating": (-np.log(sigmoid(REAL)) - np.log1p(-sigmoid(FAKE)), -np.log(sigmoid(FAKE))),
    "least_squares": ((REAL - 1) ** 2 / 2 + FAKE**2 / 2, (FAKE - 1) ** 2 / 2),
    "hinge": (np.maximum(0, 1 - REAL) + np.maximum(0, 1 + FAKE), -FAKE),
    "wasserstein": (FAKE - REAL, -FAKE),
}


@pytest.mark.parametrize("name", CLOSED)
def test_losses_are_their_closed_forms(name):
    loss = getattr(adversarial, name)()
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), CLOSED[name][0], rtol=1e-5)
    np.testing.assert_allclose(loss.generator(FAKE), CLOSED[name][1], rtol=1e-5)


def densities():
    x = np.linspace(-12, 12, 4001)
    return x, stats.norm.pdf(x, 0, 1), stats.norm.pdf(x, 1.5, 0.7)


def expected_loss(name, logits, x, p, q):
    """The discriminator's loss over real ~ p and generated ~ q."""
    loss = getattr(adversarial, name)().discriminator
    zero = jnp.zeros_like(logits)
    on_real = loss(logits, zero) - loss(zero, zero)
    on_fake = loss(zero, logits)
    return integrate.trapezoid(p * np.asarray(on_real) + q * np.asarray(on_fake), x)


def test_the_optimal_discriminator_of_two_gaussians_measures_their_divergence():
    x, p, q = densities()
    # D = p / (p + q), as a logit (Goodfellow et al. 2014, proposition 1).
    best = expected_loss("non_saturating", jnp.float32(np.log(p) - np.log(q)), x, p, q)
    mean = (p + q) / 2
    jsd = integrate.trapezoid(p * np.log(p / mean) + q * np.log(q / mean), x) / 2
    assert best == pytest.approx(2 * np.log(2) - 2 * jsd, abs=1e-5)
    # Least squares: b = p / (p + q) (Mao et al. 2017, equation 5); hinge: the sign of p - q.
    optimal = {"least_squares": p / (p + q), "hinge": np.sign(p - q)}
    for name, logits in optimal.items():
        best = expected_loss(name, jnp.float32(logits), x, p, q)
        for change in (0.1 * np.sin(x), -0.1 * np.cos(3 * x), 0.2 * np.ones_like(x)):
            assert expected_loss(name, jnp.float32(logits + change), x, p, q) > best
    # Half the loss of the hinge's optimum is 1 minus the total variation distance.
    variation = integrate.trapezoid(np.abs(p - q), x) / 2
    assert best == pytest.approx(expected_loss("hinge", jnp.sign(p - q), x, p, q))
    assert best / 2 == pytest.approx(1 - variation, abs=1e-3)


WEIGHTS = jax.random.normal(KEY, (12, 6)) * 0.6


def critic(images):
    hidden = jnp.tanh(images.reshape(images.shape[0], -1) @ WEIGHTS)
    return hidden @ jnp.array([1.0, -2.0, 0.5, 1.5, -1.0, 0.7])


def numerical_slopes(images, step=1e-3):
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    slopes = np.zeros_like(flat)
    weights, last = np.asarray(WEIGHTS, np.float64), np.array([1.0, -2.0, 0.5, 1.5, -1.0, 0.7])
    value = lambda x: np.tanh(x @ weights) @ last
    for place in range(flat.shape[1]):
        move = np.eye(flat.shape[1])[place] * step
        slopes[:, place] = (value(flat + move) - value(flat - move)) / (2 * step)
    return slopes


def images(seed):
    return jax.random.normal(jax.random.key(seed), (5, 2, 3, 2)) * 0.5


def test_penalties_are_those_of_finite_differences():
    real, fake, uniform = images(1), images(2), jnp.linspace(0, 1, 5)
    wanted = (numerical_slopes(real) ** 2).sum(1)
    np.testing.assert_allclose(adversarial.r1(critic, real), wanted, rtol=1e-4)
    share = np.asarray(uniform)[:, None, None, None]
    norms = np.linalg.norm(numerical_slopes(share * real + (1 - share) * fake), axis=1)
    found = adversarial.gradient_penalty(critic, real, fake, uniform)
    np.testing.assert_allclose(found, (norms - 1) ** 2, rtol=1e-4)


def test_the_gradient_of_a_penalty_is_that_of_finite_differences():
    def penalty(scale):
        return adversarial.r1(lambda x: critic(scale * x), images(1)).sum()

    numerical = (penalty(1.02) - penalty(0.98)) / 0.04
    assert float(jax.grad(penalty)(1.0)) == pytest.approx(float(numerical), rel=1e-3)


def test_a_linear_critic_has_the_slope_of_its_weights():
    weights = jnp.array([0.6, 0.8])
    linear = lambda x: x.reshape(x.shape[0], -1) @ weights  # slope 1
    batch = jnp.ones((3, 1, 2, 1))
    np.testing.assert_allclose(adversarial.r1(linear, batch), 1.0, rtol=1e-6)
    found = adversarial.gradient_penalty(linear, batch, -batch, jnp.zeros(3))
    np.testing.assert_allclose(found, 0.0, atol=1e-6)
    # Patches are averaged: a critic that says the same twice has the same slope.
    twice = lambda x: jnp.stack([linear(x), linear(x)], axis=1)
    np.testing.assert_allclose(adversarial.r1(twice, batch), 1.0, rtol=1e-6)


def test_a_flat_critic_has_a_finite_gradient():
    flat = lambda scale: lambda x: jnp.sum(0.0 * scale * x, axis=(1, 2, 3))
    batch = jnp.ones((3, 1, 2, 1))
    penalty = lambda s: adversarial.gradient_penalty(flat(s), batch, batch, jnp.zeros(3)).sum()
    assert np.isfinite(jax.grad(penalty)(1.0))
