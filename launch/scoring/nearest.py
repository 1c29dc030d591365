"""Samples beside the training images that are nearest to them: does a model copy?"""

from collections.abc import Callable, Iterable

import jax
import numpy as np

from jaxgen.metrics.neighbours import nearest


def figure(
    extract: Callable, samples: np.ndarray, features: np.ndarray, training: Iterable
) -> np.ndarray:
    """Finds the nearest of all training images to each sample.

    Args:
      extract: of `launch.scoring.sample_metrics.extractor`.
      samples: uint8 [N, H, W, C].
      features: theirs, [N, F].
      training: (images, mask), batch by batch, as `launch.scoring.sample_metrics.real` yields them.

    Returns:
      uint8 [3, N, H, W, C]: the samples; below each the nearest by the Euclidean
      distance of pixels; and below that the nearest by the distance of features.
    """
    queries = {"images": _flat(samples), "features": features}
    distances = {name: np.full(len(samples), np.inf) for name in queries}
    rows = {name: np.zeros_like(samples) for name in queries}
    for images, mask in training:
        found = jax.device_get(extract(images, mask))
        known = {name: found[name][found["mask"]] for name in queries}
        points = {"images": _flat(known["images"]), "features": known["features"]}
        for name, query in queries.items():
            distance, place = jax.device_get(nearest(query, points[name]))
            nearer = distance < distances[name]
            distances[name] = np.where(nearer, distance, distances[name])
            rows[name][nearer] = known["images"][place[nearer]]
    return np.stack([samples, rows["images"], rows["features"]])


def _flat(images):
    return images.reshape(len(images), -1).astype(np.float32) / 255.0
