"""Augmentations that both players see through (DiffAugment, Zhao et al. 2020).

Applied to real and to generated images alike, and differentiable, so that a
discriminator cannot learn a small data set by heart and the generator is not
taught the augmentation.

Each function here builds (image [H, W, C] in [-1, 1], key) -> image, for one example.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxgen.noise import per_example

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def colour(brightness: float = 0.5, saturation: float = 1.0, contrast: float = 0.5) -> Augment:
    """Moves brightness, saturation and contrast at random.

    Args:
      brightness: largest shift, of an axis of length 2.
      saturation: largest relative change of the distance to the pixel's grey.
      contrast: largest relative change of the distance to the image's mean.
    """

    def apply(image, key):
        shift, tint, spread = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        image = image + brightness * shift
        grey = image.mean(axis=-1, keepdims=True)
        image = grey + (image - grey) * (1.0 + saturation * tint)
        return image.mean() + (image - image.mean()) * (1.0 + contrast * spread)

    return apply


def translation(ratio: float = 0.125) -> Augment:
    """Moves the image by up to `ratio` of its sides; what comes in is -1, black.

    The published code brings in 0, grey, as it pads normalised photographs.
    """

    def apply(image, key):
        reach = [max(1, round(side * ratio)) for side in image.shape[:2]]
        limits = jnp.array([2 * pixels + 1 for pixels in reach])
        corner = jax.random.randint(key, (2,), 0, limits)
        padding = ((reach[0],) * 2, (reach[1],) * 2, (0, 0))
        padded = jnp.pad(image, padding, constant_values=-1.0)
        return jax.lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)

    return apply


def cutout(ratio: float = 0.5) -> Augment:
    """Greys out (0) a rectangle of `ratio` of each side, at a random place."""

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
    policy: Sequence[Augment], images: jax.Array, rng: jax.Array, index: jax.Array
) -> jax.Array:
    """Applies a policy to images [B, H, W, C], each by keys of its own example.

    An empty policy changes nothing.
    """
    for number, function in enumerate(policy):
        keys = per_example(lambda key: key, jax.random.fold_in(rng, number), index)
        images = jax.vmap(function)(images, keys)
    return images
