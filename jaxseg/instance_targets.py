"""What a net learns of numbered objects: where they are, and how far each pixel is inside.

The targets are computed from the numbers on the device, after augmentation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

VOID = 65535


class Targets(NamedTuple):
    """Targets of a batch.

    Attributes:
      foreground: float32 [B, H, W]: 1 in an object, 0 elsewhere.
      distance: float32 [B, H, W]: see `relative_distance`; 0 in the background.
      valid: float32 [B, H, W]: 1 where the pixel counts, 0 where it is void, NaN where the
        number is outside of [0, 65535].
    """

    foreground: jax.Array
    distance: jax.Array
    valid: jax.Array


def targets(numbers: jax.Array, mask: jax.Array, reach: int = 16) -> Targets:
    """Computes the targets of a batch.

    Args:
      numbers: integers [B, H, W]: 0 for background, 1 to 65534 for objects, 65535 for void.
      mask: bool [B], False for rows that only fill up the batch.
      reach: as of `relative_distance`.

    Returns:
      The targets.
    """
    numbers = numbers.astype(jnp.int32)
    valid = jnp.where((numbers >= 0) & (numbers <= VOID), 1.0, jnp.nan)
    valid = jnp.where(mask[:, None, None] & (numbers != VOID), valid, 0.0)
    objects = (numbers > 0) & (numbers < VOID)
    return Targets(
        foreground=objects.astype(jnp.float32),
        distance=jax.vmap(lambda one: relative_distance(one, reach))(numbers),
        valid=valid,
    )


def relative_distance(numbers: jax.Array, reach: int = 16) -> jax.Array:
    """Computes how deep each pixel lies in its object, relative to the object's deepest one.

    The distance goes to the border of the nearest pixel of another number, the void
    included; the border of the image ends no object. Because it is relative, small and large
    objects have cores alike.

    Args:
      numbers: int32 [H, W], as of `targets`.
      reach: distances above it are cut to it, in pixels: a larger object has a plateau.

    Returns:
      float32 [H, W]: 1 at the deepest pixels of an object, 0 outside of objects.
    """
    depth = jnp.sqrt(_squared_distance(numbers, reach)) - 0.5
    objects = (numbers > 0) & (numbers < VOID)
    places = jnp.where(objects, numbers, 0)
    deepest = jnp.zeros(VOID).at[places].max(jnp.where(objects, depth, 0.0))[places]
    return jnp.where(objects, depth / jnp.maximum(deepest, 0.5), 0.0)


def _squared_distance(numbers, reach):
    """The squared distance to the nearest pixel of another number, at most `reach` squared.

    First along rows, then along columns: in a row above or below, a pixel of the same number
    is as far from another number as it says, and one of another number is not far at all.
    """
    farthest = jnp.float32(reach**2)

    def envelope(costs, numbers):
        """The least of costs and, for another number, 0; each plus the square of the way."""
        height = numbers.shape[0]
        # Beyond the image, every pixel is far from another number.
        all_costs = jnp.pad(costs, ((reach, reach), (0, 0)), constant_values=farthest)
        all_numbers = jnp.pad(numbers, ((reach, reach), (0, 0)), mode="edge")

        def step(start, least):
            cost = jax.lax.dynamic_slice_in_dim(all_costs, start, height)
            other = jax.lax.dynamic_slice_in_dim(all_numbers, start, height) != numbers
            way = (start - reach).astype(jnp.float32) ** 2
            return jnp.minimum(least, jnp.where(other, 0.0, cost) + way)

        return jax.lax.fori_loop(0, 2 * reach + 1, step, costs)

    rows = envelope(jnp.full(numbers.T.shape, farthest), numbers.T).T
    return envelope(rows, numbers)
