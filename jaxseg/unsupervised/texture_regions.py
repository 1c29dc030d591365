"""Unsupervised segmentation of an image into its textures.

1. Gabor magnitudes and Laplacians, averaged in a wide window, describe every place.
2. k-means on their partly whitened principal components finds the textures.
3. In a narrow window, which blurs borders less, linear discriminant analysis separates
   these textures, and a Potts model makes their borders short. This is done twice, the
   second time without textures that occur only in the seams between others.

All this runs on a grid with the step of the narrow window, a third of the wide one; the
soft labels of the textures are interpolated between its places.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.bayes import potts
from jaxseg.cues import filters, texture, texture_filters
from jaxseg.unsupervised import kmeans

NARROW = 3  # times narrower than the wide window; also the step of the grid
LAPLACIANS = (0.7, 1.2, 2.0, 3.5, 6.0)
COMPONENTS = 12
# Divides the components by the square root of their deviation: full whitening would give
# noise the same weight as the differences of textures.
WHITENING = 0.5
ROUNDING = 1e-3  # a root of a magnitude that varies less counts as constant
FAINT = 1e-3  # magnitudes below it are equal, on the logarithmic scale
INTERIOR = 3  # grid steps from other textures, beyond which the wide window mixes none
SEAM, REACH = 2, 4  # grid steps: parts narrower are seams; reach of the other parts
SHRINKAGE = 0.05
CAP, BORDER = 8.0, 10.0  # largest energy of one place, and the price of a border
ROUNDS = 2
# One texture more is accepted if it divides the scatter within textures by GAIN, and if
# at least the share SOLID of every texture is interior: after the last texture k-means
# finds seams, where the wide window mixes two textures.
GAIN, SOLID = 1.135, 0.58


def segment(
    image: np.ndarray,
    textures: int | None = None,
    window: float = 12.0,
    max_textures: int = 8,
    seed: int = 0,
) -> np.ndarray:
    """Segments an image into its textures, numbered from 0 in raster order.

    Regions of the same texture have the same label, connected or not. Colour is not
    used. Compiles for every new shape and number of textures.

    Args:
      image: float [H, W, C] in [0, 1], one channel or RGB.
      textures: their number; None to estimate it. The result has fewer where the image has
        fewer.
      window: sigma of the wide window in pixels: about the period of the coarsest
        texture. Regions much narrower than it are not found.
      max_textures: the largest estimate.
      seed: of the starts of k-means.

    Returns:
      int32 [H, W].

    Raises:
      ValueError: an image that is not [H, W, C] or not finite, or a number of textures
        or a window below 1.
    """
    image = _checked(image, textures, window, max_textures)
    responses = _responses(image)
    means = functools.partial(_window_means, responses, step=max(1, round(window / NARROW)))
    wide = _components(means(sigma=window))
    key = jax.random.key(seed)
    if textures is None:
        textures = _estimate(wide, max_textures, key)
    labels, _ = _cluster(wide, textures, key)
    soft = _refine(means(sigma=window / NARROW), labels, textures)
    full = jax.image.resize(soft, (*image.shape[:2], textures), "linear").argmax(-1)
    return _in_raster_order(np.asarray(full))


_window_means = jax.jit(texture.window_means, static_argnames=("sigma", "step"))


@jax.jit
def _responses(image):
    grey = filters.luminance(image)
    spots = jnp.abs(filters.filter_bank(grey, texture_filters.laplacians(LAPLACIANS)))
    return jnp.concatenate([texture.magnitudes(grey), spots], axis=-1)


@jax.jit
def _components(means):
    """Principal components of the compressed means, partly whitened: [h, w, 12]."""
    points = jnp.sqrt(means).reshape(-1, means.shape[-1])
    points = points - points.mean(0, keepdims=True)
    deviation = points.std(0, keepdims=True)
    points = jnp.where(deviation > ROUNDING, points / jnp.maximum(deviation, ROUNDING), 0.0)
    covariance = jnp.matmul(points.T, points, precision="highest") / len(points)
    variances, axes = jnp.linalg.eigh(covariance)
    variances, axes = variances[::-1][:COMPONENTS], axes[:, ::-1][:, :COMPONENTS]
    scale = jnp.maximum(variances, 1e-6) ** (-WHITENING / 2)
    return (jnp.matmul(points, axes, precision="highest") * scale[None]).reshape(
        *means.shape[:2], -1
    )


@functools.partial(jax.jit, static_argnums=1)
def _cluster(wide, textures, key):
    """Labels [h, w], and the sum of squared distances to the textures' centres."""
    points = wide.reshape(-1, wide.shape[-1])
    centres, scatter = kmeans.kmeans(points, textures, key, restarts=16)
    return kmeans.distances(points, centres).argmin(1).reshape(wide.shape[:2]), scatter


