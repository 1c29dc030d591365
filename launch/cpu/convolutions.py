"""Convolutions in the forms that CPUs compute fast, as functions on arrays.

JAX knows one operation, `conv_general_dilated`, for three uses: the convolution itself
(possibly strided), the transposed one (`spread` images: zeros between their pixels; also
the gradient of a strided one by its input), and the gradient by the kernel, which is a
convolution whose kernel is as large as the image. XLA treats the last two as it treats the
first: it multiplies the zeros, and reads its patches from memory that lies badly.

All images are [B, H, W, C], all kernels [KH, KW, C, D], all tuples (rows, columns).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from launch.cpu import onednn


class Window(NamedTuple):
    """How a kernel moves over an image.

    Attributes:
      strides: steps between outputs.
      padding: ((above, below), (left, right)); negative numbers cut off.
      spread: steps between the image's pixels, zeros between; 1 for none.
      dilation: steps between the kernel's elements; 1 for none.
    """

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    spread: tuple[int, int]
    dilation: tuple[int, int]


def convolve(x, kernel, window: Window, groups: int):
    """The convolution itself, by oneDNN.

    Args:
      x: [B, H, W, C].
      kernel: [KH, KW, C / groups, D].
      window: without spread.
      groups: of channels.

    Returns:
      [B, H', W', D].
    """
    x, padding = _cut(x, window.padding)
    return onednn.convolution(x, kernel, window.strides, padding, window.dilation, groups)


def by_xla(x, kernel, window: Window, groups: int):
    """A convolution by XLA, with its dimensions in the order in which XLA is fast.

    Args:
      x: [B, H, W, C].
      kernel: [KH, KW, C / groups, D].
      window: any.
      groups: of channels.

    Returns:
      [B, H', W', D].
    """
    padding, spread = window.padding, window.spread
    if min(map(min, padding)) < 0:  # which XLA reads from beside the image
        x, padding, spread = _pad(x, padding, spread), ((0, 0), (0, 0)), (1, 1)
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        padding,
        spread,
        window.dilation,
        ("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def transposed(x, kernel, window: Window, shape: tuple[int, ...], groups: int):
    """A convolution of a spread image, without the zeros.

    The outputs at each place modulo the spread see the same elements of the kernel: they
    are one convolution of the image as it is, with a smaller kernel.

    Args:
      x: [B, H, W, C].
      kernel: [KH, KW, C / groups, D].
      window: with stride 1 and dilation 1.
      shape: of the result.
      groups: of channels.

    Returns:
      [B, H', W', D].
    """
    batch, height, width, features = shape
    (rows, columns), (above, left) = window.spread, [low for low, _ in window.padding]
    tall, wide = -(-height // rows), -(-width // columns)
    if groups == 1 and _tiles(x, kernel, window, shape):
        # Each pixel makes a tile of its own: one product for all.
        taps = kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(x.shape[3], -1)
        tiles = lax.dot_general(x.reshape(-1, x.shape[3]), taps, (((1,), (0,)), ((), ())))
        tiles = tiles.reshape(batch, tall, wide, rows, columns, features)
    else:
        phases = [
            _phase(x, kernel, (a, b), window.spread, (above, left), (tall, wide), groups)
            for a in range(rows)
            for b in range(columns)
        ]
        tiles = jnp.stack(phases, 3).reshape(batch, tall, wide, rows, columns, features)
    whole = tiles.transpose(0, 1, 3, 2, 4, 5)
    whole = whole.reshape(batch, tall * rows, wide * columns, features)
    return whole[:, :height, :width]


def kernel_gradient(x, slope, window: Window, taps: tuple[int, int]):
    """The gradient by the kernel: for each of its elements, a product over all pixels.

    With a window without spread, element (p, q) pairs slope[i, j] with
    x[i * dilation + p * stride - padding]; with spread, x[i, j] with
    slope[i * spread + padding - p].

    Args:
      x: [B, H, W, C].
      slope: [B, H', W', D], the gradient by the convolution's outputs; the "kernel".
      window: of the gradient, as JAX writes it: its dilation is the convolution's stride
        and its stride the convolution's dilation.
      taps: size of the kernel.

    Returns:
      [KH, KW, C, D].
    """
    pads = [low for low, _ in window.padding]
    if window.spread != (1, 1):
        grid = x.shape[1:3]
        shift = [[pads[n] - p for p in range(taps[n])] for n in range(2)]
        moved = _patches(slope, shift, window.spread, grid)
        gradient = _gram(x, moved).reshape(x.shape[3], *taps, slope.shape[3])
        return gradient.transpose(1, 2, 0, 3)
    grid = slope.shape[1:3]
    shift = [[p * window.strides[n] - pads[n] for p in range(taps[n])] for n in range(2)]
    apart = taps[0] * taps[1] * x.shape[3] + slope.shape[3]
    shared = taps[1] * x.shape[3] + taps[0] * slope.shape[3]
    if window.dilation == (1, 1) and shared < apart:
        # Rows are shifted in the slope, all in one array; columns in x, one after the other:
        # the fewest copies in memory.
        size = (x.shape[1], grid[1])
        moved = _patches(slope, ([-s for s in shift[0]], [0]), (1, 1), size)
        parts = [_gram(_patches(x, ([0], [s]), (1, 1), size), moved) for s in shift[1]]
        gradient = jnp.stack(parts).reshape(taps[1], x.shape[3], taps[0], slope.shape[3])
        return gradient.transpose(2, 0, 1, 3)
    patches = _patches(x, shift, window.dilation, grid)
    return _gram(patches, slope).reshape(*taps, x.shape[3], slope.shape[3])


def depthwise_gradient(x, slope, window: Window, taps: tuple[int, int]):
    """The gradient by the kernel of a depthwise convolution, by oneDNN.

    The gradient of one image is a depthwise convolution of it, whose kernel is the slope: a
    third of the time of `depthwise_gradient_by_xla` in the layers of an EfficientNet.

    Args:
      x: [B, H, W, C].
      slope: [B, H', W', C], the gradient by the convolution's outputs.
      window: of the gradient, as for `kernel_gradient`, without spread.
      taps: size of the kernel.

    Returns:
      [KH, KW, C].
    """
    x, padding = _cut(x, window.padding)
    channels = x.shape[3]

    def add(total, pair):
        image, kernel = pair[0][None], pair[1][:, :, None]
        settings = window.strides, padding, window.dilation, channels
        return total + onednn.convolution(image, kernel, *settings)[0], None

    return lax.scan(add, jnp.zeros((*taps, channels), x.dtype), (x, slope))[0]


def depthwise_gradient_by_xla(x, slope, window: Window, taps: tuple[int, int]):
    """The gradient by the kernel of a depthwise convolution, by XLA.

    One image after the other: its copies, one for each element of the kernel, stay in the
    caches of the processor.

    Args:
      x, slope, window, taps: as of `depthwise_gradient`.

    Returns:
      [KH, KW, C].
    """
    grid, (rows, columns) = slope.shape[1:3], window.dilation
    tall, wide = ((n - 1) * step + 1 for n, step in zip(grid, window.dilation, strict=True))
    sizes = zip(window.padding, x.shape[1:3], (tall, wide), taps, window.strides, strict=True)
    edges = [
        (low, span + (count - 1) * step - size - low) for (low, _), size, span, count, step in sizes
    ]
    shifts = [range(0, n * step, step) for n, step in zip(taps, window.strides, strict=True)]
    places = jnp.array([(row, column) for row in shifts[0] for column in shifts[1]])
    channels = x.shape[3]

    def add(total, pair):
        image, slopes = _pad(pair[0][None], edges)[0], pair[1]

        def at(place):
            part = lax.dynamic_slice(image, (*place, 0), (tall, wide, channels))
            return jnp.sum(part[::rows, ::columns] * slopes, (0, 1))

        return total + lax.map(at, places), None

    total = lax.scan(add, jnp.zeros((len(places), channels), x.dtype), (x, slope))[0]
    return total.reshape(*taps, -1)


def _gram(a, b):
    return onednn.gram(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))


def _tiles(x, kernel, window, shape):
    """Whether the spread kernels neither overlap nor leave gaps nor reach outside."""
    spread, taps = window.spread, kernel.shape[:2]
    return (
        spread == taps
        and all(low == n - 1 for n, (low, _) in zip(taps, window.padding, strict=True))
        and shape[1:3] == (x.shape[1] * spread[0], x.shape[2] * spread[1])
    )


def _phase(x, kernel, place, spread, pads, grid, groups):
    """The outputs at `place` modulo the spread: [B, *grid, D]."""
    first = [(pads[n] - place[n]) % spread[n] for n in range(2)]
    part = kernel[first[0] :: spread[0], first[1] :: spread[1]]
    if not part.size:
        return jnp.zeros((x.shape[0], *grid, kernel.shape[3]), x.dtype)
    low = [-(place[n] + first[n] - pads[n]) // spread[n] for n in range(2)]
    # As many pixels below and at the right as the grid needs.
    high = [grid[n] - low[n] + part.shape[n] - 1 - x.shape[n + 1] for n in range(2)]
    one = (1, 1)
    window = Window(one, ((low[0], high[0]), (low[1], high[1])), one, one)
    run = convolve if onednn.available() else by_xla
    return run(x, part, window, groups)


def _cut(x, padding):
    """Carries out the negative part of a padding."""
    negative = [(min(0, low), min(0, high)) for low, high in padding]
    return _pad(x, negative), tuple((max(0, low), max(0, high)) for low, high in padding)


def _pad(x, padding, spread=(1, 1)):
    """Zeros around an image, and between its pixels; negative numbers cut off."""
    sides = [(*p, s - 1) for p, s in zip(padding, spread, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *sides, (0, 0, 0)))


def _patches(x, shift, stride, grid):
    """[B, *grid, taps * C]: at (i, j) the pixels x[i * stride + shift], zeros outside."""
    taps = [_strided(x, (row, column), stride, grid) for row in shift[0] for column in shift[1]]
    return jnp.concatenate(taps, -1) if len(taps) > 1 else taps[0]


def _strided(x, start, stride, grid):
    """[B, *grid, C]: the pixels start, start + stride, ... of both axes, zeros outside."""
    axes = zip(start, stride, grid, x.shape[1:3], strict=True)
    whole = _pad(x, [(-first, first + (n - 1) * step + 1 - size) for first, step, n, size in axes])
    return whole[:, :: stride[0], :: stride[1]]
