"""Colours and images for people."""

import colorsys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

IGNORED = (128, 128, 128)
# Blue and vermilion of Okabe and Ito (2008), which people with any colour vision tell apart.
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)


def palette(classes: int = 256, given: Sequence[tuple[int, int, int]] = ()) -> np.ndarray:
    """Builds a table of colours in which neighbours differ.

    Class 0, usually the background, is black; 255, the usual ignore id, is grey. The hues
    of the others advance by the golden ratio, and their brightness alternates.

    Args:
      classes: number of colours.
      given: those of the first classes, in place of the rule.

    Returns:
      uint8 [classes, 3].
    """
    colours = [(0.0, 0.0, 0.0)]
    for number in range(1, classes):
        hue = (0.6 + number * 0.6180339887) % 1.0
        colours.append(
            colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (number % 2), 1.0 - 0.2 * (number % 3))
        )
    table = np.round(np.array(colours[:classes]) * 255).astype(np.uint8)
    table[255:256] = IGNORED
    table[: len(given)] = np.reshape(given, (-1, 3))[:classes]
    return table


def rgb(image: jax.Array) -> jax.Array:
    """Converts [..., C] to [..., 3]: grey is repeated, channels after the third are dropped."""
    if image.shape[-1] >= 3:
        return image[..., :3]
    return jnp.repeat(image[..., :1], 3, axis=-1)
