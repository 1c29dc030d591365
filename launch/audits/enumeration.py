"""Probabilities on grids so small that every image can be listed."""

from typing import NamedTuple

import jax
import numpy as np
from scipy.stats import chi2

from launch.audits.checks import CLOSE, FAIL, NONE, Finding, finding
from launch.audits.fixtures import (
    SEED,
    AuditedModel,
    ModelFactory,
    examples,
    first_that_fits,
    in_chunks,
    key,
)

TOLERANCE = 1e-5
SAMPLES = 20_000
EXPECTED = 25  # samples a cell of the chi-square test
REPEATS = 4  # of an estimated likelihood
LEARNING = 200  # steps before one
UNSURE = 0.1  # standard error of an estimated sum that tells nothing
SURE = 1e-4  # chance of a false alarm of each test of samples


class Grid(NamedTuple):
    """All images of a size.

    Attributes:
      shape: (H, W, C).
      levels: grey levels that occur.
    """

    shape: tuple[int, int, int]
    levels: tuple[int, ...]

    @property
    def images(self) -> np.ndarray:
        """Every image, uint8 [N, H, W, C]; image n has the digits of n."""
        size, base = int(np.prod(self.shape)), len(self.levels)
        digits = np.arange(base**size)[:, None] // base ** np.arange(size) % base
        return np.array(self.levels, np.uint8)[digits].reshape(-1, *self.shape)

    @property
    def title(self) -> str:
        """Such as "512 images of 3 x 3 in 2 levels"."""
        height, width, _ = self.shape
        count = len(self.levels) ** int(np.prod(self.shape))
        return f"{count:,} images of {height} x {width} in {len(self.levels)} levels"


BINARY = Grid((3, 3, 1), (0, 255))
GREY = Grid((1, 2, 1), tuple(range(256)))
ONE_PIXEL = Grid((1, 1, 1), tuple(range(256)))


def total_probability(builder: ModelFactory, untrained: bool, offset: float) -> list[Finding]:
    """Whether probabilities sum to one, and whether the sampler draws by them.

    Which levels a model knows its task does not say: a binary grid is tried first, then
    one of 256 levels, then one of as many as that one's sum tells of.

    Args:
      builder: makes the task at any size.
      untrained: of fresh parameters.
      offset: bits that are added to a density; 0 for probabilities.
    """
    name = "sum to one"
    whose = "untrained" if untrained or builder.trained is None else "trained"
    if offset:
        return [Finding(name, whose, NONE, "the model gives densities, not probabilities")]
    subject, reason = first_that_fits(builder, [BINARY.shape], untrained=untrained)
    if subject is None:
        return [Finding(name, whose, NONE, reason)]
    if whose == "trained" and not subject.title.startswith("trained"):
        return [Finding(name, whose, NONE, "the run's parameters belong to its own image size")]
    if subject.task.log_prob is not None:
        return _exact(builder, subject, untrained)
    sums = jax.eval_shape(
        subject.task.score_step or subject.task.eval_step,
        subject.state,
        examples(subject, 2),
        key(4),
    )
    if "nll" not in sums:
        why = "the task has no log_prob() and its sums no nll"
        return [Finding(name, subject.title, NONE, why)]
    return [_estimated(builder, subject, untrained)]


def _exact(builder, subject, untrained):
    tried, grids = [], [BINARY, GREY]
    for grid in grids:  # which grows where the sum over 256 levels tells of fewer
        if grid is GREY:
            subject, reason = first_that_fits(builder, [GREY.shape], untrained=untrained)
            if subject is None:
                tried.append(reason)
                break
        labels = sorted({0, subject.classes - 1})
        logs = [_log_probs(subject, grid, label) for label in labels]
        totals = [float(np.exp(log).sum()) for log in logs]
        worst = max(totals, key=lambda total: abs(total - 1) if np.isfinite(total) else np.inf)
        told = f"{grid.title}: {worst:.7f}" + (f" (of {len(labels)} classes)" if labels[1:] else "")
        if abs(worst - 1) <= TOLERANCE:
            found = finding("sum to one", subject, True, told)
            return [found, sampler(subject, grid, logs[0])]
        tried.append(told)
        if grid is GREY:
            grids += coarser(worst)
    return [Finding("sum to one", subject.title, FAIL, "; ".join(tried))]


