"""Masked convolutions over an image in raster order: rows, then columns, then channels.

A net that uses them gives each pixel what depends on earlier ones alone (van den Oord,
Kalchbrenner and Kavukcuoglu 2016, "Pixel recurrent neural networks", section 3.4).
The same parameters work on a whole map [B, H, W, F] and at one place of a map that is
still being drawn, kept as [H, W, B, F]; `at` says which:

  None: the whole map;  (row, None): one row;  (row, column): one pixel.

What a place needs of earlier ones lies in the Flax collection `cache`: filled by a
pass over a whole map, then written place by place.
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
    """(rows, columns) from a pixel to the pixels up to it in a square around it."""
    return (*above(size), *left(size))


def above(size: int, own: bool = False) -> Offsets:
    """The rows above a pixel in a square around it; with `own`, its own whole row too."""
    reach = _reach(size)
    columns = range(-reach, reach + 1)
    return tuple((down, right) for down in range(-reach, int(own)) for right in columns)


def left(size: int) -> Offsets:
    """The pixels to the left in a row of `size` around a pixel, and the pixel."""
    return tuple((0, right) for right in range(-_reach(size), 1))


def _reach(size):
    """How far a convolution of an odd side sees."""
    if size < 3 or size % 2 == 0:
        raise ValueError(f"the side of a convolution must be odd and at least 3, got {size}")
    return size // 2


def channel_mask(inputs: int, outputs: int, groups: int, kind: str, parts: int = 1) -> np.ndarray:
    """Which features of a pixel may see which others of the same pixel.

    Features are divided evenly into `groups`, one for each image channel, so that red
    comes before green and green before blue.

    Args:
      inputs: features in.
      outputs: features out.
      groups: channels of the image, or 1 where its channels are not told apart.
      kind: "A": a group sees the groups before it; "B": itself too.
      parts: blocks of the outputs that are divided each on its own, such as gates.

    Returns:
      bool [inputs, outputs].

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
    """A convolution over those neighbours of a pixel that come before it.

    Attributes:
      features: number of features out.
      offsets: the neighbours; (0, 0), the pixel itself, is masked by channels.
      groups, kind, parts: see `channel_mask`.
      dtype: what it computes in.
    """

    features: int
    offsets: Offsets
    groups: int = 1
    kind: str = "B"
    parts: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x, at=None):
        """x [B, H, W, F] -> [B, H, W, features]; a map [H, W, B, F] -> [..., B, features]."""
        hidden = self.kind == "A" and self.groups == 1
        offsets = tuple(offset for offset in self.offsets if offset != (0, 0) or not hidden)
        inputs = x.shape[-1]
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (len(offsets) * inputs, self.features)
        )
        if (0, 0) in offsets and self.groups > 1:
            mask = channel_mask(inputs, self.features, self.groups, self.kind, self.parts)
            seen = np.ones((len(offsets), inputs, self.features), bool)
            seen[offsets.index((0, 0))] = mask
            kernel = kernel * seen.reshape(kernel.shape)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if at is None:
            y = _convolve(x, kernel.reshape(len(offsets), inputs, -1), offsets)
        else:
            y = neighbours(x, offsets, at) @ kernel
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)


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
    """Features around a place of a map [H, W, B, F], zero outside it, side by side.

    Returns:
      [B, offsets * F] of one pixel, or [W, B, offsets * F] of one row.
    """
    row, column = at
    found = []
    for down, right in offsets:
        if column is None:
            found.append(moved(_take(grid, row + down), -right))
        else:
            inside = (column + right >= 0) & (column + right < grid.shape[1])
            pixel = _take(grid, row + down, jnp.clip(column + right, 0, grid.shape[1] - 1))
            found.append(jnp.where(inside, pixel, 0.0))
    return jnp.concatenate(found, axis=-1)


def _take(grid, row, column=None):
    """grid[row] or grid[row, column], zero where there is no such row."""
    inside = (row >= 0) & (row < grid.shape[0])
    start = (jnp.clip(row, 0, grid.shape[0] - 1), 0 if column is None else column, 0, 0)
    size = (1, grid.shape[1] if column is None else 1, *grid.shape[2:])
    found = jax.lax.dynamic_slice(grid, start, size)[0]
    return jnp.where(inside, found if column is None else found[0], 0.0)


def moved(x: jax.Array, steps: int, axis: int = 0) -> jax.Array:
    """An array moved along an axis by so many places; zeros come in."""
    if steps == 0:
        return x
    padding = [(0, 0)] * x.ndim
    padding[axis] = (max(steps, 0), max(-steps, 0))
    start = max(-steps, 0)
    return jax.lax.slice_in_dim(jnp.pad(x, padding), start, start + x.shape[axis], axis=axis)


def write(grid: jax.Array, value: jax.Array, at: tuple) -> jax.Array:
    """A map [H, W, B, F] with one pixel [B, F] or one row [W, B, F] replaced."""
    row, column = at
    value = value[None] if column is None else value[None, None]
    return jax.lax.dynamic_update_slice(
        grid, value.astype(grid.dtype), (row, 0 if column is None else column, 0, 0)
    )


def remember(module: nn.Module, name: str, value: jax.Array | None, at=None) -> jax.Array:
    """Keeps features for the places that come later.

    Args:
      module: whose cache they are kept in.
      name: of the map in the cache.
      value: features of what `at` says; None to leave the map as it is.
      at: None, (row, None) or (row, column).

    Returns:
      What `MaskedConv` takes: the whole value where `at` is None, else the map.
    """
    if at is None:
        if module.is_mutable_collection("cache"):
            module.put_variable("cache", name, jnp.moveaxis(value, 0, 2))
        return value
    seen = module.get_variable("cache", name)
    if value is not None:
        seen = write(seen, value, at)
        module.put_variable("cache", name, seen)
    return seen


def begins_row(at: Sequence | None) -> bool:
    """Whether a call prepares a row, before its pixels."""
    return at is not None and at[1] is None


class PixelDense(nn.Module):
    """A 1 x 1 convolution of type B: features of a pixel [..., F] -> [..., features]."""

    features: int
    groups: int = 1
    parts: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        """[..., F] -> [..., features]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        if self.groups > 1:
            kernel = kernel * channel_mask(*shape, self.groups, "B", self.parts)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class Head(nn.Module):
    """What follows the layers: relu, 1 x 1, relu, 1 x 1, masked by channels.

    Attributes:
      features: of the hidden layer.
      outputs: of each pixel.
      groups, dtype: see `MaskedConv`.
    """

    features: int
    outputs: int
    groups: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        """[..., F] -> [..., outputs], float32."""
        for features in (self.features, self.outputs):
            x = PixelDense(features, self.groups, dtype=self.dtype)(nn.relu(x))
        return x.astype(jnp.float32)
