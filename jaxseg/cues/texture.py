"""Texture as features of every pixel: local energies, patterns, statistics and histograms.

All are jit-able, and differentiable but for `local_binary_pattern`, whose codes are
integers. They take a grey image [H, W]; `filters.luminance` makes one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.cues import filters, texture_filters

# Gabor magnitudes of photographs, before and after the logarithm: what is too faint to
# be texture, and the mean and standard deviation of the rest, over three octaves.
FAINT, MEAN, DEVIATION = 0.005, -4.2, 0.7
# Of the responses of maximum response filters, Varma and Zisserman 2005, equation 4.
WEBER = 0.03


class StructureTensor(NamedTuple):
    """Attributes are [H, W].

    orientation: direction of the strongest change, in radians in (-pi/2, pi/2], from the
      x axis towards y (down); a grating's stripes run across it.
    coherence: 0 where all directions change alike, 1 where only one does.
    energy: mean squared gradient.
    """

    orientation: jax.Array
    coherence: jax.Array
    energy: jax.Array


def window_means(values: jax.Array, sigma: float, step: int = 1) -> jax.Array:
    """Means in Gaussian windows, on a grid: [H, W, F] -> [ceil(H / step), ceil(W / step), F].

    As two products with matrices, which for wide windows is many times as fast as the
    taps of `filters.smooth`, and with step 1 the same. Mirrored at the border; the grid
    spreads evenly over the image.
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
    """Magnitudes of Gabor responses: [H, W] -> [H, W, S N], the scale changing slowest.

    The amplitude of the local wave whatever its phase: a sine of amplitude a gives
    about pi/4 a in the filter of its own wavelength and direction.
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
    """Gabor magnitudes, smoothed with a sigma of `spread` wavelengths: [H, W, S N]."""
    found = magnitudes(image, wavelengths, orientations)
    scales = jnp.split(found, len(wavelengths), axis=-1)
    smoothed = [
        window_means(scale, spread * wavelength)
        for scale, wavelength in zip(scales, wavelengths, strict=True)
    ]
    return jnp.concatenate(smoothed, axis=-1)


def maximum_responses(image: jax.Array) -> jax.Array:
    """MR8: [H, W] -> [H, W, 8], nearly the same however the texture is turned.

    The strongest of 6 orientations for edges and bars of 3 widths (by magnitude), a
    Gaussian and a Laplacian; contrast normalised (Varma and Zisserman 2005, section 2.3).
    """
    responses = filters.filter_bank(image, texture_filters.maximum_response())
    turned, still = responses[..., :36], responses[..., 36:]
    strongest = jnp.abs(turned).reshape(*image.shape, 6, 6).max(-1)
    return weber(jnp.concatenate([strongest, still], axis=-1))


def weber(responses: jax.Array) -> jax.Array:
    """Weber's law on vectors of responses [..., F]: r log(1 + |r| / 0.03) / |r|."""
    norm = jnp.sqrt(jnp.sum(responses**2, axis=-1, keepdims=True) + 1e-12)
    return responses * jnp.log1p(norm / WEBER) / norm


def local_binary_pattern(image: jax.Array, points: int = 8, radius: float = 1.0) -> jax.Array:
    """Uniform rotation invariant patterns LBP riu2: [H, W] -> int32 in [0, points + 1].

    The number of neighbours on the circle that are at least as bright as the pixel,
    where bright and dark change at most twice around it; points + 1 for all other
    patterns (Ojala, Pietikainen and Maenpaa 2002, equation 9). Neighbours between
    pixels are interpolated bilinearly; the image is mirrored at its border.

    Raises:
      ValueError: fewer than 3 points, or a radius that is not positive.
    """
    if points < 3 or radius <= 0:
        raise ValueError(f"need 3 points or more and a radius > 0, got {points} and {radius}")
    reach = math.ceil(radius) + 1
    padded = filters.pad_mirrored(image, reach, (0, 1))
    height, width = image.shape

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
        bits.append(value >= 0)
    bits = jnp.stack(bits)
    changes = (bits != jnp.roll(bits, 1, axis=0)).sum(0)
    return jnp.where(changes <= 2, bits.sum(0), points + 1).astype(jnp.int32)


def structure_tensor(image: jax.Array, sigma: float, scale: float = 1.0) -> StructureTensor:
    """Orientation and coherence of [H, W] from the smoothed outer product of the gradient.

    Bigun and Granlund 1987.

    Args:
      image: [H, W].
      sigma: of the window, in pixels.
      scale: of the Gaussian derivatives, in pixels.
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
    """Mean and standard deviation in a Gaussian window: [H, W] -> [H, W, 2]."""
    mean = window_means(image[..., None], sigma)
    variance = window_means((image[..., None] - mean) ** 2, sigma)
    return jnp.concatenate([mean, jnp.sqrt(variance + 1e-12)], axis=-1)


def local_histograms(
    responses: jax.Array, bins: int, limits: tuple[float, float], sigma: float
) -> jax.Array:
    """Local spectral histograms: [H, W, F] -> [H, W, F, bins], each summing to 1.

    The histogram of every filter's responses in a Gaussian window (Liu and Wang 2006).
    A value is shared by the two bins it lies between, so histograms are differentiable.

    Args:
      responses: of filters, or the image itself as one channel.
      bins: whose centres spread evenly over the limits.
      limits: values beyond count as the limit.
      sigma: of the window, in pixels.

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
    """A network's texture input: function(example) -> float32 [H, W, S N].

    Logarithms of local energies, shifted and scaled by constants so that photographs
    have about zero mean and unit deviation. S N is 12 by default.

    Raises:
      ValueError: wavelengths or orientations that `texture_filters.gabor` refuses.
    """
    texture_filters.gabor(wavelengths, orientations)

    def features(example):
        energies = local_energies(filters.luminance(example["image"]), wavelengths, orientations)
        return (jnp.log(energies + FAINT) - MEAN) / DEVIATION

    return features
