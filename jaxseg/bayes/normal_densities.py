"""Mixtures of normal densities per class: log density, moments, fit and split."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats


def component_log_prob(params: dict, features: jax.Array) -> jax.Array:
    """Computes log weight + log N(x; mean, covariance) of each component.

    Args:
      params: log_weight [K, M], mean [K, M, F] and whiten [K, M, F, F], the inverse
        of the covariance's Cholesky factor.
      features: float [..., F].

    Returns:
      float32 [..., K, M].
    """
    whiten = jnp.asarray(params["whiten"])
    size = whiten.shape[-1]
    centre = jnp.einsum("kmgf,kmf->kmg", whiten, params["mean"], precision="highest")
    scaled = jnp.einsum("...f,kmgf->...kmg", features, whiten, precision="highest")
    scaled = scaled - jnp.broadcast_to(centre, scaled.shape)
    log_scale = jnp.log(jnp.diagonal(whiten, axis1=-2, axis2=-1)).sum(-1)
    constant = params["log_weight"] + log_scale - 0.5 * size * np.log(2.0 * np.pi)
    squares = jnp.sum(scaled**2, axis=-1)
    return jnp.broadcast_to(constant, squares.shape) - 0.5 * squares


def moments(share: jax.Array, features: jax.Array) -> dict[str, jax.Array]:
    """Sums 1, x and x x^T over pixels, weighted.

    Args:
      share: weight of each pixel in each component, float [..., K, M].
      features: x, float [..., F].

    Returns:
      {"count": [K, M], "first": [K, M, F], "second": [K, M, F F]}.
    """
    classes, x = share.shape[-2], features.reshape(-1, features.shape[-1])
    columns = share.reshape(len(x), -1).T
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    count, first, second = (
        jnp.matmul(columns, part, precision="highest").reshape(classes, -1, part.shape[-1])
        for part in (jnp.ones((len(x), 1)), x, products)
    )
    return {"count": count[..., 0], "first": first, "second": second}


def normals(sums: dict, regularisation: float):
    """Turns moments into normal densities.

    A component without pixels takes the moments of its class. A class without pixels takes
    those of all classes, so that it is as likely as they are together.

    Args:
      sums: of `moments`, as numpy float64.
      regularisation: variance that is added to every feature.

    Returns:
      Weight [K, M], mean [K, M, F] and covariance [K, M, F, F], float64.

    Raises:
      ValueError: no pixel has both a class and known features.
    """
    count, first = sums["count"], sums["first"]
    second = sums["second"].reshape(*first.shape, -1)
    parts = count[..., None, None], first[..., None], second
    for axes in ((1,), (0, 1)):
        missing = parts[0] < 1e-6
        parts = tuple(np.where(missing, p.sum(axes, keepdims=True), p) for p in parts)
    if not parts[0].all():
        raise ValueError("no pixel has both a class and known features: nothing to fit")
    mean = (parts[1] / parts[0])[..., 0]
    spread = parts[2] / parts[0] - mean[..., :, None] * mean[..., None, :]
    # Rounding of the sums may leave an eigenvalue below zero: it becomes 0.
    value, vector = np.linalg.eigh(spread)
    spread = np.einsum("...fi,...i,...gi->...fg", vector, np.maximum(value, 0.0), vector)
    total = count.sum(1, keepdims=True)
    weight = np.where(total > 0, count / np.where(total > 0, total, 1.0), 1.0 / count.shape[1])
    return weight, mean, spread + regularisation * np.eye(mean.shape[-1])


def split(mean, covariance, components: int):
    """Splits one normal density per class into several, along its longest axis.

    Args:
      mean: [K, 1, F].
      covariance: [K, 1, F, F].
      components: M; their means lie at quantiles of the axis.

    Returns:
      Weight [K, M], mean [K, M, F] and covariance [K, M, F, F].
    """
    variance, axes = np.linalg.eigh(covariance)
    longest = axes[..., -1] * np.sqrt(variance[..., -1:])
    offset = stats.norm.ppf((np.arange(components) + 0.5) / components)
    weight = np.full((len(mean), components), 1.0 / components)
    return weight, mean + offset[:, None] * longest, np.repeat(covariance, components, axis=1)
