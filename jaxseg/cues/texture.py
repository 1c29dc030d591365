"""Texture as features of every pixel: local energies, patterns, statistics and histograms.

All functions are jit-able, and differentiable except `local_binary_pattern`, whose codes
are integers. They take a grey image [H, W]; `filters.luminance` makes one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.cues import filters, texture_filters

# Gabor magnitudes of photographs: the level below which they are noise, and the mean and
# standard deviation of log(magnitude + FAINT) over three octaves.
FAINT, MEAN, DEVIATION = 0.005, -4.2, 0.7
# Varma and Zisserman 2005, equation 4.
WEBER = 0.03


class StructureTensor(NamedTuple):
    """The structure tensor of every pixel.

    Attributes:
      orientation: [H, W], direction of the strongest change, in radians in (-pi/2, pi/2],
        from the x axis towards y (down); a grating's stripes run across it.
      coherence: [H, W], 0 where all directions change alike, 1 where only one does.
      energy: [H, W], mean squared gradient.
    """

    orientation: jax.Array
    coherence: jax.Array
    energy: jax.Array


def window_means(values: jax.Array, sigma: float, step: int = 1) -> jax.Array:
    """Averages in Gaussian windows, on a grid that spreads evenly over the image.

    Two products with matrices: for wide windows many times as fast as the taps of
    `filters.smooth`, and with step 1 the same. Mirrored at the border.

    Args:
      values: float [H, W, F].
      sigma: of the window, in pixels.
      step: pixels per cell of the grid.

    Returns:
      float [ceil(H / step), ceil(W / step), F].
    """
    height, width = values.shape[:2]
    down, right = (
        jnp.asarray(_windows(size, sigma, step), values.dtype) for size in (height, width)
    )
    return jnp.einsum("ay,yxf,bx->abf", down, values, right, precision="highest")


def _windows(size, sigma, step):
    """The matrix [ceil(size / step), size] of the windows' weights along an axis."""
    cells = -(-size // step)
    centres = (np.arange(cells) + 0.5) * size / cells - 0.5
    reach = int(4 * sigma + 0.5) + 1
    places = np.arange(-reach, size + reach)
    weights = np.exp(-0.5 * ((places - centres[:, None]) / sigma) ** 2)
    weights[np.abs(places - centres[:, None]) > max(1, int(4 * sigma + 0.5))] = 0.0
    folded = places % (2 * size)
    matrix = np.zeros((size, cells))
    np.add.at(matrix, np.where(folded < size, folded, 2 * size - 1 - folded), weights.T)
    return (matrix / matrix.sum(0)).T


def magnitudes(
    image: jax.Array,
    wavelengths: tuple[float, ...] = (3.5, 6.0, 11.0, 20.0),
    orientations: int = 6,
) -> jax.Array:
    """Computes magnitudes of Gabor responses.

    The amplitude of the local wave whatever its phase: a sine of amplitude a gives
    about pi/4 a in the filter of its own wavelength and direction.

    Args:
      image: float [H, W].
      wavelengths: S of them, in pixels.
      orientations: N.

    Returns:
      float [H, W, S N]; the scale changes slowest.

    Raises:
      ValueError: wavelengths or orientations that `texture_filters.gabor` refuses.
    """
    kernels = texture_filters.gabor(wavelengths, orientations)
    even, odd = jnp.split(filters.filter_bank(image, kernels), 2, axis=-1)
    # The constant keeps the derivative finite where there is no texture at all.
    return jnp.sqrt(even**2 + odd**2 + 1e-12)


def local_energies(
    image: jax.Array,
    wavelengths: tuple[float, ...] = (4.0, 8.0, 16.0),
    orientations: int = 4,
    spread: float = 0.5,
) -> jax.Array:
    """Computes Gabor magnitudes, smoothed in proportion to their wavelength.

    Args:
      image: float [H, W].
      wavelengths: S of them, in pixels.
      orientations: N.
      spread: sigma of the smoothing, in wavelengths.

    Returns:
      float [H, W, S N]; the scale changes slowest.

    Raises:
      ValueError: wavelengths or orientations that `texture_filters.gabor` refuses.
    """
    scales = jnp.split(magnitudes(image, wavelengths, orientations), len(wavelengths), axis=-1)
    smoothed = [
        window_means(scale, spread * wavelength)
        for scale, wavelength in zip(scales, wavelengths, strict=True)
    ]
    return jnp.concatenate(smoothed, axis=-1)


def maximum_responses(image: jax.Array) -> jax.Array:
    """Computes MR8 features, which nearly do not change when the texture is rotated.

    The strongest of 6 orientations for edges and bars of 3 widths (by magnitude), a
    Gaussian and a Laplacian; contrast normalised (Varma and Zisserman 2005, section 2.3).

    Args:
      image: float [H, W].

    Returns:
      float [H, W, 8].
    """
    responses = filters.filter_bank(image, texture_filters.maximum_response())
    turned, still = responses[..., :36], responses[..., 36:]
    strongest = jnp.abs(turned).reshape(*image.shape, 6, 6).max(-1)
    return weber(jnp.concatenate([strongest, still], axis=-1))


def weber(responses: jax.Array) -> jax.Array:
    """Applies Weber's law to vectors of responses: r log(1 + |r| / 0.03) / |r|.

    Varma and Zisserman 2005, equation 4.

    Args:
      responses: r, float [..., F].

    Returns:
      float [..., F].
    """
    norm = jnp.sqrt(jnp.sum(responses**2, axis=-1, keepdims=True) + 1e-12)
    return responses * jnp.log1p(norm / WEBER) / norm


def local_binary_pattern(image: jax.Array, points: int = 8, radius: float = 1.0) -> jax.Array:
    """Computes uniform rotation invariant patterns, LBP riu2.

    The number of neighbours on the circle that are at least as bright as the pixel,
    where bright and dark change at most twice around it; points + 1 for all other
    patterns (Ojala, Pietikainen and Maenpaa 2002, equation 9). Neighbours between
    pixels are interpolated bilinearly; the image is mirrored at its border. A neighbour that
    is darker by less than rounding can tell, 2e-7 of the largest value around, is as bright.

    Args:
      image: float [H, W].
      points: neighbours on the circle.
      radius: of the circle, in pixels.

    Returns:
      int32 [H, W] in [0, points + 1].

    Raises:
      ValueError: fewer than 3 points, or a radius that is not positive.
    """
    if points < 3 or radius <= 0:
        raise ValueError(f"need 3 points or more and a radius > 0, got {points} and {radius}")
    reach = math.ceil(radius) + 1
    padded = filters.pad_mirrored(image, reach, (0, 1))
    height, width = image.shape
    around = (2 * reach + 1,) * 2
    largest = jax.lax.reduce_window(jnp.abs(padded), 0.0, jax.lax.max, around, (1, 1), "VALID")
    rounding = 2 * jnp.finfo(image.dtype).eps * largest

    def difference(dy, dx):
        # Of differences, not of values: so that flat parts are equal to the last bit.
        rows, columns = slice(reach + dy, reach + dy + height), slice(reach + dx, None)
        return padded[rows, columns][:, :width] - image

    bits = []
    for angle in 2 * np.pi * np.arange(points) / points:
        y, x = np.round(-radius * np.sin(angle), 9), np.round(radius * np.cos(angle), 9)
        top, left = math.floor(y), math.floor(x)
        corners = [(top + i, left + j) for i in (0, 1) for j in (0, 1)]
        weights = [(1 - abs(y - cy)) * (1 - abs(x - cx)) for cy, cx in corners]
        value = sum(
            float(weight) * difference(*corner)
            for weight, corner in zip(weights, corners, strict=True)
            if weight
        )
        bits.append(value >= -rounding)
    bits = jnp.stack(bits)
    changes = (bits != jnp.roll(bits, 1, axis=0)).sum(0)
    return jnp.where(changes <= 2, bits.sum(0), points + 1).astype(jnp.int32)


def structure_tensor(image: jax.Array, sigma: float, scale: float = 1.0) -> StructureTensor:
    """Computes orientation and coherence from the smoothed outer product of the gradient.

    Bigun and Granlund 1987.

    Args:
      image: float [H, W].
      sigma: of the window, in pixels.
      scale: of the Gaussian derivatives, in pixels.

    Returns:
      A `StructureTensor`.
    """
    dy, dx = filters.smooth(image, scale, (1, 0)), filters.smooth(image, scale, (0, 1))
    products = jnp.stack([dy * dy, dx * dx, dx * dy], axis=-1)
    yy, xx, xy = jnp.moveaxis(window_means(products, sigma), -1, 0)
    trace, even, odd = yy + xx, xx - yy, 2 * xy
    # Where nothing changes the angle has no derivative: there it is 0, by another branch.
    flat = even**2 + odd**2 < 1e-20
    even, odd = jnp.where(flat, 1.0, even), jnp.where(flat, 0.0, odd)
    anisotropy = jnp.where(flat, 0.0, jnp.sqrt(even**2 + odd**2))
    return StructureTensor(0.5 * jnp.arctan2(odd, even), anisotropy / (trace + 1e-10), trace)


def local_statistics(image: jax.Array, sigma: float) -> jax.Array:
    """Computes mean and standard deviation in a Gaussian window.

    The deviation is that of the window's pixels from the window's own mean. It is found along
    one axis and then the other, as sums of squares: the mean of the squares less the square
    of the mean would be lost in rounding where the window is nearly flat.

    Args:
      image: float [H, W].
      sigma: of the window, in pixels.

    Returns:
      float [H, W, 2].
    """
    mean, variance = _moments(image, sigma)  # of the pixels of one column
    mean, between = _moments(mean.T, sigma)
    within = filters.correlate(variance, filters.gaussian_kernel(sigma), 1)
    return jnp.stack([mean.T, jnp.sqrt(within + between.T + 1e-12)], axis=-1)


def _moments(values, sigma):
    """Means and variances in windows along the first axis of values [H, W]."""
    kernel = filters.gaussian_kernel(sigma)
    mean = filters.correlate(values, kernel, 0)
    padded = filters.pad_mirrored(values, len(kernel) // 2, (0,))

    def add(total, tap):
        place, weight = tap
        shifted = jax.lax.dynamic_slice_in_dim(padded, place, len(values))
        return total + weight * (shifted - mean) ** 2, None

    taps = jnp.arange(len(kernel)), jnp.asarray(kernel, values.dtype)
    return mean, jax.lax.scan(add, jnp.zeros_like(mean), taps)[0]


def local_histograms(
    responses: jax.Array, bins: int, limits: tuple[float, float], sigma: float
) -> jax.Array:
    """Computes local spectral histograms.

    The histogram of every filter's responses in a Gaussian window (Liu and Wang 2006).
    A value is shared by the two bins it lies between, so histograms are differentiable.

    Args:
      responses: of F filters, or the image itself as one channel, float [H, W, F].
      bins: number of bins, whose centres spread evenly over the limits.
      limits: lowest and highest centre; values beyond count as the limit.
      sigma: of the window, in pixels.

    Returns:
      float [H, W, F, bins], which sums to 1 over the bins.

    Raises:
      ValueError: fewer than 2 bins, or limits that do not rise.
    """
    low, high = limits
    if bins < 2 or high <= low:
        raise ValueError(f"need 2 bins or more and rising limits, got {bins} and {limits}")
    place = (jnp.clip(responses, low, high) - low) * ((bins - 1) / (high - low))
    centres = jnp.broadcast_to(jnp.arange(bins, dtype=place.dtype), (*place.shape, bins))
    share = jnp.maximum(0.0, 1.0 - jnp.abs(place[..., None] - centres))
    flat = share.reshape(*share.shape[:2], -1)
    return window_means(flat, sigma).reshape(share.shape)


def channels(
    wavelengths: tuple[float, ...] = (4.0, 8.0, 16.0), orientations: int = 4
) -> Callable[[dict], jax.Array]:
    """Builds the texture cue as input of a network.

    Logarithms of local energies, shifted and scaled by constants so that photographs
    have about zero mean and unit deviation.

    Args:
      wavelengths: S of them, in pixels.
      orientations: N.

    Returns:
      (example with `image` [H, W, C]) -> float32 [H, W, S N]; S N is 12 by default.

    Raises:
      ValueError: wavelengths or orientations that `texture_filters.gabor` refuses.
    """
    texture_filters.gabor(wavelengths, orientations)

    def features(example):
        energies = local_energies(filters.luminance(example["image"]), wavelengths, orientations)
        return (jnp.log(energies + FAINT) - MEAN) / DEVIATION

    return features
