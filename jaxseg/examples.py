"""Checks of the arrays that a data set's examples hold."""

import jax
import numpy as np

Example = dict[str, jax.ShapeDtypeStruct]


def check_image(example: Example) -> None:
    """Refuses examples without `image` uint8 [H, W, C].

    Args:
      example: shape and dtype of each array of one example.

    Raises:
      ValueError: `image` is missing, or has another dtype or number of axes.
    """
    image = example.get("image")
    if image is None or len(image.shape) != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"needs examples with `image` uint8 [H, W, C]; these have {described(example)}"
        )


def described(example: Example) -> dict[str, str]:
    """Returns the arrays of an example as text, {"image": "uint8[32, 32, 3]", ...}."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in example.items()}
