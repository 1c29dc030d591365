"""Scales images for a net, and what it predicts back to the size of the image."""

import numpy as np
from PIL import Image


def scaled(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image or a depth map: images are averaged, depth is not.

    Args:
      array: uint8 or float32 [H, W, C].
      size: (height, width).

    Returns:
      [height, width, C] of the same dtype.
    """
    filtering = Image.Resampling.BILINEAR if array.dtype == np.uint8 else Image.Resampling.NEAREST
    planes = [Image.fromarray(np.ascontiguousarray(array[..., c])) for c in range(array.shape[-1])]
    return np.stack([np.asarray(plane.resize(size[::-1], filtering)) for plane in planes], -1)


def enlarged(array: np.ndarray, rows: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Resizes a map bilinearly, and gives some rows of the result.

    Args:
      array: float [h, w, ...].
      rows: the first row, and the one behind the last.
      shape: (height, width) of the whole result.

    Returns:
      float [rows, width, ...].
    """
    low_y, high_y, y = _neighbours(np.arange(*rows), shape[0], array.shape[0], array.ndim, 0)
    low_x, high_x, x = _neighbours(np.arange(shape[1]), shape[1], array.shape[1], array.ndim, 1)
    across = array[low_y] * (1 - y) + array[high_y] * y
    return across[:, low_x] * (1 - x) + across[:, high_x] * x


def _neighbours(indices, full, small, dimensions, axis):
    """For indices on an axis of length `full`: both neighbours of `small`, and the weight."""
    source = np.clip((indices + 0.5) * small / full - 0.5, 0, small - 1).astype(np.float32)
    low = source.astype(int)
    weight = (source - low).reshape([-1 if d == axis else 1 for d in range(dimensions)])
    return low, np.minimum(low + 1, small - 1), weight
