"""Reading and writing through a grid of Gaussian filters (Gregor et al. 2015, section 3.2).

A `Window` is a grid of N x N filters: where its centre lies, how far the filters are
apart, how wide each is, and how strong. Positions are in pixels, the first pixel at 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

PARAMETERS = 5


class Window(NamedTuple):
    """Where to look or write, each [B].

    Attributes:
      y, x: the centre, in pixels.
      stride: between neighbouring filters, in pixels.
      variance: of each filter, in square pixels.
      intensity: what is read is multiplied by it, what is written divided.
    """

    y: jax.Array
    x: jax.Array
    stride: jax.Array
    variance: jax.Array
    intensity: jax.Array


def window(parameters: jax.Array, shape: tuple[int, ...], size: int) -> Window:
    """A window from the five unbounded numbers that a net gives, [B, 5].

    Zeros stand for the centre of the image, filters that reach from edge to edge of its
    longer side, variance 1 and intensity 1.

    Args:
      parameters: centre y and x, log variance, log stride, log intensity.
      shape: (H, W, ...) of the image.
      size: N.
    """
    height, width = shape[:2]
    y, x, log_variance, log_stride, log_intensity = jnp.moveaxis(parameters, -1, 0)
    apart = (max(height, width) - 1) / max(size - 1, 1)
    return Window(
        y=(height + 1) / 2 * (y + 1),
        x=(width + 1) / 2 * (x + 1),
        stride=apart * jnp.exp(log_stride),
        variance=jnp.exp(log_variance),
        intensity=jnp.exp(log_intensity),
    )


def filterbank(
    centre: jax.Array, stride: jax.Array, variance: jax.Array, size: int, length: int
) -> jax.Array:
    """Filters [B, size, length] along one axis, each with weights that sum to one.

    Filter i of 1..N has its mean at centre + (i - N / 2 - 1 / 2) stride. Normalised as a
    softmax, so that a filter far outside of the image rests on its edge, where the
    quotient of two underflows would be no number.
    """
    number = jnp.arange(1.0, size + 1) - size / 2 - 0.5
    mean = centre[:, None] + number * stride[:, None]
    distance = jnp.arange(1.0, length + 1) - mean[..., None]
    return jax.nn.softmax(-(distance**2) / (2.0 * variance[:, None, None]), axis=-1)


def _filterbanks(window, size, shape):
    """Filters along rows [B, N, H] and along columns [B, N, W]."""
    along = lambda centre, length: filterbank(centre, window.stride, window.variance, size, length)
    return along(window.y, shape[0]), along(window.x, shape[1])


def read(image: jax.Array, window: Window, size: int) -> jax.Array:
    """The patch [B, N, N, C] that a window shows of an image [B, H, W, C]."""
    down, across = _filterbanks(window, size, image.shape[1:])
    patch = jnp.einsum("bnh,bhwc,bmw->bnmc", down, image, across)
    return window.intensity[:, None, None, None] * patch


def write(patch: jax.Array, window: Window, shape: tuple[int, ...]) -> jax.Array:
    """An image [B, H, W, C] that holds a patch [B, N, N, C] where the window lies."""
    down, across = _filterbanks(window, patch.shape[1], shape)
    image = jnp.einsum("bnh,bnmc,bmw->bhwc", down, patch, across)
    return image / window.intensity[:, None, None, None]