def coarser(total: float) -> list[Grid]:
    """The grid of a model that rounds to fewer levels than 256, by its sum over `GREY`.

    Each of its images is then counted (256 / levels)^2 times.
    """
    levels = round(256 / np.sqrt(total)) if 1 < total < np.inf else 256
    if not 2 <= levels < 256:
        return []
    return [Grid(GREY.shape, tuple(map(int, np.round(np.linspace(0, 255, levels)))))]


def _log_probs(subject: AuditedModel, grid: Grid, label: int) -> np.ndarray:
    """log p of every image of a grid, float64 [N], nats."""
    batch = _batch(subject, grid, label)
    run = jax.jit(lambda batch: subject.task.log_prob(subject.state, batch, key(4)))
    return in_chunks(run, batch, min(len(batch["index"]), 4096)).astype(np.float64)


def _batch(subject, grid, label):
    images = grid.images
    batch = examples(subject, len(images), images)
    return batch | ({"label": np.full(len(images), label, np.int32)} if "label" in batch else {})


def _estimated(builder, subject, untrained):
    """The sum of estimated probabilities, each unbiased, against one within its error.

    An encoder that does not know its decoder gives estimates of endless variance, so a
    fresh model first learns the grid for a few steps.
    """
    tried, fresh = [], subject.title.startswith("untrained")
    for grid in (BINARY, ONE_PIXEL):
        if grid is ONE_PIXEL:
            subject, reason = first_that_fits(builder, [grid.shape], untrained=untrained)
            if subject is None:
                tried.append(reason)
                break
        subject = learned(subject, grid) if fresh else subject
        found = np.exp(-_estimates(subject, grid))
        total = float(found.mean(0).sum())
        error = float(np.sqrt(np.sum(found.var(0, ddof=1) / REPEATS)))
        told = f"{grid.title}, estimated: {total:.4f} +- {error:.4f}"
        if abs(total - 1) <= 4 * error + TOLERANCE and error <= UNSURE:
            return finding("sum to one", subject, True, told)
        tried.append(told)
    return Finding("sum to one", subject.title, FAIL, "; ".join(tried))


def learned(subject: AuditedModel, grid: Grid) -> AuditedModel:
    """A subject after `LEARNING` steps on random images of a grid, some likelier than others."""
    rng, size = np.random.default_rng(SEED), 64
    state = jax.jit(subject.task.init)(key(7), examples(subject, size))
    step = jax.jit(subject.task.train_step)
    share = rng.uniform(0.2, 0.8, grid.shape)
    for number in range(LEARNING):
        high = rng.uniform(size=(size, *grid.shape)) < share
        images = np.where(high, grid.levels[-1], grid.levels[0]).astype(np.uint8)
        batch = examples(subject, size, images)
        state, _ = step(state, batch, jax.random.fold_in(key(8), number))
    shape = " x ".join(map(str, subject.shape))
    return subject._replace(state=state, title=f"{LEARNING} steps, {shape}")


def _estimates(subject: AuditedModel, grid: Grid) -> np.ndarray:
    """Estimated -log p of every image, [REPEATS, N], nats."""
    score = subject.task.score_step or subject.task.eval_step
    alone = lambda row: jax.tree.map(lambda leaf: leaf[None], row)
    one = lambda row, rng: score(subject.state, alone(row), rng)["nll"]
    run, batch = jax.jit(jax.vmap(one, (0, None))), _batch(subject, grid, 0)
    keys = [jax.random.fold_in(key(5), repeat) for repeat in range(REPEATS)]
    found = [in_chunks(lambda part, rng=rng: run(part, rng), batch, 256) for rng in keys]
    return np.stack(found).astype(np.float64)


