"""Class-conditional likelihoods P(x | C) of a pixel's features, fitted by counting.

Each is a `Likelihood`. Fitting reads the data through sums alone, which add up over
images, devices and hosts: histogram counts, or the moments of each class. A mixture
is fitted by expectation maximisation, one pass over the data per step.

A pixel whose features are not all finite is unknown: it is not counted, and its
likelihood is 1 for every class, so that the prior decides.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg import labels as contract
from jaxseg.bayes import normal_densities

MAX_CELLS = 1 << 27  # of a histogram over all classes: half a gigabyte


class Likelihood(NamedTuple):
    """One family of densities.

    Attributes:
      sums: (params, features [..., F], labels int [...]) -> tree of arrays that add
        up; `params` is None in the first pass. For `jax.jit`. Counts are exact up to
        2^24 pixels a call. An id that is neither a class nor ignored makes them NaN,
        which `fit` refuses.
      fit: sums over all the data -> params, on the host, in float64.
      log_prob: (params, features [..., F]) -> log P(x | C), [..., K].
      passes: number of passes over the data.
    """

    sums: Callable
    fit: Callable
    log_prob: Callable
    passes: int = 1


def fit(likelihood: Likelihood, batches: Callable[[], Iterable]):
    """Fits a likelihood to (features [..., F], labels [...]) pairs.

    Args:
      likelihood: a family of densities.
      batches: () -> pairs; called once per pass, returns the same pairs each time.

    Returns:
      The parameters that `likelihood.log_prob` takes.

    Raises:
      ValueError: no data, or a label that is neither a class nor ignored.
    """
    sums_of, params = jax.jit(likelihood.sums), None
    for _ in range(likelihood.passes):
        total = None
        for features, labels in batches():
            sums = jax.tree.map(np.float64, jax.device_get(sums_of(params, features, labels)))
            total = sums if total is None else jax.tree.map(np.add, total, sums)
        if total is None:
            raise ValueError("there is nothing to fit a likelihood to: no images were given")
        params = likelihood.fit(total)
    return params


def histogram(
    classes: int, bins: int = 16, smoothing: float = 1.0, ignore: int = contract.IGNORE
) -> Likelihood:
    """Joint histograms of features in [0, 1], one per class.

    P(x | C) = (count of x's cell in C + smoothing) / (pixels of C + smoothing * cells),
    with `bins` cells along each feature. Features outside [0, 1] fall in the end cells.

    Args:
      classes: number of classes, K.
      bins: cells per feature, bins ** F in all.
      smoothing: pseudo-count of every cell; 1 is Laplace's rule.
      ignore: id of pixels that do not count.

    Returns:
      A `Likelihood`, whose parameters are float32 [K, bins ** F], log P(cell | C).

    Raises:
      ValueError: `bins` below 1, or `smoothing` not positive; when called, more than
        MAX_CELLS cells.
    """
    if bins < 1 or smoothing <= 0:
        raise ValueError(f"need bins >= 1 and smoothing > 0, got {bins} and {smoothing}")

    def cells(features):
        size = features.shape[-1]
        if classes * bins**size > MAX_CELLS:
            raise ValueError(
                f"a histogram of {size} features with {bins} bins each has {bins**size:,} cells "
                "a class: take fewer bins or features, or a Gaussian mixture"
            )
        place = jnp.clip(jnp.floor(features * bins), 0, bins - 1)
        return place.astype(jnp.int32) @ bins ** jnp.arange(size - 1, -1, -1)

    def sums(params, features, labels):
        del params
        known, features = finite(features)
        truth, place = contract.truth(labels, classes, ignore, known), cells(features)
        counts = jnp.zeros((classes, bins ** features.shape[-1]))
        return counts.at[truth.labels, place].add(truth.valid)

    def fit(counts):
        check_sums(counts, classes)
        counts = np.asarray(counts, np.float64) + smoothing
        return np.float32(np.log(counts / counts.sum(-1, keepdims=True)))

    def log_prob(params, features):
        known, features = finite(features)
        return jnp.where(known[..., None], jnp.asarray(params).T[cells(features)], 0.0)

    return Likelihood(sums, fit, log_prob)


def gaussian(
    classes: int, regularisation: float = 1e-4, ignore: int = contract.IGNORE
) -> Likelihood:
    """One normal density with full covariance per class: quadratic discriminants.

    Args:
      classes: number of classes, K.
      regularisation: variance that is added to every feature, in its units squared.
      ignore: id of pixels that do not count.

    Returns:
      A `Likelihood`; parameters as of `mixture`, with one component.

    Raises:
      ValueError: `regularisation` is not positive.
    """
    return mixture(classes, 1, 0, regularisation, ignore)


def mixture(
    classes: int,
    components: int = 4,
    steps: int = 10,
    regularisation: float = 1e-4,
    ignore: int = contract.IGNORE,
) -> Likelihood:
    """A mixture of normal densities with full covariances per class, fitted by EM.

    The first pass fits one normal density per class. It is split into components at
    the quantiles of its longest axis, and each further pass is one step of EM
    (Dempster, Laird and Rubin 1977) for all classes at once.

    Args:
      classes: number of classes, K.
      components: densities per class, M.
      steps: EM steps, each a pass over the data.
      regularisation: variance that is added to every feature, in its units squared.
      ignore: id of pixels that do not count.

    Returns:
      A `Likelihood`, whose parameters are those of
        `normal_densities.component_log_prob`.

    Raises:
      ValueError: no component, several without a step of EM, or `regularisation` not
        positive.
    """
    if components < 1 or steps < (components > 1) or regularisation <= 0:
        raise ValueError(
            "need components >= 1, a step of EM where there are several, and regularisation "
            f"> 0; got components={components}, steps={steps}, regularisation={regularisation}"
        )

    def sums(params, features, labels):
        known, features = finite(features)
        truth = contract.truth(labels, classes, ignore, known)
        # An id outside the contract has no class: its NaN goes to all of them.
        mistaken = jnp.isnan(truth.valid)[..., None]
        share = jnp.where(mistaken, jnp.nan, truth.one_hot)[..., None]
        if params is not None:
            share *= jax.nn.softmax(normal_densities.component_log_prob(params, features), axis=-1)
        return normal_densities.moments(share, features)

    def fit(sums):
        check_sums(sums, classes)
        weight, mean, covariance = normal_densities.normals(sums, regularisation)
        if mean.shape[1] < components:
            weight, mean, covariance = normal_densities.split(mean, covariance, components)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance))
        with np.errstate(divide="ignore"):  # a component may have no pixels
            params = {"log_weight": np.log(weight), "mean": mean, "whiten": whiten}
        return jax.tree.map(np.float32, params)

    def log_prob(params, features):
        known, features = finite(features)
        mixed = jax.nn.logsumexp(normal_densities.component_log_prob(params, features), axis=-1)
        return jnp.where(known[..., None], mixed, 0.0)

    return Likelihood(sums, fit, log_prob, 1 + steps * (components > 1))


def finite(features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the pixels whose features are all finite.

    Args:
      features: float [..., F].

    Returns:
      bool [...], and the features with 0 for all other pixels.
    """
    known = jnp.isfinite(features).all(-1)
    return known, jnp.where(known[..., None], features, 0.0)


def check_sums(sums, classes: int) -> None:
    """Refuses sums that an id outside the contract has made NaN.

    Args:
      sums: tree of arrays.
      classes: number of classes, for the message.

    Raises:
      ValueError: a sum is not finite.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sums)):
        raise ValueError(
            f"a mask has an id that is neither a class (0 to {classes - 1}) nor the ignored one: "
            "correct the mask, the number of classes or the ignored id"
        )
