import numpy as np
import pytest
from scipy import stats

from jaxgen.metrics.kernel_distance import kernel_distance


def by_hand(x, y):
    """The unbiased estimate as a double loop (Gretton et al. 2012, equation 3)."""
    kernel = lambda a, b: (np.dot(a, b) / len(a) + 1.0) ** 3
    mean = lambda terms: float(np.mean(list(terms)))
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    within_x = mean(kernel(x[i], x[j]) for i, j in pairs)
    pairs = [(i, j) for i in range(len(y)) for j in range(len(y)) if i != j]
    within_y = mean(kernel(y[i], y[j]) for i, j in pairs)
    return within_x + within_y - 2 * mean(kernel(a, b) for a in x for b in y)


def test_it_is_the_mean_of_the_blocks_double_loops():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 5)), rng.normal(0.5, 1, (13, 5))
    found = kernel_distance(x, y, seed=7, blocks=2)
    dealer = np.random.default_rng(7)
    real = x[dealer.permutation(9)[:8]].reshape(2, 4, 5)
    generated = y[dealer.permutation(13)[:12]].reshape(2, 6, 5)
    values = [by_hand(*pair) for pair in zip(real, generated, strict=True)]
    assert found.value == pytest.approx(np.mean(values), rel=1e-5)
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(2), rel=1e-4)


SIZE = 8


def expected(means, spreads):
    """The distance itself between normal features, by their moments up to the third."""

    def moments(mean, spread):
        m = np.full(SIZE, mean)
        second = np.outer(m, m) + spread**2 * np.eye(SIZE)
        unit = np.eye(SIZE)
        third = np.einsum("i,j,k->ijk", m, m, m)
        for pair in ("ij,k->ijk", "ik,j->ijk", "jk,i->ijk"):
            third += spread**2 * np.einsum(pair, unit, m)
        return m, second, third

    def kernel(a, b):
        # E (x . y)^n is the product of the two moments of order n, summed.
        first, second, third = (np.sum(p * q) for p, q in zip(a, b, strict=True))
        return 1 + 3 * first / SIZE + 3 * second / SIZE**2 + third / SIZE**3

    x, y = (moments(*pair) for pair in zip(means, spreads, strict=True))
    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (0.3, 1.2)])
def test_its_interval_covers_the_truth_at_the_stated_rate(mean, spread):
    truth = expected((0.0, mean), (1.0, spread))
    rng, trials = np.random.default_rng(1), 400
    t, values, covered = stats.t.ppf(0.95, 19), [], 0
    for seed in range(trials):
        x, y = rng.normal(size=(600, SIZE)), rng.normal(mean, spread, (800, SIZE))
        found = kernel_distance(x, y, seed)
        values.append(found.value)
        covered += abs(found.value - truth) <= t * found.standard_error
    # 90 % intervals: 400 trials are within 0.045 of the rate all but 3 times in 1,000.
    assert covered / trials == pytest.approx(0.9, abs=0.045)
    # And the estimate is unbiased: its mean is the truth to four standard errors.
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(trials)


def test_sorted_images_are_dealt_at_random():
    x, y = (np.random.default_rng(seed).normal(size=(400, SIZE)) for seed in (2, 3))
    plain = kernel_distance(x, y)
    assert plain == kernel_distance(x, y, seed=0) != kernel_distance(x, y, seed=1)
    found = kernel_distance(*(z[np.argsort(z[:, 0])] for z in (x, y)))
    assert abs(found.value) < 4 * found.standard_error
    # Blocks of neighbours in that order would differ far more than blocks at random.
    assert found.standard_error == pytest.approx(plain.standard_error, rel=0.6)


def test_too_few_images_are_refused():
    x = np.ones((39, 3))
    with pytest.raises(ValueError, match="at least 40 images of each kind; there are 39 and 39"):
        kernel_distance(x, x)
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(x, x, blocks=1)
