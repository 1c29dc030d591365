"""Augmentations of a discriminator's inputs (DiffAugment, Zhao et al. 2020).

They are applied to real and to generated images alike, and are differentiable: so a
discriminator cannot memorise a small data set, and the generator does not learn the
augmentation.

Each function here builds (image [H, W, C] in [-1, 1], key) -> image, for one example.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxgen.noise import per_example

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def colour(brightness: float = 0.5, saturation: float = 1.0, contrast: float = 0.5) -> Augment:
    """Changes brightness, saturation and contrast at random.

    Args:
      brightness: largest shift, for images in [-1, 1].
      saturation: largest relative change of the distance to the pixel's grey.
      contrast: largest relative change of the distance to the image's mean.

    Returns:
      (image, key) -> image.
    """

    def apply(image, key):
        shift, tint, spread = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        image = image + brightness * shift
        grey = image.mean(axis=-1, keepdims=True)
        image = grey + (image - grey) * (1.0 + saturation * tint)
        return image.mean() + (image - image.mean()) * (1.0 + contrast * spread)

    return apply


def translation(ratio: float = 0.125) -> Augment:
    """Moves the image at random and fills with black, -1.

    The published code fills with grey, 0, as it pads normalised photographs.

    Args:
      ratio: largest move, as a part of each side; in whole pixels, half a pixel as one, and
        at least one.

    Returns:
      (image, key) -> image.
    """

    def apply(image, key):
        reach = [max(1, int(side * ratio + 0.5)) for side in image.shape[:2]]
        limits = jnp.array([2 * pixels + 1 for pixels in reach])
        corner = jax.random.randint(key, (2,), 0, limits)
        padding = ((reach[0],) * 2, (reach[1],) * 2, (0, 0))
        padded = jnp.pad(image, padding, constant_values=-1.0)
        return jax.lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)

    return apply


def cutout(ratio: float = 0.5) -> Augment:
    """Sets a rectangle at a random place to grey, 0.

    The rectangle may reach over the edges of the image, as in the published code.

    Args:
      ratio: size of the rectangle, as a part of each side.

    Returns:
      (image, key) -> image.
    """

    def apply(image, key):
        inside = jnp.ones(image.shape[:2], bool)
        for axis, axis_key in enumerate(jax.random.split(key)):
            side = image.shape[axis]
            length = int(side * ratio + 0.5)
            first = jax.random.randint(axis_key, (), 0, side + 1 - length % 2) - length // 2
            place = jnp.arange(side)
            line = (place >= first) & (place < first + length)
            inside &= line[:, None] if axis == 0 else line[None, :]
        return jnp.where(inside[..., None], 0.0, image)

    return apply


def augment(
    augmentations: Sequence[Augment], images: jax.Array, rng: jax.Array, index: jax.Array
) -> jax.Array:
    """Applies augmentations to images, with keys that belong to each example.

    Args:
      augmentations: functions (image, key) -> image, applied in order.
      images: [B, H, W, C] in [-1, 1].
      rng: key of the step.
      index: int32 [B], the example of each row.

    Returns:
      [B, H, W, C]; the images themselves where there are no augmentations.
    """
    for number, function in enumerate(augmentations):
        keys = per_example(lambda key: key, jax.random.fold_in(rng, number), index)
        images = jax.vmap(function)(images, keys)
    return images
