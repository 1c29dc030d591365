"""Tests of samples: they clear a fair sampler and notice an unfair one."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from launch.audits import sampler
from launch.audits.fixtures import AuditedModel
from launch.audits.grids import BINARY, Grid

PAIR = Grid((1, 2, 1), (0, 100, 255))


def test_chi_square_notices_a_loaded_die_and_clears_a_fair_one():
    rng = np.random.default_rng(0)
    loaded = np.array([0.14, 0.16, 0.16, 0.17, 0.17, 0.2])
    fair = np.full(6, 1 / 6)
    p_values = [sampler.chi_square(rng.choice(6, 5000, p=fair), fair) for _ in range(200)]
    assert 0.02 < np.mean(np.array(p_values) < 0.1) < 0.2  # uniform, as p values must be
    assert sampler.chi_square(rng.choice(6, 5000, p=loaded), fair) < 1e-4
    rare = np.r_[np.full(1000, 1e-5), 0.99]
    numbers = rng.choice(1001, 5000, p=rare)
    assert sampler.chi_square(numbers, rare) > 1e-3
    assert sampler.chi_square(np.where(numbers == 1000, 0, numbers), rare) < 1e-10


def test_chi_square_of_a_known_table():
    # 30 and 70 of 100 where 50 are expected of each: 16 with 1 degree of freedom.
    numbers = np.repeat([0, 1], [30, 70])
    assert sampler.chi_square(numbers, np.array([0.5, 0.5])) == pytest.approx(6.334e-5, rel=1e-3)
    # 10 and 20 expected are one group of 30 beside 70: (40 - 30)^2 / 30 + (60 - 70)^2 / 70.
    numbers = np.repeat([0, 1, 2], [15, 25, 60])
    found = sampler.chi_square(numbers, np.array([0.1, 0.2, 0.7]))
    assert found == pytest.approx(0.02909, rel=1e-3)
    # 25 expected are a group of their own: 10^2 / 25 + 0 + 10^2 / 50 with 2 degrees of freedom.
    found = sampler.chi_square(numbers, np.array([0.25, 0.25, 0.5]))
    assert found == pytest.approx(np.exp(-3), rel=1e-3)
    # Eleven of 10 make four groups, of 30, 20, 30 and 30, and no fifth of what is left.
    numbers = np.repeat(np.arange(11), [10] * 9 + [15, 5])
    assert sampler.chi_square(numbers, np.full(11, 1 / 11)) == pytest.approx(1.0)
    assert sampler.chi_square(np.zeros(20, int), np.array([0.5, 0.5])) == 1.0  # one group


def test_the_mean_log_probability_is_tested_too():
    probability = np.array([0.25, 0.75])
    log_prob = np.log(probability)
    numbers = np.repeat([0, 1], [250, 750])
    passed, detail = sampler.as_often(numbers, probability)
    exact = probability @ log_prob
    assert passed
    assert detail.startswith("1,000 samples: chi-square p 1; mean log p")
    assert f"exact {exact:.4f} (z " in detail
    numbers = np.repeat([0, 1], [200, 800])
    passed, detail = sampler.as_often(numbers, probability)
    spread = np.sqrt(probability @ (log_prob - exact) ** 2 / 1000)
    assert f"(z {(log_prob[numbers].mean() - exact) / spread:+.1f})" in detail
    assert passed  # 3.65 standard errors: less than 3.9, and p 2.6e-4
    assert not sampler.as_often(np.repeat([0, 1], [190, 810]), probability)[0]
    assert "(z +0.0)" in sampler.as_often(np.repeat([0, 1], 50), np.array([0.5, 0.5]))[1]


@pytest.mark.parametrize(("z", "passes"), [(3.8, True), (4.0, False), (-3.8, True), (-4.0, False)])
def test_a_mean_log_probability_off_by_3_9_errors_fails_where_no_outcome_stands_out(z, passes):
    probability = np.arange(50, 100) / np.arange(50, 100).sum()
    log_prob, count = np.log(probability), 1_000_000
    apart = log_prob - probability @ log_prob
    tilt = z / np.sqrt(count * (probability @ apart**2))
    numbers = np.repeat(
        np.arange(50), np.round(count * probability * (1 + tilt * apart)).astype(int)
    )
    assert sampler.chi_square(numbers, probability) > 0.99
    assert sampler.as_often(numbers, probability)[0] == passes


def test_means_tell_what_was_drawn_and_how_often():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(8))
    table = probability.reshape(2, 2, 2)  # of the third, the second, the first value
    first = table[:, :, 1].sum() / table.sum()
    second = table[:, 1].sum(0) / table.sum((0, 1))
    third = table[1] / table.sum(0)
    rows = np.array([[first, second[n % 2], third[n // 2, n % 2]] for n in range(4)])
    drawn = rng.integers(0, 4, 5000)
    found, weight = sampler.conditional_means(rows[drawn], probability)
    np.testing.assert_array_equal(found, drawn)
    np.testing.assert_allclose(weight, table.sum(0).reshape(-1))
    for bad in (0, 4999):
        means = rows[drawn]
        means[bad] += 0.01
        assert sampler.conditional_means(means, probability)[0] is None


def test_means_that_are_alike_count_together():
    found, weight = sampler.conditional_means(np.full((3, 3), 0.5), np.full(8, 1 / 8))
    np.testing.assert_array_equal(found, [0, 0, 0])
    np.testing.assert_allclose(weight, [1, 0, 0, 0])


def test_samples_are_recognised_as_images_of_a_grid():
    samples = np.array([[0, 0], [100, 0], [255.05, 0], [0, 99.95], [255, 255]])
    assert sampler.image_numbers(samples, PAIR).tolist() == [0, 1, 2, 3, 8]
    for value in (99.0, 101.0, 254.0, 256.0, 0.3, np.nan):
        assert sampler.image_numbers(np.array([[0, 0], [0, value]]), PAIR) is None


def model(sample, **functions):
    """A model whose samples are a function of their seeds."""
    task = {"sample": sample, "conditionals": None} | functions
    return AuditedModel(SimpleNamespace(**task), None, {}, 1, "mine")


def drawn(levels, period):
    """A sampler of one pixel pairs: seeds give the values by turns."""
    table = jnp.array(levels) / 255.0
    return lambda state, batch, rng: table[batch["index"] % period].reshape(-1, 1, 2, 1)


def test_a_sampler_by_turns_is_as_often_as_its_probabilities():
    sample = drawn([[0, 0], [100, 0], [0, 100], [0, 100]], 4)
    log_prob = np.full(9, -np.inf)
    log_prob[[0, 1, 3]] = np.log([0.25, 0.25, 0.5])
    found = sampler.sampler(model(sample), PAIR, log_prob)
    assert (found.check, found.on, found.outcome) == ("sampler", "mine", "pass")
    assert found.detail.startswith("20,000 samples: chi-square p 1;")
    log_prob[[0, 1, 3]] = np.log([0.3, 0.2, 0.5])
    assert sampler.sampler(model(sample), PAIR, log_prob).outcome == "FAIL"


def test_what_no_test_applies_to():
    log_prob = np.full(9, np.log(1 / 9))
    found = sampler.sampler(model(None), PAIR, log_prob)
    assert (found.outcome, found.detail) == ("n/a", "the task has no sample()")
    between = drawn([[0, 0], [50, 0]], 2)
    found = sampler.sampler(model(between), PAIR, log_prob)
    assert (found.outcome, found.detail) == ("n/a", "sample() gives values between the levels")
    autoregressive = model(between, conditionals=True)
    assert sampler.sampler(autoregressive, PAIR, log_prob).outcome == "n/a"  # not two levels
    grey = lambda state, batch, rng: jnp.full((len(batch["index"]), 3, 3, 1), 0.3)
    found = sampler.sampler(model(grey, conditionals=True), BINARY, np.full(512, -np.log(512)))
    assert found.outcome == "FAIL"
    assert found.detail.startswith("sample() gives neither draws nor the means")
