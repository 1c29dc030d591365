"""Filter banks for texture, as kernels [F, k, k] for `filters.filter_bank`.

Every kernel has zero mean and L1 norm 1, the plain Gaussians too, so constant light
gives no response and the responses of all filters are comparable. Leung-Malik, Schmid
and the maximum response bank have the parameters published with the texture
classification experiments of Varma and Zisserman 2005 (IJCV 62), section 2.
"""

import math

import numpy as np

SUPPORT = 49
# The pairs (sigma, tau) of Schmid 2001, tau cycles within the Gaussian.
SCHMID = (
    *((2, 1), (4, 1), (4, 2), (6, 1), (6, 2), (6, 3), (8, 1), (8, 2), (8, 3)),
    *((10, 1), (10, 2), (10, 3), (10, 4)),
)


def gabor(
    wavelengths: tuple[float, ...] = (3.5, 6.0, 11.0, 20.0),
    orientations: int = 6,
    bandwidth: float = 1.0,
) -> np.ndarray:
    """Builds Gabor filters in quadrature: first all even ones, then all odd ones.

    Within each half the scale changes slowest; orientation i is a wave along the
    direction pi i / N. The even filters have their mean removed by subtracting a multiple
    of the envelope. The envelope is round, which suits up to about 6 orientations (Jain
    and Farrokhnia 1991).

    Args:
      wavelengths: S of them, in pixels, at least 2.
      orientations: N.
      bandwidth: in octaves, at half the height.

    Returns:
      float64 [2 S N, k, k].

    Raises:
      ValueError: a wavelength below 2 pixels or none, no orientation, or a bandwidth
        that is not positive.
    """
    if not wavelengths or min(wavelengths) < 2:
        raise ValueError(f"wavelengths must be at least 2 pixels, got {wavelengths}")
    if orientations < 1:
        raise ValueError(f"orientations must be at least 1, got {orientations}")
    if bandwidth <= 0:
        raise ValueError(f"bandwidth is in octaves and positive, got {bandwidth}")
    ratio = math.sqrt(math.log(2) / 2) / math.pi * (2**bandwidth + 1) / (2**bandwidth - 1)
    radius = math.ceil(3 * ratio * max(wavelengths))
    even, odd = [], []
    for wavelength in wavelengths:
        for along, _ in _rotated(radius, orientations):
            envelope = _round_gaussian(radius, ratio * wavelength)
            wave = envelope * np.cos(2 * np.pi * along / wavelength)
            even.append(wave - envelope * wave.sum() / envelope.sum())
            odd.append(envelope * np.sin(2 * np.pi * along / wavelength))
    return _normalised(even + odd)


def laplacians(sigmas: tuple[float, ...]) -> np.ndarray:
    """Builds Laplacians of Gaussians, which respond to spots of any orientation.

    Args:
      sigmas: S standard deviations in pixels.

    Returns:
      float64 [S, k, k].
    """
    radius = math.ceil(4 * max(sigmas))
    return _normalised([_laplacian(radius, sigma) for sigma in sigmas])


def leung_malik(support: int = SUPPORT) -> np.ndarray:
    """Builds the 48 filters of Leung and Malik 2001.

    18 edges and 18 bars (sigma 2^(1/2), 2, 2^(3/2), three times as long as wide, 6
    orientations), 8 Laplacians of Gaussians (sigma 2^(1/2) to 4, and three times that),
    4 Gaussians (sigma 2^(1/2) to 4).

    Args:
      support: side of the kernels in pixels, odd.

    Returns:
      float64 [48, support, support].

    Raises:
      ValueError: an even support, or one below 3.
    """
    widths = [math.sqrt(2) ** power for power in (1, 2, 3, 4)]
    radius = _radius(support)
    kernels = [
        _elongated(radius, width, order, angle)
        for order in (1, 2)
        for width in widths[:3]
        for angle in range(6)
    ]
    kernels += [_laplacian(radius, width) for width in widths]
    kernels += [_laplacian(radius, 3 * width) for width in widths]
    kernels += [_round_gaussian(radius, width) for width in widths]
    return _normalised(kernels)


def schmid(support: int = SUPPORT) -> np.ndarray:
    """Builds the 13 rotation invariant filters of Schmid 2001.

    cos(pi tau r / sigma) exp(-r^2 / (2 sigma^2)) for the pairs `SCHMID`.

    Args:
      support: side of the kernels in pixels, odd.

    Returns:
      float64 [13, support, support].

    Raises:
      ValueError: an even support, or one below 3.
    """
    radius = _radius(support)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    r = np.hypot(y, x)
    return _normalised(
        [np.cos(np.pi * tau * r / s) * np.exp(-(r**2) / (2 * s**2)) for s, tau in SCHMID]
    )


def maximum_response(support: int = SUPPORT) -> np.ndarray:
    """Builds the 38 filters behind MR8 (Varma and Zisserman 2005).

    18 edges, then 18 bars (widths 1, 2, 4, three times as long, 6 orientations each),
    a Gaussian and a Laplacian of a Gaussian of sigma 10.

    Args:
      support: side of the kernels in pixels, odd.

    Returns:
      float64 [38, support, support].

    Raises:
      ValueError: an even support, or one below 3.
    """
    radius = _radius(support)
    kernels = [
        _elongated(radius, width, order, angle)
        for order in (1, 2)
        for width in (1.0, 2.0, 4.0)
        for angle in range(6)
    ]
    return _normalised([*kernels, _round_gaussian(radius, 10.0), _laplacian(radius, 10.0)])


def _rotated(radius, orientations):
    """Coordinates (along, across) of every orientation."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    for angle in np.pi * np.arange(orientations) / orientations:
        yield x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _elongated(radius, width, order, angle):
    """A derivative of order 1 or 2 across a Gaussian three times as long as wide."""
    along, across = list(_rotated(radius, 6))[angle]
    gaussian = np.exp(-(across**2) / (2 * width**2) - along**2 / (2 * (3 * width) ** 2))
    if order == 1:
        return -gaussian * across / width**2
    return gaussian * (across**2 - width**2) / width**4


def _round_gaussian(radius, sigma):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.exp(-(x**2 + y**2) / (2 * sigma**2))


def _laplacian(radius, sigma):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return _round_gaussian(radius, sigma) * (x**2 + y**2 - 2 * sigma**2) / sigma**4


def _radius(support):
    if support < 3 or support % 2 == 0:
        raise ValueError(f"support must be odd and at least 3, got {support}")
    return support // 2


def _normalised(kernels):
    kernels = np.stack(kernels)
    kernels = kernels - kernels.mean((1, 2), keepdims=True)
    return kernels / np.abs(kernels).sum((1, 2), keepdims=True)
