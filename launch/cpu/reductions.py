"""Sums over axes and the gradient of max-pooling, in the forms that CPUs compute fast."""

import math

import jax.numpy as jnp
from jax import lax

# Sums of fewer elements are left to XLA, and so are inner axes of more elements: neither gains
# (two cores, arrays of [B, N, G, K] summed over N and K).
LEAST_ELEMENTS = 2**16
MOST_INNER = 64


def inner_axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The last axes of a sum, where it is faster to sum over the others first.

    This is so where a short run of elements is summed, then one axis is kept, then others
    are summed, as group norm does: XLA adds the short runs one element at a time, 3 to 25
    times slower than it adds whole rows.

    Args:
      shape: of the array.
      axes: to sum over.

    Returns:
      Those of `axes` at the end of the shape; none where one sum is as fast.
    """
    kept = [axis for axis, size in enumerate(shape) if axis not in axes and size > 1]
    last = max(kept, default=-1)
    inner = tuple(axis for axis in axes if axis > last)
    run = math.prod(shape[axis] for axis in inner)
    outer = math.prod(shape[axis] for axis in axes if axis < last)
    pays = 1 < run <= MOST_INNER and outer > 1 and math.prod(shape) >= LEAST_ELEMENTS
    return inner if pays else ()


def sum_in_two(x, axes: tuple[int, ...], inner: tuple[int, ...]):
    """A sum over the outer axes first, then over `inner`, which XLA may not make one again.

    Args:
      x: floating-point numbers of any shape.
      axes: to sum over.
      inner: see `inner_axes`.

    Returns:
      x without `axes`.
    """
    outer = tuple(axis for axis in axes if axis not in inner)
    rows = lax.optimization_barrier(jnp.sum(x, outer, keepdims=True))
    return jnp.sum(rows, axes)


def are_tiles(shape, window, strides, padding) -> bool:
    """Whether windows touch neither each other nor a padding.

    Args:
      shape: of what is pooled; [B, H, W, C] or it is no such case.
      window: its size in each dimension.
      strides: steps between windows.
      padding: (before, after) each dimension.
    """
    return (
        len(shape) == 4
        and window[0] == window[3] == 1
        and tuple(strides) == tuple(window)
        and not any(map(any, padding))
        and not any(n % size for n, size in zip(shape, window, strict=True))
    )


def pool_gradient(source, operand, sizes: tuple[int, int]):
    """The gradient of max-pooling by tiles: each one's source goes to its first largest element.

    XLA would search each window with a loop; the elements of tiles lie side by side.

    Args:
      source: [B, H / rows, W / columns, C], the gradient by the maxima.
      operand: [B, H, W, C], what was pooled.
      sizes: (rows, columns) of a tile.

    Returns:
      [B, H, W, C].
    """
    batch, height, width, channels = operand.shape
    rows, columns = sizes
    tall, wide = height // rows, width // columns
    windows = operand.reshape(batch, tall, rows, wide, columns, channels)
    elements = [windows[:, :, a, :, b] for a in range(rows) for b in range(columns)]
    best, chosen = elements[0], jnp.zeros(source.shape, jnp.int32)
    for number, element in enumerate(elements[1:], 1):
        keep = best >= element  # as XLA compares, NaN included
        best = jnp.where(keep, best, element)
        chosen = jnp.where(keep, chosen, number)
    slopes = [jnp.where(chosen == n, source, 0) for n in range(len(elements))]
    slopes = jnp.stack(slopes, 3).reshape(batch, tall, wide, rows, columns, channels)
    return slopes.transpose(0, 1, 3, 2, 4, 5).reshape(operand.shape)
