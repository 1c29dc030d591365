"""Label maps as pictures."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np

IGNORED = (128, 128, 128)
RIGHT, WRONG = (60, 140, 70), (230, 40, 40)


def palette(classes: int = 256) -> np.ndarray:
    """Colours that neighbours in the list differ in: uint8 [classes, 3].

    Class 0, the background as a rule, is black, and 255, what is ignored, grey; the hues
    of the others advance by the golden ratio, and their brightness alternates.
    """
    colours = [(0.0, 0.0, 0.0)]
    for number in range(1, classes):
        hue = (0.6 + number * 0.6180339887) % 1.0
        colours.append(
            colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (number % 2), 1.0 - 0.2 * (number % 3))
        )
    table = np.round(np.array(colours[:classes]) * 255).astype(np.uint8)
    table[255:256] = IGNORED
    return table


def coloured(labels: jax.Array, ignore: int = 255) -> jax.Array:
    """Label maps [..., H, W] -> uint8 [..., H, W, 3]; ids above 255 share colours."""
    colours = jnp.asarray(palette())[labels.astype(jnp.int32) % 256]
    return jnp.where((labels == ignore)[..., None], jnp.uint8(IGNORED), colours)


def overlay(
    image: jax.Array, labels: jax.Array, ignore: int = 255, alpha: float = 0.5
) -> jax.Array:
    """Labels [..., H, W] over their image uint8 [..., H, W, C]: uint8 [..., H, W, 3].

    Class 0 shows the image as it is.
    """
    picture = rgb(image).astype(jnp.float32)
    shown = ((labels > 0).astype(jnp.float32) * alpha)[..., None]
    colours = coloured(labels, ignore).astype(jnp.float32)
    return jnp.round(picture * (1 - shown) + shown * colours).astype(jnp.uint8)


def comparison(image, truth, prediction, ignore: int = 255) -> jax.Array:
    """Rows of image, truth, prediction and errors: uint8 [B, 4, H, W, 3].

    Errors are red, right pixels green, ignored ones grey.
    """
    errors = jnp.where(
        (truth == ignore)[..., None],
        jnp.uint8(IGNORED),
        jnp.where((truth == prediction)[..., None], jnp.uint8(RIGHT), jnp.uint8(WRONG)),
    )
    columns = rgb(image), overlay(image, truth, ignore), overlay(image, prediction, ignore), errors
    return jnp.stack(columns, axis=1)


def rgb(image: jax.Array) -> jax.Array:
    """[..., C] -> [..., 3]: grey is repeated, channels after the third are left out."""
    if image.shape[-1] >= 3:
        return image[..., :3]
    return jnp.repeat(image[..., :1], 3, axis=-1)
