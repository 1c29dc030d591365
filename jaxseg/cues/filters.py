"""Linear filters on images: Gaussian derivatives and banks of kernels."""

import jax
import jax.numpy as jnp
import numpy as np

# Sides up to which a filter along an axis is a product with a matrix.
MATRIX = 1024


def gaussian_kernel(sigma: float, order: int = 0, truncate: float = 4.0) -> np.ndarray:
    """Samples a Gaussian or its derivative.

    The samples of the second derivative are corrected to give 0 on a ramp and 1 on x^2 / 2,
    as scipy's are not: at sigma 0.5 these give -0.56 on an image of ones, and 1.34. Those of
    the first are scipy's, which give 0.86 on x there, and 1 to 0.3 % from sigma 0.7 on.

    Args:
      sigma: standard deviation in pixels.
      order: 0 (weights sum to 1), 1 or 2, the derivative along the axis.
      truncate: radius in standard deviations.

    Returns:
      float64 [2 r + 1] with r = truncate * sigma, rounded, at least 1.

    Raises:
      ValueError: another order.
    """
    radius = max(1, int(truncate * sigma + 0.5))
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    weights /= weights.sum()
    if order == 0:
        return weights
    if order == 1:
        return weights * x / sigma**2  # correlation with it is the derivative
    if order == 2:
        square, fourth = weights @ x**2, weights @ x**4  # sigma^2 and 3 sigma^4, but for sampling
        return 2 * weights * (x**2 - square) / (fourth - square**2)
    raise ValueError(f"order must be 0, 1 or 2, got {order}")


def correlate(image: jax.Array, kernel: np.ndarray, axis: int) -> jax.Array:
    """Correlates an array with a kernel along one axis, mirrored at the ends.

    Along a short axis this is a product with a banded matrix: more arithmetic than a
    sum of shifted copies, but far faster for wide kernels, and quick to compile.

    Args:
      image: float array of any shape.
      kernel: [2 r + 1].
      axis: the axis.

    Returns:
      An array of the image's shape.
    """
    size = image.shape[axis]
    if size <= MATRIX:
        band = jnp.asarray(_band(np.asarray(kernel, np.float64), size), image.dtype)
        moved = jnp.tensordot(band, image, (1, axis), precision="highest")
        return jnp.moveaxis(moved, 0, axis)
    padded = pad_mirrored(image, len(kernel) // 2, (axis,))
    taps = (
        float(weight) * jax.lax.slice_in_dim(padded, place, place + size, axis=axis)
        for place, weight in enumerate(np.asarray(kernel))
    )
    return sum(taps)


def smooth(image: jax.Array, sigma: float, order: tuple[int, int] = (0, 0)) -> jax.Array:
    """Smooths with a Gaussian or takes a Gaussian derivative, mirrored at the border.

    Args:
      image: float [H, W] or [H, W, C].
      sigma: standard deviation in pixels.
      order: order of the derivative along y and along x.

    Returns:
      An array of the image's shape.
    """
    down = correlate(image, gaussian_kernel(sigma, order[0]), 0)
    return correlate(down, gaussian_kernel(sigma, order[1]), 1)


def filter_bank(image: jax.Array, kernels: np.ndarray) -> jax.Array:
    """Correlates a grey image with each kernel of a bank.

    By FFT, on the image mirrored by half a kernel: a bank of 48 kernels of 49 x 49 costs
    48 transforms; a convolution would cost 115,000 products a pixel.

    Args:
      image: float [H, W].
      kernels: [F, k, k], k odd.

    Returns:
      float [H, W, F].
    """
    side = kernels.shape[-1]
    radius = side // 2
    padded = pad_mirrored(image, radius, (0, 1))
    shape = tuple(_smooth_size(n) for n in padded.shape)
    spectrum = jnp.fft.rfft2(padded, shape)
    flipped = jnp.asarray(kernels[:, ::-1, ::-1], image.dtype)  # correlation, not convolution
    height, width = image.shape

    def one(kernel):
        response = jnp.fft.irfft2(spectrum * jnp.fft.rfft2(kernel, shape), shape)
        return response[side - 1 : side - 1 + height, side - 1 : side - 1 + width]

    return jnp.moveaxis(jax.lax.map(one, flipped), 0, -1)


def pad_mirrored(image: jax.Array, radius: int, axes: tuple[int, ...]) -> jax.Array:
    """Mirrors an array at its borders (d c b a | a b c d), however small it is.

    Args:
      image: array of any shape.
      radius: entries added at either end of each of the axes.
      axes: the axes.

    Returns:
      The padded array.
    """
    widths = [(radius, radius) if axis in axes else (0, 0) for axis in range(image.ndim)]
    return jnp.pad(image, widths, mode="symmetric")


def luminance(image: jax.Array) -> jax.Array:
    """Computes Rec. 709 luma of RGB, or takes the only channel: float [H, W, C] -> [H, W]."""
    if image.shape[-1] == 1:
        return image[..., 0]
    return image[..., :3] @ jnp.asarray([0.2126, 0.7152, 0.0722], image.dtype)


def _smooth_size(size):
    """The next size with no factors but 2, 3 and 5, for which FFTs are fast."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def _band(kernel, size):
    """The matrix [size, size] of a mirrored correlation."""
    radius = len(kernel) // 2
    sources = np.pad(np.arange(size), radius, mode="symmetric")
    matrix = np.zeros((size, size))
    rows = np.repeat(np.arange(size), len(kernel))
    columns = np.lib.stride_tricks.sliding_window_view(sources, len(kernel)).ravel()
    np.add.at(matrix, (rows, columns), np.tile(kernel, size))
    return matrix
