"""Label maps as images for people."""

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


def coloured(labels: jax.Array, ignore: int = 255) -> jax.Array:
    """Colours label maps with `palette`; ids above 255 reuse the colours.

    Args:
      labels: integer ids [..., H, W].
      ignore: id of pixels that become grey.

    Returns:
      uint8 [..., H, W, 3].
    """
    colours = jnp.asarray(palette())[labels.astype(jnp.int32) % 256]
    return jnp.where((labels == ignore)[..., None], jnp.uint8(IGNORED), colours)


def overlay(
    image: jax.Array, labels: jax.Array, ignore: int = 255, alpha: float = 0.5
) -> jax.Array:
    """Blends label maps over their images; class 0 shows the image unchanged.

    Args:
      image: uint8 [..., H, W, C].
      labels: integer ids [..., H, W].
      ignore: id of pixels that become grey.
      alpha: opacity of the labels, in [0, 1].

    Returns:
      uint8 [..., H, W, 3].
    """
    picture = rgb(image).astype(jnp.float32)
    shown = ((labels > 0).astype(jnp.float32) * alpha)[..., None]
    colours = coloured(labels, ignore).astype(jnp.float32)
    return jnp.round(picture * (1 - shown) + shown * colours).astype(jnp.uint8)


def rgb(image: jax.Array) -> jax.Array:
    """Converts [..., C] to [..., 3]: grey is repeated, channels after the third are dropped."""
    if image.shape[-1] >= 3:
        return image[..., :3]
    return jnp.repeat(image[..., :1], 3, axis=-1)
