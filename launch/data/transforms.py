"""Functions for `config.data.preprocess`: an example of numpy arrays in, an example out."""

import numpy as np
from PIL import Image


def square(example: dict, size: int) -> dict:
    """Crops the centre square of `image` and resizes it, so that photos fit into a batch.

    Args:
      example: with `image` uint8 [H, W, C], C = 1 or 3, of any size.
      size: the side of the result in pixels.

    Returns:
      The example with `image` uint8 [size, size, C].
    """
    image = example["image"]
    side = min(image.shape[:2])
    top, left = ((full - side) // 2 for full in image.shape[:2])
    centre = image[top : top + side, left : left + side]
    picture = Image.fromarray(centre[..., 0] if image.shape[2] == 1 else centre)
    resized = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
    return example | {"image": resized.reshape(size, size, image.shape[2])}


def keep(example: dict, keys: tuple[str, ...]) -> dict:
    """Keeps some keys of an example and drops the others.

    Args:
      example: {key: array}.
      keys: those to keep.

    Returns:
      {key: array} of these keys.
    """
    return {key: example[key] for key in keys}
