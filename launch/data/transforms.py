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
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return example | {"image": centre_square(picture, size)}


def centre_square(picture: Image.Image, size: int) -> np.ndarray:
    """Crops the centre square of an image and resizes it.

    Args:
      picture: in mode "L" or "RGB".
      size: the side of the result in pixels.

    Returns:
      uint8 [size, size, C], C = 1 or 3.
    """
    side = min(picture.size)
    left, top = ((full - side) // 2 for full in picture.size)
    centre = picture.crop((left, top, left + side, top + side))
    resized = np.array(centre.resize((size, size), Image.Resampling.LANCZOS))
    return resized.reshape(size, size, -1)


def keep(example: dict, keys: tuple[str, ...]) -> dict:
    """Keeps some keys of an example and drops the others.

    Args:
      example: {key: array}.
      keys: those to keep.

    Returns:
      {key: array} of these keys.
    """
    return {key: example[key] for key in keys}
