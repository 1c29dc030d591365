"""Structural similarity of images at several scales (MS-SSIM), a measure of diversity.

SSIM (Wang et al. 2004) compares means, contrasts and structures of two images inside a
sliding Gaussian window; MS-SSIM (Wang et al. 2003) multiplies contrast and structure
over halved sizes. Over pairs of samples of one model it measures their diversity (Odena et
al. 2017): it is 1 for a model that gives the same image always.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Exponents of the scales, from fine to coarse (Wang et al. 2003).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5  # pixels (Wang et al. 2004)
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # the constants, for a range of 1


def scales(height: int, width: int) -> int:
    """Number of scales of an image: it is halved as long as the window fits.

    Five scales from 176 pixels on, two at 28, one below 22; below 11 pixels the window
    becomes smaller too.

    Args:
      height: in pixels.
      width: in pixels.

    Returns:
      1 to 5.
    """
    count, side = 1, min(height, width)
    while count < len(WEIGHTS) and side // 2 >= WINDOW:
        count, side = count + 1, side // 2
    return count


def ms_ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """MS-SSIM of pairs of images, mean over channels.

    It uses as many scales as fit, see `scales`, with exponents divided by their sum. A
    negative structure at a scale counts as 0.

    Args:
      x: [N, H, W, C] in [0, 1].
      y: the same shape.

    Returns:
      [N].
    """
    count = scales(*x.shape[1:3])
    weights = np.array(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    value = 1.0
    for number, weight in enumerate(weights):
        if number:
            x, y = _halved(x), _halved(y)
        luminance, structure = _parts(x, y)
        if number == count - 1:
            structure = luminance * structure
        value *= jnp.maximum(jnp.mean(structure, axis=(1, 2)), 0.0) ** weight
    return jnp.mean(value, axis=-1)


def _parts(x, y):
    """Maps of luminance, and of contrast and structure, of each channel."""
    rows, columns = (_windows(side) for side in x.shape[1:3])
    blur = lambda image: jnp.einsum("nhwc,hi,wj->nijc", image, rows, columns, precision="highest")
    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x**2
    variance_y = blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + LUMINANCE) / (mean_x**2 + mean_y**2 + LUMINANCE)
    structure = (2 * covariance + CONTRAST) / (variance_x + variance_y + CONTRAST)
    return luminance, structure


def _windows(side):
    """Weights [side, places] of every window that lies completely inside a side."""
    size = min(WINDOW, side)
    window = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / SIGMA) ** 2)
    weights = np.zeros((side, side - size + 1), np.float32)
    for place in range(side - size + 1):
        weights[place : place + size, place] = window / window.sum()
    return weights


def _halved(image):
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in image.shape[1:3])
    count, channels = len(image), image.shape[-1]
    blocks = image[:, :height, :width].reshape(count, height // 2, 2, width // 2, 2, channels)
    return blocks.mean(axis=(2, 4))
