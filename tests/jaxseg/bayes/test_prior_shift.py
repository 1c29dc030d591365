import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from jaxseg.bayes import prior_shift

estimate = jax.jit(prior_shift.estimate_prior)
frequencies = hnp.arrays(np.float32, (4,), elements=st.floats(0.015625, 1, width=32))
outputs = hnp.arrays(np.float32, (5, 4), elements=st.floats(0.0009765625, 1, width=32))


def test_by_hand():
    found = prior_shift.shift_prior(
        np.array([0.6, 0.4]), np.array([0.5, 0.5]), np.array([0.2, 0.8])
    )
    np.testing.assert_allclose(found, [0.12 / 0.44, 0.32 / 0.44], rtol=1e-6)


@given(outputs, frequencies, frequencies, st.floats(0.1, 10))
def test_shift_is_bayes_rule(posterior, old, new, scale):
    posterior /= posterior.sum(-1, keepdims=True)
    shifted = prior_shift.shift_prior(posterior, old, new)
    np.testing.assert_allclose(shifted.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(prior_shift.shift_prior(posterior, old, old), posterior, rtol=1e-4)
    rescaled = prior_shift.shift_prior(posterior * scale, old * scale, new / scale)
    np.testing.assert_allclose(rescaled, shifted, rtol=1e-4)
    back = prior_shift.shift_prior(shifted, new, old)
    np.testing.assert_allclose(back, posterior, rtol=1e-3, atol=1e-6)


def test_impossible_classes():
    unseen = prior_shift.shift_prior(
        np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.array([0.5, 0.5])
    )
    assert unseen.tolist() == [1.0, 0.0]
    forbidden = prior_shift.shift_prior(
        np.array([[1.0, 0.0, 0.0]]), np.full(3, 1 / 3), np.array([0.0, 1.0, 3.0])
    )
    assert forbidden.tolist() == [[0.0, 0.25, 0.75]]


def classified(rng, count, target, old):
    """Posteriors under the frequencies `old` of normal classes with frequencies `target`."""
    truth = rng.choice(len(target), count, p=target)
    x = rng.normal(2.0 * truth, 1.0)
    joint = old * stats.norm.pdf(x[:, None], 2.0 * np.arange(len(target)))
    return truth, np.float32(joint / joint.sum(-1, keepdims=True))


@pytest.mark.parametrize("target", [(0.1, 0.2, 0.7), (1 / 3, 1 / 3, 1 / 3), (0.9, 0.1, 0.0)])
def test_em_recovers_a_known_shift(target):
    old = np.array([0.6, 0.3, 0.1])
    truth, posterior = classified(np.random.default_rng(0), 20_000, target, old)
    found = estimate(posterior, old)
    np.testing.assert_allclose(found, target, atol=0.015)
    before = (posterior.argmax(-1) == truth).mean()
    after = (prior_shift.shift_prior(posterior, old, found).argmax(-1) == truth).mean()
    assert after > before + (0.05 if target[2] > 0.5 else 0.0)


def test_em_is_the_maximum_of_the_likelihood():
    old = np.array([0.6, 0.3, 0.1])
    _, posterior = classified(np.random.default_rng(1), 2000, (0.2, 0.5, 0.3), old)
    found = np.asarray(estimate(posterior, old))

    def log_likelihood(frequencies):
        return np.log(posterior @ (frequencies / old)).mean()

    for other in np.random.default_rng(2).dirichlet(200 * found + 1e-3, 200):
        assert log_likelihood(found) >= log_likelihood(other) - 1e-6


def test_weights_mask_pixels_out():
    old = np.array([0.6, 0.3, 0.1])
    _, posterior = classified(np.random.default_rng(3), 20_000, (0.1, 0.2, 0.7), old)
    grid = posterior.reshape(100, 200, 3).copy()
    grid[50:] = np.nan
    mask = np.arange(100)[:, None] < np.full((1, 200), 50)
    np.testing.assert_allclose(estimate(grid, old, mask), (0.1, 0.2, 0.7), atol=0.02)
    np.testing.assert_allclose(estimate(grid, old, np.zeros_like(mask)), old, rtol=1e-6)


def test_em_stops_after_a_thousand_steps_or_below_a_millionth():
    # Outputs that hardly tell the classes apart, so that every step is short.
    old = np.float32([0.6, 0.3, 0.1])
    noise = np.random.default_rng(4).normal(size=(50, 3))
    posterior = np.float32(old * np.exp(0.05 * noise))
    posterior /= posterior.sum(-1, keepdims=True)
    run = lambda *options: np.asarray(estimate(posterior, old, None, *options))
    short = jax.jit(lambda: prior_shift.estimate_prior(posterior, old, tolerance=0.0))()
    np.testing.assert_allclose(short, run(1000, 0.0), rtol=1e-6)
    assert np.abs(run(2000, 0.0) / short - 1).max() > 1e-4
    sharp = np.float32(old * np.exp(0.5 * noise))
    sharp /= sharp.sum(-1, keepdims=True)
    steps = [np.asarray(estimate(sharp, old, None, number, 0.0)) for number in range(300)]
    changes = np.abs(np.diff(steps, axis=0)).max(-1)
    last = int(np.argmax(changes <= 1e-6)) + 1  # the first step that changes too little
    assert 3 < last < 299
    np.testing.assert_allclose(estimate(sharp, old), steps[last], rtol=1e-6)
