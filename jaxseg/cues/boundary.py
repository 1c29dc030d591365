"""The boundary cue: where brightness, colour or texture change, without learning.

At each pixel and scale the distribution of a quantity (lightness, Lab colour, the
orientation of fine structure) is compared on either side of every line through it, as in
the Pb detector (Martin, Fowlkes and Malik 2004), but under a Gaussian window: with h_k
the smoothed histogram, the chi-square distance of the two halves is, to first order,
sum_k (d h_k / d n)^2 / h_k, a quadratic form in the direction n. So one symmetric tensor
holds all orientations, and its larger eigenvalue is the strongest of them.

All functions can be compiled, mapped and differentiated. Images are float [H, W, C] in
[0, 1], NaN counts as black. Tensors are [..., 3]: their xx, xy and yy.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from jaxseg.cues import histograms
from jaxseg.cues.filters import luminance, smooth

SCALES = (1.0, 2.0, 4.0, 8.0)
# Weight of each cue at each of SCALES: logistic regression of the boundaries that half
# of the annotators drew, on BSDS500's training images.
WEIGHTS = {
    "lightness": (2.02, 1.40, 0.38, 0.89),
    "colour": (0.87, 2.06, 1.06, 0.94),
    "texture": (1.78, 0.05, 1.23, 4.10),
}
# The weighted sum at which the probability of a boundary is 1/2.
EVEN = 8.0
# Standard deviation in pixels of the smoothing of the summed tensors.
AGREEMENT = 1.5
# Added to every bin of a histogram, so that sampling noise makes no boundary.
PRIOR = 1e-3
TINY = 1e-12


def strength(image: jax.Array, suppress: bool = True) -> jax.Array:
    """Computes how likely each pixel is on a boundary.

    Args:
      image: float [H, W, C] in [0, 1], grey or RGB.
      suppress: whether to keep only ridges, one pixel wide; otherwise the map is smooth, as
        a watershed needs it.

    Returns:
      float [H, W] in [0, 1].
    """
    found = summed_tensor(cue_tensors(image))
    odds = (largest(found) / EVEN) ** 2
    likely = odds / (1.0 + odds)
    return suppressed(likely, direction(found)) if suppress else likely


def canny(image: jax.Array, sigma: float = 1.4, low: float = 0.05, high: float = 0.12) -> jax.Array:
    """Finds Canny's edges (1986).

    Args:
      image: float [H, W, C] in [0, 1], grey or RGB, of which the luminance is used.
      sigma: of the Gaussian, in pixels.
      low: height of an ideal step, in units of the image, above which pixels may belong to
        an edge.
      high: height that at least one of an edge's connected pixels exceeds.

    Returns:
      bool [H, W], one pixel wide.
    """
    return hysteresis(step_height(image, sigma), low, high)


def step_height(image: jax.Array, sigma: float = 1.4) -> jax.Array:
    """Computes the height of the brightness step at each ridge of the gradient.

    The gradient's length times sigma sqrt(2 pi): the height of the ideal step with this
    gradient.

    Args:
      image: float [H, W, C] in [0, 1].
      sigma: of the Gaussian, in pixels.

    Returns:
      float [H, W], 0 off the ridges.
    """
    grey = luminance(jnp.nan_to_num(image))
    down, right = smooth(grey, sigma, (1, 0)), smooth(grey, sigma, (0, 1))
    height = jnp.hypot(down, right) * sigma * np.sqrt(2.0 * np.pi)
    return suppressed(height, jnp.arctan2(down, right))


def channels(scales: tuple[float, ...] = (1.0, 4.0)) -> Callable[[dict], jax.Array]:
    """Builds the boundary cue as input of a network: lightness, colour, texture at each scale.

    Args:
      scales: standard deviations of the windows, in pixels.

    Returns:
      (example) -> [H, W, 3 len(scales)], each a distance of distributions less its
      usual value, about -1 where nothing changes and 1 or more at boundaries.

    Raises:
      ValueError: no scale, or one that is not positive.
    """
    scales = tuple(float(scale) for scale in scales)
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be one or more positive numbers of pixels, got {scales}")

    def features(example):
        return 4.0 * largest(cue_tensors(example["image"], scales)) ** 0.5 - 1.0

    return lambda example: jnp.concatenate(list(jnp.moveaxis(features(example), -2, 0)), -1)


def cue_tensors(image: jax.Array, scales: tuple[float, ...] = SCALES) -> jax.Array:
    """Computes how lightness, colour and texture change around each pixel.

    Args:
      image: float [H, W, C] in [0, 1].
      scales: S standard deviations of the windows, in pixels.

    Returns:
      Tensors float [H, W, S, 3 cues, 3].
    """
    colours = histograms.lab(jnp.nan_to_num(image))
    grey = colours[..., 0]
    lightness = histograms.histogram(grey, 0.0, 100.0, 12)
    a, b = (histograms.histogram(colours[..., k], -40.0, 40.0, 9) for k in (1, 2))
    colour = jnp.concatenate([a, b], -1)
    cues = (lightness, colour, histograms.textons(grey / 100.0))
    return jnp.stack([distance_tensors(cues, scale) for scale in scales], -3)


def summed_tensor(tensors: jax.Array) -> jax.Array:
    """Sums the tensors of all scales and cues, weighted, and smooths the sum.

    A tensor is quadratic in the distance; each is divided by its own distance, so that
    distances add up where their directions agree.

    Args:
      tensors: float [H, W, scales, 3 cues, 3] at SCALES.

    Returns:
      float [H, W, 3].
    """
    weights = jnp.asarray(list(WEIGHTS.values()), tensors.dtype).T
    share = weights[None, None] / jnp.sqrt(largest(tensors) + TINY)
    return smooth(jnp.sum(tensors * share[..., None], (-3, -2)), AGREEMENT)


def distance_tensors(cues: tuple[jax.Array, ...], sigma: float) -> jax.Array:
    """Computes chi-square distances of the two sides of every line, for each cue.

    A wide window is applied to block means, with blocks of up to half its sigma, because
    its result varies slowly.

    Args:
      cues: histograms [H, W, bins], each with its own number of bins.
      sigma: of the window, in pixels.

    Returns:
      Tensors float [H, W, cues, 3].
    """
    size, ends = cues[0].shape[:2], np.cumsum([cue.shape[-1] for cue in cues])[:-1]
    block = max(1, int(sigma / 2.0))
    bins, sigma = histograms.block_means(jnp.concatenate(cues, -1), block), sigma / block
    share = jnp.maximum(smooth(bins, sigma), 0.0) + PRIOR
    down, right = (smooth(bins, sigma, order) * sigma for order in ((1, 0), (0, 1)))
    products = (right * right / share, right * down / share, down * down / share)
    sums = [[jnp.sum(part, -1) for part in jnp.split(product, ends, -1)] for product in products]
    tensors = jnp.moveaxis(jnp.asarray(sums), (0, 1), (-1, -2))
    shape = (tensors.shape[0] * block, tensors.shape[1] * block, *tensors.shape[2:])
    return jax.image.resize(tensors, shape, "linear")[: size[0], : size[1]]


def largest(tensors: jax.Array) -> jax.Array:
    """Computes the larger eigenvalue of tensors: float [..., 3] -> [...]."""
    xx, xy, yy = jnp.moveaxis(tensors, -1, 0)
    return 0.5 * (xx + yy + jnp.sqrt((xx - yy) ** 2 + 4.0 * xy**2 + TINY**2))


def direction(tensors: jax.Array) -> jax.Array:
    """Computes the angle of the strongest change, from the x axis towards y: [..., 3] -> [...]."""
    xx, xy, yy = jnp.moveaxis(tensors, -1, 0)
    return 0.5 * jnp.arctan2(2.0 * xy, xx - yy)


def suppressed(strength: jax.Array, angle: jax.Array) -> jax.Array:
    """Keeps pixels that are no less than their two neighbours along `angle`.

    Args:
      strength: float [H, W].
      angle: float [H, W], in radians from the x axis towards y.

    Returns:
      float [H, W], 0 at all other pixels.
    """
    rows, columns = jnp.indices(strength.shape, dtype=strength.dtype)
    down, right = jnp.sin(angle), jnp.cos(angle)

    def beside(step):
        places = [rows + step * down, columns + step * right]
        return map_coordinates(strength, places, order=1, mode="nearest")

    ridge = (strength >= beside(1.0)) & (strength >= beside(-1.0))
    return jnp.where(ridge, strength, 0.0)


def hysteresis(strength: jax.Array, low: float, high: float) -> jax.Array:
    """Finds pixels above `low` that connect, by 8 neighbours, to one above `high`.

    Args:
      strength: float [H, W].
      low: the lower threshold.
      high: the upper threshold.

    Returns:
      bool [H, W].
    """
    weak = strength > low

    def grow(state):
        edges, _ = state
        around = jax.lax.reduce_window(edges, False, jnp.logical_or, (3, 3), (1, 1), "SAME")
        return around & weak, edges

    start = weak & (strength > high)
    edges, _ = jax.lax.while_loop(
        lambda state: jnp.any(state[0] != state[1]), grow, (start, jnp.zeros_like(start))
    )
    return edges


def ridges(strength: jax.Array, sigma: float = 2.0) -> jax.Array:
    """Keeps the ridges, one pixel wide, of any soft boundary map.

    The normal of a ridge is the direction in which the map, smoothed, has the largest
    second derivative.

    Args:
      strength: float [H, W].
      sigma: of the smoothing, in pixels.

    Returns:
      float [H, W], 0 off the ridges.
    """
    bend = jnp.stack([smooth(strength, sigma, order) for order in ((0, 2), (1, 1), (2, 0))], -1)
    up = (bend[..., 0] + bend[..., 2] > 0)[..., None]  # beside a ridge it curves upwards
    return suppressed(strength, direction(jnp.where(up, bend, -bend)))