def _estimate(wide, most, key):
    """The largest number of textures that are all solid and gain enough by the last one."""
    _, before = _cluster(wide, 1, key)
    best = 1
    for textures in range(2, most + 1):
        labels, scatter = _cluster(wide, textures, key)
        if before > GAIN * scatter and _solidity(labels, textures) > SOLID:
            best = textures
        before = scatter
    return best


@functools.partial(jax.jit, static_argnums=1)
def _solidity(labels, textures):
    """The least share of its own places that a texture has in its interior."""
    sizes = jax.nn.one_hot(labels, textures).sum((0, 1))
    return (_inside(labels, textures, INTERIOR).sum((0, 1)) / jnp.maximum(sizes, 1)).min()


@functools.partial(jax.jit, static_argnums=2)
def _refine(means, labels, textures):
    """Soft labels of the textures on the grid, from the narrow window: [h, w, K]."""
    points, near = jnp.log(means + FAINT), True
    for _ in range(ROUNDS):
        energies = _discriminate(points, _interior(labels, textures), textures)
        energies = jnp.where(near, energies, jnp.inf)
        energies = jnp.minimum(energies - energies.min(-1, keepdims=True), CAP)
        soft = potts.soft_labels(energies / BORDER, 2.0)
        labels = soft.argmax(-1)
        near = _near(labels, textures)
    return soft


def _near(labels, textures):
    """Which textures have a part nearby that is no seam: bool [h, w, K], one of K is True.

    A seam mixes two textures and so may look like a third.
    """
    near = _largest(_inside(labels, textures, SEAM), REACH) > 0
    return near | ~near.any(-1, keepdims=True)


def _interior(labels, textures):
    """One-hot labels, 0 near a border; textures that are all border keep theirs."""
    inside = _inside(labels, textures, INTERIOR)
    return jnp.where(inside.sum((0, 1)) > 0, inside, jax.nn.one_hot(labels, textures))


def _inside(labels, textures, radius):
    """One-hot labels [h, w, K], zero where another label is within the radius."""
    return -_largest(-jax.nn.one_hot(labels, textures), radius)


def _largest(values, radius):
    """The largest of [h, w, K] in the square window around each place."""
    window = (2 * radius + 1, 2 * radius + 1, 1)
    return jax.lax.reduce_window(values, -jnp.inf, jax.lax.max, window, (1, 1, 1), "SAME")


def _discriminate(points, members, textures):
    """Half the squared Mahalanobis distances to each texture: [h, w, K].

    With the mean covariance of all textures, shrunk towards its diagonal.
    """
    flat, weights = points.reshape(-1, points.shape[-1]), members.reshape(-1, textures)
    flat = flat - flat.mean(0, keepdims=True)
    sizes = weights.sum(0)
    product = functools.partial(jnp.matmul, precision="highest")
    centres = product(weights.T, flat) / jnp.maximum(sizes, 1.0)[:, None]
    residuals = (flat - product(weights, centres)) * weights.sum(1, keepdims=True)
    share = product(weights, 1 / jnp.maximum(sizes, 1.0)) / textures  # textures count equally
    covariance = product((residuals * share[:, None]).T, residuals)
    diagonal = jnp.diag(jnp.diag(covariance) + 1e-4)
    factor = jnp.linalg.cholesky((1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal)
    whiten = functools.partial(jax.scipy.linalg.solve_triangular, factor, lower=True)
    energies = 0.5 * kmeans.distances(whiten(flat.T).T, whiten(centres.T).T)
    energies = jnp.where(sizes > 0, energies, jnp.inf)
    return energies.reshape(*points.shape[:2], textures)


def _in_raster_order(labels):
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int32)[inverse].reshape(labels.shape)


def _checked(image, textures, window, max_textures):
    image = np.asarray(image, np.float32)
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"image must be [H, W, 1] or [H, W, 3], got {list(image.shape)}")
    if not np.isfinite(image).all():
        raise ValueError("image has values that are not finite; fill them in first")
    if textures is not None and textures < 1:
        raise ValueError(f"textures must be at least 1, or None to estimate, got {textures}")
    if window < 1 or max_textures < 1:
        raise ValueError(
            f"window and max_textures must be at least 1, got {window} and {max_textures}"
        )
    return image
