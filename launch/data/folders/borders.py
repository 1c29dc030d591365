"""Weights of pixels between objects that touch or nearly touch."""

import numpy as np
from scipy import ndimage

STRENGTH, WIDTH = 10.0, 5.0  # w_0 and sigma of the paper
REACH = 20  # pixels beyond which the second distance adds less than a thousandth of STRENGTH


def border_weights(objects: np.ndarray) -> np.ndarray:
    """The weight map of the U-Net paper (Ronneberger et al. 2015, equation 2).

    A background pixel weighs 1 + 10 exp(-(d1 + d2)^2 / (2 5^2)), where d1 and d2 are its
    distances to the nearest and to the second nearest object. All others weigh 1.

    Args:
      objects: integers [H, W], the number of an object, 0 for background.

    Returns:
      float32 [H, W], 1 to 11.
    """
    nearest = np.full((2, *objects.shape), np.inf)
    for number, box in enumerate(ndimage.find_objects(objects), 1):
        if box is None:
            continue
        area = tuple(slice(max(0, part.start - REACH), part.stop + REACH) for part in box)
        distance = ndimage.distance_transform_edt(objects[area] != number)
        near = np.concatenate([nearest[(slice(None), *area)], distance[None]])
        nearest[(slice(None), *area)] = np.sort(near, axis=0)[:2]
    with np.errstate(over="ignore"):
        weight = 1.0 + STRENGTH * np.exp(-(nearest.sum(0) ** 2) / (2 * WIDTH**2))
    return np.where(objects == 0, weight, 1.0).astype(np.float32)
