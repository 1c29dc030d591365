"""Masked convolutions over an image in raster order: rows, then columns, then channels.

The outputs of a net of these layers at a pixel depend on earlier pixels only (van den Oord,
Kalchbrenner and Kavukcuoglu 2016, "Pixel recurrent neural networks", section 3.4).
The same parameters compute a whole map [B, H, W, F], or one part of a map [H, W, B, F] while
an image is sampled; the argument `at` selects the part:

  None: the whole map;  (row, None): one row;  (row, column): one pixel.

Features of earlier parts are in the Flax collection `cache`: a pass over a whole map fills
it, then each call for a part writes that part.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Dtype = Any
Offsets = tuple[tuple[int, int], ...]


def raster(size: int) -> Offsets:
    """Offsets to the pixels before and at a pixel, in a square around it.

    Args:
      size: side of the square; odd.

    Returns:
      (rows down, columns to the right) of each.

    Raises:
      ValueError: a side that is even or below 3.
    """
    return (*above(size), *left(size))


def above(size: int, own: bool = False) -> Offsets:
    """Offsets to the rows above a pixel, in a square around it.

    Args:
      size: side of the square; odd.
      own: whether to include the whole row of the pixel.

    Returns:
      (rows down, columns to the right) of each.

    Raises:
      ValueError: a side that is even or below 3.
    """
    reach = _reach(size)
    columns = range(-reach, reach + 1)
    return tuple((down, right) for down in range(-reach, int(own)) for right in columns)


def left(size: int) -> Offsets:
    """Offsets to the pixels to the left of a pixel and to the pixel, in a row around it.

    Args:
      size: length of the row; odd.

    Returns:
      (rows down, columns to the right) of each.

    Raises:
      ValueError: a length that is even or below 3.
    """
    return tuple((0, right) for right in range(-_reach(size), 1))


def _reach(size):
    """Pixels between the centre and the edge of a convolution."""
    if size < 3 or size % 2 == 0:
        raise ValueError(f"the side of a convolution must be odd and at least 3, got {size}")
    return size // 2


def channel_mask(inputs: int, outputs: int, groups: int, kind: str, parts: int = 1) -> np.ndarray:
    """The mask between the features of one pixel in two layers.

    Features are divided evenly into groups, one for each image channel, so that red
    comes before green and green before blue.

    Args:
      inputs: number of input features.
      outputs: number of output features.
      groups: channels of the image, or 1 where pixels are not divided into channels.
      kind: "A": a group depends on the groups before it; "B": also on itself.
      parts: number of blocks of the outputs, such as gates; each is divided into all groups.

    Returns:
      bool [inputs, outputs], True where an output depends on an input.

    Raises:
      ValueError: fewer features than groups, or another kind.
    """
    if kind not in ("A", "B"):
        raise ValueError(f"a mask is of kind A or B; got {kind!r}")
    if outputs % parts or min(inputs, outputs // parts) < groups:
        raise ValueError(
            f"{inputs} features in and {outputs} out cannot be divided into {groups} groups, "
            f"one for each image channel, in {parts} parts; give more features"
        )
    size = outputs // parts
    of_input = np.arange(inputs) * groups // inputs
    of_output = np.tile(np.arange(size) * groups // size, parts)
    order = np.less if kind == "A" else np.less_equal
    return order(of_input[:, None], of_output[None])


class MaskedConv(nn.Module):
    """A convolution over given neighbours of a pixel.

    Attributes:
      features: number of output features.
      offsets: of the neighbours; (0, 0), the pixel itself, is masked by channels.
      groups: see `channel_mask`.
      kind: see `channel_mask`.
      parts: see `channel_mask`.
      dtype: dtype that it computes in.
    """

    features: int
    offsets: Offsets
    groups: int = 1
    kind: str = "B"
    parts: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, at=None):
        """Convolves a whole map or a part of it.

        Args:
          x: [B, H, W, F]; with `at`, the map [H, W, B, F].
          at: see the module.

        Returns:
          [B, H, W, features]; [W, B, features] of a row, or [B, features] of a pixel.
        """
        hidden = self.kind == "A" and self.groups == 1
        offsets = tuple(offset for offset in self.offsets if offset != (0, 0) or not hidden)
        inputs = x.shape[-1]
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (len(offsets) * inputs, self.features)
        )
        if (0, 0) in offsets and self.groups > 1:
            mask = channel_mask(inputs, self.features, self.groups, self.kind, self.parts)
            whole = np.ones((len(offsets), inputs, self.features), kernel.dtype)
            whole[offsets.index((0, 0))] = mask
            kernel = kernel * whole.reshape(kernel.shape)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if at is None:
            y = _convolve(x, kernel.reshape(len(offsets), inputs, -1), offsets)
        else:
            y = neighbours(x, offsets, at) @ kernel
        return _add_bias(self, y)


def _add_bias(module, y):
    """y [..., features] plus the module's parameter `bias`."""
    bias = module.param("bias", nn.initializers.zeros, (module.features,)).astype(module.dtype)
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _convolve(x, kernel, offsets):
    """The sum over neighbours, of x [B, H, W, F] and a kernel [offsets, F, outputs]."""
    places = np.array(offsets)
    first, last = np.minimum(places.min(0), 0), np.maximum(places.max(0), 0)
    dense = jnp.zeros((*(last - first + 1), *kernel.shape[1:]), kernel.dtype)
    dense = dense.at[tuple((places - first).T)].set(kernel)
    padding = [(-low, high) for low, high in zip(first.tolist(), last.tolist(), strict=True)]
    return jax.lax.conv_general_dilated(
        x, dense, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def neighbours(grid: jax.Array, offsets: Offsets, at: tuple) -> jax.Array:
    """Concatenates the features of the neighbours of one pixel, or of each pixel of a row.

    Args:
      grid: a map [H, W, B, F]; neighbours outside it are zero.
      offsets: of the neighbours.
      at: (row, None) or (row, column).

    Returns:
      [B, offsets * F] of one pixel, or [W, B, offsets * F] of one row.
    """
    row, column = at
    parts = []
    for down, right in offsets:
        if column is None:
            parts.append(moved(_take(grid, row + down), -right))
        else:
            inside = (column + right >= 0) & (column + right < grid.shape[1])
            pixel = _take(grid, row + down, column + right)
            parts.append(jnp.where(inside, pixel, 0.0))
    return jnp.concatenate(parts, axis=-1)


def _take(grid, row, column=None):
    """grid[row] or grid[row, column]; zero where there is no such row, any for no such column."""
    inside = (row >= 0) & (row < grid.shape[0])
    start = (row, 0 if column is None else column, 0, 0)
    size = (1, grid.shape[1] if column is None else 1, *grid.shape[2:])
    part = jax.lax.dynamic_slice(grid, start, size)[0]
    return jnp.where(inside, part if column is None else part[0], 0.0)


def moved(x: jax.Array, steps: int, axis: int = 0) -> jax.Array:
    """Moves the values of an array along an axis and fills with zeros.

    Args:
      x: the array.
      steps: distance; negative towards the beginning of the axis.
      axis: number of the axis.

    Returns:
      An array of the shape of x.
    """
    if steps == 0:
        return x
    padding = [(0, 0)] * x.ndim
    padding[axis] = (max(steps, 0), max(-steps, 0))
    start = max(-steps, 0)
    return jax.lax.slice_in_dim(jnp.pad(x, padding), start, start + x.shape[axis], axis=axis)


def write(grid: jax.Array, value: jax.Array, at: tuple) -> jax.Array:
    """Replaces one pixel or one row of a map.

    Args:
      grid: the map [H, W, B, F].
      value: [B, F] of a pixel, or [W, B, F] of a row.
      at: (row, column) or (row, None).

    Returns:
      The new map, of the dtype of `grid`.
    """
    row, column = at
    value = value[None] if column is None else value[None, None]
    return jax.lax.dynamic_update_slice(
        grid, value.astype(grid.dtype), (row, 0 if column is None else column, 0, 0)
    )


def remember(module: nn.Module, name: str, value: jax.Array | None, at=None) -> jax.Array:
    """Writes features to the cache, for the parts that come later.

    Args:
      module: the module that the cache belongs to.
      name: of the map in the cache.
      value: features [B, H, W, F], [W, B, F] or [B, F] of the part `at`; None to only read.
      at: None, (row, None) or (row, column).

    Returns:
      The argument of `MaskedConv`: the value where `at` is None, else the map [H, W, B, F].
    """
    if at is None:
        if module.is_mutable_collection("cache"):
            module.put_variable("cache", name, jnp.moveaxis(value, 0, 2))
        return value
    grid = module.get_variable("cache", name)
    if value is not None:
        grid = write(grid, value, at)
        module.put_variable("cache", name, grid)
    return grid


def begins_row(at: Sequence | None) -> bool:
    """Whether `at` is (row, None): the call that prepares a row, before its pixels."""
    return at is not None and at[1] is None


class PixelDense(nn.Module):
    """A 1 x 1 convolution with a mask of kind "B".

    Attributes:
      features: number of output features.
      groups: see `channel_mask`.
      parts: see `channel_mask`.
      dtype: dtype that it computes in.
    """

    features: int
    groups: int = 1
    parts: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        """[..., F] -> [..., features]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        if self.groups > 1:
            mask = channel_mask(*shape, self.groups, "B", self.parts)
            kernel = kernel * mask.astype(kernel.dtype)
        return _add_bias(self, x.astype(self.dtype) @ kernel.astype(self.dtype))


class Head(nn.Module):
    """The last layers: ReLU, 1 x 1, ReLU, 1 x 1, masked by channels.

    Attributes:
      features: of the hidden layer.
      outputs: numbers for each pixel.
      groups: see `channel_mask`.
      dtype: dtype that it computes in.
    """

    features: int
    outputs: int
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        """[..., F] -> [..., outputs], float32."""
        for features in (self.features, self.outputs):
            x = PixelDense(features, self.groups, dtype=self.dtype)(nn.relu(x))
        return x.astype(jnp.float32)
