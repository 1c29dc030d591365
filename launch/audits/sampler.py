"""The check that samples occur as often as their probabilities say."""

import jax
import numpy as np
from scipy.stats import chi2

from launch.audits.checks import CLOSE, FAIL, NONE, Finding, finding
from launch.audits.fixtures import AuditedModel, in_chunks, key
from launch.audits.grids import BINARY, Grid

SAMPLES = 20_000
EXPECTED = 25  # samples that a cell of the chi-square test expects at least
SIGNIFICANCE = 1e-4  # probability of a false alarm of the chi-square test
MAX_Z = 3.9  # the same of the z test: P(|z| >= 3.9) = 1e-4


def sampler(model: AuditedModel, grid: Grid, log_prob: np.ndarray) -> Finding:
    """Checks that a task samples images as often as their probabilities say.

    Two tests: chi-square over images, with those of small probability grouped, and a z
    test of the mean log-likelihood of the samples against the exact one.

    Args:
      model: of the grid's image size.
      grid: all images that the model can give.
      log_prob: float64 [N], log probability of every image of the grid, nats.
    """
    name = "sampler"
    if model.task.sample is None:
        return Finding(name, model.title, NONE, "the task has no sample()")
    seeds = {"index": np.arange(SAMPLES, dtype=np.int32), "label": np.zeros(SAMPLES, np.int32)}
    run = jax.jit(lambda batch: model.task.sample(model.state, batch, key(6)))
    samples = in_chunks(run, seeds, 2000).reshape(SAMPLES, -1) * 255.0
    numbers, probability = image_numbers(samples, grid), np.exp(log_prob)
    if numbers is None:
        if model.task.conditionals is None or grid is not BINARY:
            why = "sample() gives values between the levels"
            return Finding(name, model.title, NONE, why)
        numbers, probability = conditional_means(samples / 255.0, probability)
        if numbers is None:
            why = "sample() gives neither draws nor the means of values given those before"
            return Finding(name, model.title, FAIL, why)
    return finding(name, model, *as_often(numbers, probability))


def image_numbers(samples: np.ndarray, grid: Grid) -> np.ndarray | None:
    """Recognises samples as images of a grid.

    Args:
      samples: [N, D], values from 0 to 255; D is the number of values of an image.
      grid: the images.

    Returns:
      The number of each sample's image in the grid, int [N]; None if a sample is not in it.
    """
    base = len(grid.levels)
    digits = np.minimum(np.searchsorted(grid.levels, np.round(samples) - 0.5), base - 1)
    if not np.abs(np.array(grid.levels)[digits] - samples).max() <= 0.1:
        return None
    return (digits * base ** np.arange(digits.shape[1])).sum(1)


def conditional_means(
    samples: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Recognises samples that show p(x_i = 1 | x before i) in place of x_i, of binary images.

    The values x_i were drawn but are not shown; the means after them reveal them.

    Args:
      samples: float [N, D] in [0, 1].
      probability: float [2^D] of every image, by number.

    Returns:
      Which row of means each sample is, int [N], None if a sample is no such row; and the
      probability of each row, float [2^(D-1)].
    """
    count, size = len(probability), samples.shape[1]
    number = np.arange(count)
    before, rows = np.array([probability.sum()]), []
    for place in range(size):
        after = np.bincount(number % 2 ** (place + 1), probability)
        prefix = number % 2**place
        rows.append(after[prefix + 2**place] / before[prefix])
        before = after
    rows = np.stack(rows, 1)[: count // 2]  # no mean follows the last value, so it is not shown
    weight = probability[: count // 2] + probability[count // 2 :]
    apart = np.abs(rows[:, None] - rows).max(-1)
    same = np.argmax(apart < CLOSE, axis=1)  # rows that are alike count as the first of them
    nearest, distance = np.empty(len(samples), int), np.empty(len(samples))
    for start in range(0, len(samples), 2000):
        part = np.abs(samples[start : start + 2000, None] - rows).max(-1)
        nearest[start : start + 2000] = part.argmin(1)
        distance[start : start + 2000] = part.min(1)
    numbers = same[nearest] if (distance <= CLOSE).all() else None
    return numbers, np.bincount(same, weight, minlength=len(weight))


def as_often(numbers: np.ndarray, probability: np.ndarray) -> tuple[bool, str]:
    """Tests whether outcomes occur as often as their probabilities say.

    Args:
      numbers: int [N], the outcomes.
      probability: float [K] of each outcome.

    Returns:
      Whether both tests pass, and their numbers in words.
    """
    p_value = chi_square(numbers, probability)
    log_prob = np.log(np.maximum(probability, 1e-300))
    mean = probability @ log_prob
    error = np.sqrt(probability @ (log_prob - mean) ** 2 / len(numbers))
    sample_mean = log_prob[numbers].mean()
    z = (sample_mean - mean) / error if error > 1e-6 else 0.0
    detail = (
        f"{len(numbers):,} samples: chi-square p {p_value:.3g}; "
        f"mean log p {sample_mean:.4f}, exact {mean:.4f} (z {z:+.1f})"
    )
    return bool(p_value >= SIGNIFICANCE and abs(z) < MAX_Z), detail


def chi_square(numbers: np.ndarray, probability: np.ndarray) -> float:
    """p value of Pearson's chi-square test; outcomes of small probability are grouped.

    Args:
      numbers: int [N], the outcomes.
      probability: float [K] of each outcome.

    Returns:
      The p value; 1 if there is only one group.
    """
    order = np.argsort(probability)
    expected = probability[order] * len(numbers)
    # A new cell begins where the sum before it passes another multiple of EXPECTED.
    cells = max(int(expected.sum() // EXPECTED), 1)
    cell = np.minimum((np.cumsum(expected) - expected) // EXPECTED, cells - 1).astype(int)
    _, cell = np.unique(cell, return_inverse=True)
    counts = np.bincount(numbers, minlength=len(probability))[order]
    observed, expected = np.bincount(cell, counts), np.bincount(cell, expected)
    if len(expected) < 2:
        return 1.0
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), len(expected) - 1))
