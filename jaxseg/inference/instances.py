"""From maps of foreground and distance to objects: a watershed that runs on the device.

The distance map is 1 in the middle of each object and falls to 0 at its border, so two
objects that touch are two hills with a valley between them. Every hill above `seed` is the
core of an object. The cores grow downhill, one level after the other, until they meet in
the valley (immersion, Vincent and Soille 1991, on `levels` levels).

All of it are comparisons of neighbours in loops of unknown length, which XLA compiles: the
same function counts objects inside an evaluation and labels a large image on its own.
"""

import jax
import jax.numpy as jnp


def instances(
    foreground: jax.Array,
    distance: jax.Array,
    threshold: float = 0.5,
    seed: float = 0.5,
    min_size: int = 4,
    levels: int = 16,
) -> jax.Array:
    """Divides the foreground into objects.

    A piece of the foreground without a core is an object too. Pixels are neighbours by
    their edges, not by their corners. Where two objects reach a pixel in the same step, it
    belongs to the object whose core begins further up, or further left in the same row.

    Args:
      foreground: the probability that a pixel belongs to an object, float [H, W].
      distance: the relative distance to the object's border, float [H, W] in [0, 1].
      threshold: the least probability of an object's pixel.
      seed: the least distance in a core. Lower values divide less, higher values more.
      min_size: objects of fewer pixels are removed.
      levels: the number of steps from 1 to 0 in which cores grow.

    Returns:
      int32 [H, W]: 0 for background, and 1, 2, ... for the objects, in the order of the
      topmost row of their cores.

    Raises:
      ValueError: the maps differ in shape, or an option is out of range.
    """
    check(threshold, seed, min_size, levels)
    foreground, distance = jnp.asarray(foreground), jnp.asarray(distance)
    if foreground.shape != distance.shape or foreground.ndim != 2:
        raise ValueError(
            f"foreground is {foreground.shape} and distance {distance.shape}; both must be the "
            "same [H, W]"
        )
    inside = foreground >= threshold
    roots = components(inside & (distance >= seed))
    level = jnp.floor(distance * levels).astype(jnp.int32)
    roots = flood(roots, inside, level, int(seed * levels))
    alone = components(inside & (roots < 0))
    return _numbered(jnp.where(roots < 0, alone, roots), min_size)


def check(threshold: float, seed: float, min_size: int, levels: int) -> None:
    """Refuses options of `instances` that are out of range.

    Args:
      threshold, seed, min_size, levels: as of `instances`.

    Raises:
      ValueError: names the option.
    """
    for name, value in {"threshold": threshold, "seed": seed}.items():
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    if min_size < 1 or levels < 1:
        raise ValueError(f"min_size={min_size} and levels={levels} must be at least 1")


def components(mask: jax.Array) -> jax.Array:
    """Finds the connected components of a mask, by edges.

    Every pixel takes the least number of its neighbours, then the number which that pixel
    has by now, so that paths halve in each round (Shiloach and Vishkin 1982).

    Args:
      mask: bool [H, W].

    Returns:
      int32 [H, W]: the number of the first pixel (row by row) of the component that the
      pixel lies in; -1 outside of the mask.
    """
    size = mask.size
    start = jnp.where(mask, jnp.arange(size, dtype=jnp.int32).reshape(mask.shape), size)

    def step(carry):
        numbers, _ = carry
        new = jnp.where(mask, _least_near(numbers, size), size)
        # The element behind the last is that of pixels outside of the mask.
        table = jnp.append(new.ravel(), jnp.int32(size))
        new = table[new]
        return new, jnp.any(new != numbers)

    numbers, _ = jax.lax.while_loop(lambda carry: carry[1], step, (start, jnp.any(mask)))
    return jnp.where(mask, numbers, -1)


def flood(roots: jax.Array, inside: jax.Array, level: jax.Array, highest: int) -> jax.Array:
    """Grows cores over the pixels of a mask, from the highest level down.

    Args:
      roots: int32 [H, W], >= 0 in a core, -1 elsewhere.
      inside: bool [H, W], the pixels that cores may take.
      level: int32 [H, W], the height of each pixel.
      highest: the level to begin with; each of the others follows, down to 0.

    Returns:
      int32 [H, W], -1 where no core gets to.
    """
    none = roots.size

    def step(carry):
        now, labels = carry
        free = inside & (labels == none) & (level >= now)
        new = jnp.where(free, _least_near(labels, none), labels)
        # A level ends when nothing grows any more.
        return jnp.where(jnp.any(new != labels), now, now - 1), new

    start = jnp.int32(highest), jnp.where(roots < 0, none, roots)
    _, labels = jax.lax.while_loop(lambda carry: carry[0] >= 0, step, start)
    return jnp.where(labels == none, -1, labels)


def _least_near(values, none):
    """The least of each pixel's value and its four neighbours'; `none` beyond the image."""
    padded = jnp.pad(values, 1, constant_values=none)
    height, width = values.shape
    for down, right in ((0, 1), (1, 0), (1, 2), (2, 1)):
        near = padded[down : down + height, right : right + width]
        values = jnp.minimum(values, near)
    return values


def _numbered(roots, min_size):
    """1, 2, ... for objects of at least `min_size` pixels, in the order of their roots."""
    flat = roots.ravel()
    size = jnp.zeros(flat.size, jnp.int32).at[flat].add((flat >= 0).astype(jnp.int32), mode="drop")
    # Every root is a pixel of its own object.
    kept = size >= min_size
    numbers = jnp.where(kept, jnp.cumsum(kept.astype(jnp.int32)), 0)
    return jnp.where(roots >= 0, numbers[jnp.maximum(roots, 0)], 0)
