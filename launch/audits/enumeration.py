"""The check that probabilities sum to one, over image sizes where every image can be listed."""

import jax
import numpy as np

from launch.audits.checks import FAIL, NONE, Finding, finding
from launch.audits.fixtures import (
    SEED,
    AuditedModel,
    ModelFactory,
    examples,
    first_that_fits,
    in_chunks,
    key,
)
from launch.audits.grids import BINARY, GREY, ONE_PIXEL, Grid, coarser
from launch.audits.sampler import sampler

NAME = "sum to one"
TOLERANCE = 1e-5
REPEATS = 4  # of an estimated likelihood
TRAINING_STEPS = 200  # of a fresh model, before its likelihood is estimated
MAX_ERROR = 0.1  # standard error above which an estimated sum says nothing


def total_probability(factory: ModelFactory, untrained: bool, offset: float) -> list[Finding]:
    """Checks that probabilities sum to one, and that samples occur as often as they say.

    A task does not say which grey levels its model knows. So a binary grid is tried
    first, then one of 256 levels, then one with the number of levels that the sum over
    256 levels suggests.

    Args:
      factory: makes the model at any size.
      untrained: whether to check fresh parameters.
      offset: bits/dim that the metrics add for a density; 0 for probabilities.

    Returns:
      One finding, and that of the sampler where the probabilities are exact and sum to one.
    """
    title = "untrained" if untrained or factory.trained is None else "trained"
    if offset:
        return [Finding(NAME, title, NONE, "the model gives densities, not probabilities")]
    model, reason = first_that_fits(factory, [BINARY.shape], untrained)
    if model is None:
        return [Finding(NAME, title, NONE, reason)]
    if title == "trained" and not model.title.startswith("trained"):
        return [Finding(NAME, title, NONE, "the run's parameters belong to its own image size")]
    if model.task.log_prob is not None:
        return _exact(factory, model, untrained)
    evaluate = model.task.score_step or model.task.eval_step
    if "nll" not in jax.eval_shape(evaluate, model.state, examples(model, 2), key(4)):
        why = "the task has no log_prob() and its sums no nll"
        return [Finding(NAME, model.title, NONE, why)]
    return [_estimated(factory, model, untrained)]


def _exact(factory: ModelFactory, model: AuditedModel, untrained: bool) -> list[Finding]:
    """The sum of exact probabilities, and the check of the sampler."""
    tried, grids, title = [], [BINARY, GREY], model.title
    for grid in grids:  # which grows if the sum over 256 levels suggests fewer
        if grid is GREY:
            model, reason = first_that_fits(factory, [GREY.shape], untrained)
            if model is None:
                tried.append(reason)
                break
            title = model.title
        labels = sorted({0, model.classes - 1})
        logs = [_log_probs(model, grid, label) for label in labels]
        totals = [float(np.exp(log).sum()) for log in logs]
        worst = max(totals, key=lambda total: abs(total - 1) if np.isfinite(total) else np.inf)
        detail = f"{grid.title}: {worst:.7f}"
        detail += f" (of {len(labels)} classes)" if labels[1:] else ""
        if abs(worst - 1) <= TOLERANCE:
            return [finding(NAME, model, True, detail), sampler(model, grid, logs[0])]
        tried.append(detail)
        if grid is GREY:
            grids += coarser(worst)
    return [Finding(NAME, title, FAIL, "; ".join(tried))]


def _log_probs(model: AuditedModel, grid: Grid, label: int) -> np.ndarray:
    """log p of every image of a grid, float64 [N], nats."""
    batch = _batch(model, grid, label)
    run = jax.jit(lambda batch: model.task.log_prob(model.state, batch, key(4)))
    return in_chunks(run, batch, min(len(batch["index"]), 4096)).astype(np.float64)


def _batch(model: AuditedModel, grid: Grid, label: int) -> dict:
    """Every image of a grid, all of one label."""
    images = grid.images
    batch = examples(model, len(images), images)
    return batch | ({"label": np.full(len(images), label, np.int32)} if "label" in batch else {})


def _estimated(factory: ModelFactory, model: AuditedModel, untrained: bool) -> Finding:
    """The sum of estimated probabilities, each unbiased, against one within its error.

    The estimates of an encoder that does not know its decoder have no finite variance. So
    a fresh model first learns the images of the grid for a few steps.
    """
    tried, fresh, title = [], model.title.startswith("untrained"), model.title
    for grid in (BINARY, ONE_PIXEL):
        if grid is ONE_PIXEL:
            model, reason = first_that_fits(factory, [grid.shape], untrained)
            if model is None:
                tried.append(reason)
                break
        model = trained_on(model, grid) if fresh else model
        title = model.title
        probability = np.exp(-_estimates(model, grid))
        total = float(probability.mean(0).sum())
        error = float(np.sqrt(np.sum(probability.var(0, ddof=1) / REPEATS)))
        detail = f"{grid.title}, estimated: {total:.4f} +- {error:.4f}"
        if abs(total - 1) <= 4 * error + TOLERANCE and error <= MAX_ERROR:
            return finding(NAME, model, True, detail)
        tried.append(detail)
    return Finding(NAME, title, FAIL, "; ".join(tried))


def trained_on(model: AuditedModel, grid: Grid) -> AuditedModel:
    """A fresh model after `TRAINING_STEPS` steps on random images of a grid.

    Args:
      model: of the grid's image size; its own parameters are not used.
      grid: the images; each value has a probability of its own to be the highest level,
        and is the lowest level otherwise.
    """
    rng, size = np.random.default_rng(SEED), 64
    state = jax.jit(model.task.init)(key(7), examples(model, size))
    step = jax.jit(model.task.train_step)
    probability = rng.uniform(0.2, 0.8, grid.shape)
    for number in range(TRAINING_STEPS):
        high = rng.uniform(size=(size, *grid.shape)) < probability
        images = np.where(high, grid.levels[-1], grid.levels[0]).astype(np.uint8)
        batch = examples(model, size, images)
        state, _ = step(state, batch, jax.random.fold_in(key(8), number))
    shape = " x ".join(map(str, model.shape))
    return model._replace(state=state, title=f"{TRAINING_STEPS} steps, {shape}")


def _estimates(model: AuditedModel, grid: Grid) -> np.ndarray:
    """Estimates of -log p of every image, float64 [REPEATS, N], nats."""
    score = model.task.score_step or model.task.eval_step
    one_row = lambda row: jax.tree.map(lambda leaf: leaf[None], row)
    one = lambda row, rng: score(model.state, one_row(row), rng)["nll"]
    run, batch = jax.jit(jax.vmap(one, (0, None))), _batch(model, grid, 0)
    keys = [jax.random.fold_in(key(5), repeat) for repeat in range(REPEATS)]
    results = [in_chunks(lambda part, rng=rng: run(part, rng), batch, 256) for rng in keys]
    return np.stack(results).astype(np.float64)
