"""The maximum-a-posteriori decision: f(x, y) = argmax_i P(x, y | C_i) P(C_i).

P(x, y | C_i) comes from `jaxseg.bayes.likelihoods`, or from a network's log probabilities.
P(C_i) is counted here, as one number per class or as a map over the image: there is
more sky above than below.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg import labels as contract
from jaxseg.bayes.likelihoods import check_sums
from jaxseg.cues import filters


def prior_sums(
    labels: jax.Array, classes: int, grid: tuple[int, int] = (1, 1), ignore: int = contract.IGNORE
) -> jax.Array:
    """Counts each class in each cell of a grid over the image.

    The counts of many images add up, whatever the images' sizes. An id that is neither a
    class nor ignored makes them NaN, which `log_prior` refuses.

    Args:
      labels: integer ids [H, W].
      classes: number of classes, K.
      grid: rows and columns (h, w); (1, 1) counts the whole image.
      ignore: id of pixels that do not count.

    Returns:
      float32 [h, w, K].
    """
    height, width = labels.shape
    truth = contract.truth(labels, classes, ignore)
    row = jnp.arange(height) * grid[0] // height
    column = jnp.arange(width) * grid[1] // width
    counts = jnp.zeros((*grid, classes))
    return counts.at[row[:, None], column, truth.labels].add(truth.valid)


def log_prior(
    sums: jax.Array, size: tuple[int, int], sigma: float = 1.0, smoothing: float = 0.01
) -> jax.Array:
    """Computes log P(C | y, x) of every pixel from the counts of `prior_sums`.

    The counts of a cell are smoothed over its neighbours, mixed with the class frequencies
    of the whole image, and interpolated. From a grid of one cell this is log P(C). A
    class without pixels has probability 0.

    Args:
      sums: counts [h, w, K].
      size: (H, W) of the image.
      sigma: standard deviation of the Gaussian smoothing in cells; 0 for none.
      smoothing: weight of the whole image's class frequencies, in average cells.

    Returns:
      float32 [H, W, K].

    Raises:
      ValueError: the masks had an id outside the contract, or no pixel of any class.
    """
    check_sums(sums, sums.shape[-1])
    if not np.any(sums):
        raise ValueError("the masks have no pixel of any class: there is no prior to count")
    sums = jnp.asarray(sums, jnp.float32)
    cells, whole = sums.shape[0] * sums.shape[1], sums.sum((0, 1), keepdims=True)
    near = filters.smooth(sums, sigma) if sigma and cells > 1 else sums
    mixed = near + smoothing * whole / cells
    frequencies = mixed / mixed.sum(-1, keepdims=True)
    return jnp.log(jax.image.resize(frequencies, (*size, sums.shape[-1]), "linear"))


def map_decision(log_likelihood: jax.Array, log_prior: jax.Array) -> jax.Array:
    """Chooses the most probable class of every pixel; the first of equally probable ones.

    Args:
      log_likelihood: log P(x | C), float [..., K]; 0.0 lets the prior decide alone.
      log_prior: log P(C), float [..., K]; the two broadcast.

    Returns:
      int32 [...].
    """
    return jnp.argmax(_log_joint(log_likelihood, log_prior), axis=-1).astype(jnp.int32)


def posterior(log_likelihood: jax.Array, log_prior: jax.Array) -> jax.Array:
    """Computes P(C | x) by Bayes' rule.

    Args:
      log_likelihood: log P(x | C), float [..., K].
      log_prior: log P(C), float [..., K]; the two broadcast.

    Returns:
      float [..., K], which sums to 1 over K.
    """
    return jax.nn.softmax(_log_joint(log_likelihood, log_prior), axis=-1)


def _log_joint(log_likelihood, log_prior):
    log_likelihood, log_prior = jnp.broadcast_arrays(log_likelihood, log_prior)
    return log_likelihood + log_prior
