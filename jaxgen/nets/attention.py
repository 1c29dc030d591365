"""The attention of DRAW: a grid of Gaussian filters (Gregor et al. 2015, section 3.2).

A `Window` is a grid of N x N filters, with its centre, the distance and the width of its
filters, and its intensity. Positions are in pixels; the first pixel is at 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

PARAMETERS = 5


class Window(NamedTuple):
    """A grid of filters to read or write through; each attribute is an array [B].

    Attributes:
      y: row of the centre, in pixels.
      x: column of the centre, in pixels.
      stride: distance of neighbouring filters, in pixels.
      variance: of each filter, in square pixels.
      intensity: `read` multiplies by it, `write` divides by it.
    """

    y: jax.Array
    x: jax.Array
    stride: jax.Array
    variance: jax.Array
    intensity: jax.Array


def window(parameters: jax.Array, shape: tuple[int, ...], size: int) -> Window:
    """Makes a window from the outputs of a net.

    Zeros give a window in the centre of the image, with filters from edge to edge of its
    longer side, variance 1 and intensity 1.

    Args:
      parameters: [B, 5], unbounded: centre y and x, log variance, log stride, log intensity.
      shape: (H, W, ...) of the image.
      size: N.

    Returns:
      The window.
    """
    height, width = shape[:2]
    y, x, log_variance, log_stride, log_intensity = jnp.moveaxis(parameters, -1, 0)
    full_stride = (max(height, width) - 1) / max(size - 1, 1)
    return Window(
        y=(height + 1) / 2 * (y + 1),
        x=(width + 1) / 2 * (x + 1),
        stride=full_stride * jnp.exp(log_stride),
        variance=jnp.exp(log_variance),
        intensity=jnp.exp(log_intensity),
    )


def filterbank(
    centre: jax.Array, stride: jax.Array, variance: jax.Array, size: int, length: int
) -> jax.Array:
    """Computes the weights of the filters along one axis.

    Filter i of 1..N has its mean at centre + (i - N / 2 - 1 / 2) stride. The weights are
    normalised by a softmax: a filter far outside the image has its weight on the edge, where
    a quotient of two underflows would be NaN.

    Args:
      centre: [B], in pixels.
      stride: [B], in pixels.
      variance: [B], in square pixels.
      size: N.
      length: of the axis, in pixels.

    Returns:
      Weights [B, size, length], which sum to one along the last axis.
    """
    number = jnp.arange(1.0, size + 1)[None] - size / 2 - 0.5
    mean = centre[:, None] + number * stride[:, None]
    distance = jnp.arange(1.0, length + 1)[None, None] - mean[..., None]
    return jax.nn.softmax(-(distance**2) / (2.0 * variance[:, None, None]), axis=-1)


def _filterbanks(window, size, shape):
    """Filters along rows [B, N, H] and along columns [B, N, W]."""
    along = lambda centre, length: filterbank(centre, window.stride, window.variance, size, length)
    return along(window.y, shape[0]), along(window.x, shape[1])


def read(image: jax.Array, window: Window, size: int) -> jax.Array:
    """Reads a patch of each image through a window.

    Args:
      image: [B, H, W, C].
      window: the window.
      size: N.

    Returns:
      The patch [B, N, N, C].
    """
    down, across = _filterbanks(window, size, image.shape[1:])
    patch = jnp.einsum("bnh,bhwc,bmw->bnmc", down, image, across)
    return window.intensity[:, None, None, None] * patch


def write(patch: jax.Array, window: Window, shape: tuple[int, ...]) -> jax.Array:
    """Writes a patch into each image through a window.

    Args:
      patch: [B, N, N, C].
      window: the window.
      shape: (H, W, C) of an image.

    Returns:
      Images [B, H, W, C], 0 outside the window.
    """
    down, across = _filterbanks(window, patch.shape[1], shape)
    image = jnp.einsum("bnh,bnmc,bmw->bhwc", down, patch, across)
    return image / window.intensity[:, None, None, None]
