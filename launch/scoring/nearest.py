"""Samples beside the training images nearest to them: shows whether a model copies."""

from collections.abc import Iterable

import jax
import numpy as np

from jaxgen.metrics.neighbours import centre, nearest


def nearest_training_images(
    samples: np.ndarray,
    features: np.ndarray,
    training: Iterable,
    measured: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest of all training images to each sample.

    Args:
      samples: uint8 [N, H, W, C].
      features: float [N, F], the features of the samples.
      training: images uint8 [B, H, W, C] with their features [B, F], batch by batch.
      measured: float [M, F], the features of images of which the distance alone is wanted.

    Returns:
      uint8 [3, N, H, W, C]: in row 0 the samples, in row 1 the training image nearest to
      each by the Euclidean distance of pixels, in row 2 by that of features. And the distance
      of features from each of the M images to the nearest training image, float [M].
    """
    middle, apart = centre(measured), np.full(len(measured), np.inf)
    queries = {"images": samples.reshape(len(samples), -1), "features": features}
    centres = {name: centre(query) for name, query in queries.items()}
    distances = {name: np.full(len(samples), np.inf) for name in queries}
    rows = {name: np.zeros_like(samples) for name in queries}
    for images, values in training:
        points = {"images": images.reshape(len(images), -1), "features": values}
        near_zero = [np.asarray(part - middle, np.float32) for part in (measured, values)]
        apart = np.minimum(apart, jax.device_get(nearest(*near_zero)[0]))
        for name, query in queries.items():
            near_zero = [
                np.asarray(part - centres[name], np.float32) for part in (query, points[name])
            ]
            distance, index = jax.device_get(nearest(*near_zero))
            nearer = distance < distances[name]
            distances[name] = np.where(nearer, distance, distances[name])
            rows[name][nearer] = images[index[nearer]]
    return np.stack([samples, rows["images"], rows["features"]]), np.sqrt(apart)