def sampler(subject: AuditedModel, grid: Grid, log_prob: np.ndarray) -> Finding:
    """Whether samples come as often as their probabilities say.

    A chi-square test over images, or groups of images of like probability where these
    are rare, and a z test of the mean log-likelihood against the exact one.
    """
    name = "sampler"
    if subject.task.sample is None:
        return Finding(name, subject.title, NONE, "the task has no sample()")
    seeds = {"index": np.arange(SAMPLES, dtype=np.int32), "label": np.zeros(SAMPLES, np.int32)}
    run = jax.jit(lambda batch: subject.task.sample(subject.state, batch, key(6)))
    drawn = in_chunks(run, seeds, 2000).reshape(SAMPLES, -1) * 255.0
    number, probability = _draws(drawn, grid), np.exp(log_prob)
    if number is None:
        if subject.task.conditionals is None or grid is not BINARY:
            why = "sample() gives values between the levels"
            return Finding(name, subject.title, NONE, why)
        number, probability = conditional_means(drawn / 255.0, grid, probability)
        if number is None:
            why = "sample() gives neither draws nor the means of values given those before"
            return Finding(name, subject.title, FAIL, why)
    good, detail = _as_often(number, probability)
    return finding(name, subject, good, detail)


def _draws(drawn: np.ndarray, grid: Grid) -> np.ndarray | None:
    """Which image of a grid each sample is, values [N, D] of 255; None if some is none."""
    base = len(grid.levels)
    digits = np.minimum(np.searchsorted(grid.levels, np.round(drawn) - 0.5), base - 1)
    if not np.abs(np.array(grid.levels)[digits] - drawn).max() <= 0.1:
        return None
    return (digits * base ** np.arange(digits.shape[1])).sum(1)


def conditional_means(
    drawn: np.ndarray, grid: Grid, probability: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Recognises samples that show p(x_i = 1 | x before i) in place of x_i.

    The values drawn can be told from what they made of the means after them.

    Args:
      drawn: samples [N, D] in [0, 1].
      grid: of two levels.
      probability: of every image.

    Returns:
      Which row of means each sample is, None if some is none; the rows' probabilities.
    """
    count, size = len(probability), drawn.shape[1]
    number = np.arange(count)
    before, rows = np.array([probability.sum()]), []
    for place in range(size):
        after = np.bincount(number % 2 ** (place + 1), probability)
        prefix = number % 2**place
        rows.append(after[prefix + 2**place] / before[prefix])
        before = after
    rows = np.stack(rows, 1)[: count // 2]  # nothing follows the last value, so it is not shown
    weight = probability[: count // 2] + probability[count // 2 :]
    apart = np.abs(rows[:, None] - rows).max(-1)
    same = np.argmax(apart < CLOSE, axis=1)  # rows that look alike are one
    nearest, distance = np.empty(len(drawn), int), np.empty(len(drawn))
    for start in range(0, len(drawn), 2000):
        part = np.abs(drawn[start : start + 2000, None] - rows).max(-1)
        nearest[start : start + 2000] = part.argmin(1)
        distance[start : start + 2000] = part.min(1)
    found = same[nearest] if (distance <= CLOSE).all() else None
    return found, np.bincount(same, weight, minlength=len(weight))


def _as_often(number: np.ndarray, probability: np.ndarray) -> tuple[bool, str]:
    """Whether things come as often as their probabilities say, and the numbers."""
    p_value = chi_square(number, probability)
    log_prob = np.log(np.maximum(probability, 1e-300))
    mean = probability @ log_prob
    spread = np.sqrt(probability @ (log_prob - mean) ** 2 / len(number))
    seen = log_prob[number].mean()
    z = (seen - mean) / spread if spread > 1e-6 else 0.0
    detail = f"chi-square p {p_value:.3g}; mean log p {seen:.4f}, exact {mean:.4f} (z {z:+.1f})"
    return bool(p_value >= SURE and abs(z) < 3.9), f"{len(number):,} samples: {detail}"


def chi_square(number: np.ndarray, probability: np.ndarray) -> float:
    """p value of draws under probabilities; rare ones are put together, least first."""
    order = np.argsort(probability)
    expected = probability[order] * len(number)
    # A new cell begins whenever the sum before it has passed another multiple of EXPECTED.
    cells = max(int(expected.sum() // EXPECTED), 1)
    cell = np.minimum((np.cumsum(expected) - expected) // EXPECTED, cells - 1).astype(int)
    _, cell = np.unique(cell, return_inverse=True)
    counts = np.bincount(number, minlength=len(probability))[order]
    seen, wanted = np.bincount(cell, counts), np.bincount(cell, expected)
    if len(wanted) < 2:
        return 1.0
    return float(chi2.sf(((seen - wanted) ** 2 / wanted).sum(), len(wanted) - 1))
