"""The checks of a density that follows images to noise: its sum, its divergence, its way back."""

import jax
import jax.numpy as jnp
import numpy as np

from launch.audits.checks import NONE, Finding, finding
from launch.audits.fixtures import (
    SEED,
    AuditedModel,
    ModelFactory,
    examples,
    first_that_fits,
    key,
)

TINY = (3, 3), (2, 2), (4, 4)  # sizes at which the density is summed, the first that fits
DRAWS = 2000  # of images, of which the sum is estimated
WIDER = 1.2  # how much wider they are drawn than the model draws them
# Share of noise in them: the images themselves lie in folds too thin to be hit by chance.
NOISE = 0.5
MAX_ERROR = 0.1  # standard error above which an estimated sum says nothing
LEAST = 50  # draws that count; fewer say nothing, whatever the error looks like
ROUNDING = 0.02  # of a sum: the steps of the integration
MOST_VALUES = 256  # of an image whose exact divergence is computed
PROBES, ROWS = 64, 4
MAX_Z = 4.5
BACK = 0.05  # largest difference of a value, from -1 to 1, after the way there and back


def density(factory: ModelFactory, own: AuditedModel) -> list[Finding]:
    """Checks the density of a task that has one.

    Args:
      factory: makes the model at any size.
      own: the model at its own size.

    Returns:
      Three findings; none for a task without a density.
    """
    if own.task.density is None:
        return []
    return [_sum(factory, own), _divergence(factory, own), _there_and_back(own)]


def _sum(factory: ModelFactory, own: AuditedModel) -> Finding:
    """Whether the density integrates to one: the mean of p(x) / q(x) over x of a normal q.

    q has the mean and, wider, the covariance of images that the model makes. Fresh parameters,
    moved by noise, are checked: those of a run belong to another size.
    """
    name = "integral"
    shapes = [(*size, own.shape[2]) for size in TINY]
    model, reason = first_that_fits(factory, shapes, untrained=True)
    if model is None:
        return Finding(name, "untrained", NONE, reason)
    batch, shape = examples(model, DRAWS), model.shape
    noise = jax.random.normal(key(9), (DRAWS, *shape))
    images = jax.jit(lambda z: model.task.from_noise(model.state, z, batch, NOISE))(noise)
    images = np.asarray(images, np.float64).reshape(DRAWS, -1)
    root = WIDER * np.linalg.cholesky(np.cov(images.T) + 1e-9 * np.eye(images.shape[1]))
    apart = np.random.default_rng(SEED).normal(size=images.shape)
    x = (images.mean(0) + apart @ root.T).reshape(-1, *shape).astype(np.float32)
    log_q = np.sum(-0.5 * apart**2 - 0.5 * np.log(2.0 * np.pi) - np.log(np.diag(root)), 1)
    log_p, _ = _run(model, 0, NOISE)(x, batch, key(11))
    ratio = np.exp(np.asarray(log_p, np.float64) - log_q)
    total, error = ratio.mean(), ratio.std() / np.sqrt(DRAWS)
    detail = f"{shape[0]} x {shape[1]} images, half noise: {total:.4f} +- {error:.4f}"
    counted = ratio.sum() ** 2 / np.maximum((ratio**2).sum(), 1e-300)
    if not (error <= MAX_ERROR and counted >= LEAST):
        return Finding(name, model.title, NONE, f"{detail}, which says nothing")
    return finding(name, model, bool(abs(total - 1.0) <= 4.0 * error + ROUNDING), detail)


def _divergence(factory: ModelFactory, own: AuditedModel) -> Finding:
    """Whether estimates by random probes agree in the mean with the exact divergence."""
    name, model = "divergence", own
    if np.prod(own.shape) > MOST_VALUES:
        model, reason = first_that_fits(factory, [(8, 8, own.shape[2]), (4, 4, own.shape[2])])
        if model is None:
            return Finding(name, own.title, NONE, f"too large, and {reason}")
    batch, x = examples(model, ROWS), _images(model, ROWS)
    exact, _ = _run(model, 0)(x, batch, key(12))
    keys = jax.random.split(key(13), PROBES)
    one = lambda rng: model.task.density(model.state, x, batch, rng, 1)[0]
    found = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(keys), np.float64)
    error = found.std(0, ddof=1) / np.sqrt(PROBES) + 1e-3
    z = np.abs(found.mean(0) - np.asarray(exact)) / error
    detail = f"{PROBES} probes of {ROWS} images: at most {z.max():.1f} standard errors from exact"
    return finding(name, model, bool(z.max() <= MAX_Z), detail)


def _there_and_back(own: AuditedModel) -> Finding:
    """Whether images come back from the noise that they are taken to.

    Images that the model makes: those of random values lie far from all that a trained net knows,
    where its equation is too steep to be solved.
    """
    batch, image_of = examples(own, ROWS), jax.jit(own.task.from_noise)
    x = image_of(own.state, jax.random.normal(key(15), (ROWS, *own.shape)), batch)
    _, noise = _run(own, 1)(x, batch, key(14))
    back = image_of(own.state, noise, batch)
    apart = float(jnp.abs(back - x).max())
    return finding("there and back", own, apart <= BACK, f"{ROWS} images: within {apart:.1e}")


def _run(model, probes, *last):
    density = lambda x, batch, rng: model.task.density(model.state, x, batch, rng, probes, *last)
    return jax.jit(density)


def _images(model, count):
    """Smooth images with values from -1 to 1, as flows see them, of any model."""
    noise = jax.random.normal(key(15), (count, *model.shape))
    return jnp.tanh(0.5 * noise)
