"""A fully connected conditional random field over an image's pixels.

Mean-field inference of Krähenbühl and Koltun 2011, "Efficient inference in fully
connected CRFs with Gaussian edge potentials": every pair of pixels is linked, more
strongly the nearer they are (smoothness) and the more similar in place and colour
(appearance), and linked pixels with different labels cost energy (Potts). Inference
moves a network's coarse boundaries to the image's edges, and is differentiable.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.cues import filters

MAX_GRID = 1 << 27  # numbers in a bilateral grid: half a gigabyte
# Pixels whose links to all others the exact sums hold in memory at once.
CHUNK = 256


@partial(
    jax.jit,
    static_argnames=("iterations", "place_sigma", "colour_sigma", "smooth_sigma", "exact"),
)
def dense_crf(
    image: jax.Array,
    probability: jax.Array,
    iterations: int = 5,
    appearance: float = 1.0,
    place_sigma: float = 40.0,
    colour_sigma: float = 0.05,
    smoothness: float = 0.5,
    smooth_sigma: float = 3.0,
    exact: bool = False,
) -> jax.Array:
    """Refines class probabilities [H, W, K] by the image's places and colours.

    Compiled once for each size of image, iterations, sigmas and `exact`.

    Each iteration sets Q(l) of every pixel proportional to
    p(l) exp(sum over kernels of weight * (K Q(l))), which is equation 3 of the paper
    with its Potts model. The kernels are normalised as D^-1/2 K D^-1/2, D their row
    sums, as in the authors' code, so weights do not depend on the image's size.

    The defaults are weak. The authors' weights of 10 and 3, at 80 pixels, clean noisy
    predictions, but remove poles and people from good ones.

    The appearance kernel is computed on a bilateral grid (Chen, Paris and Durand 2007)
    of one cell per sigma, in time linear in the number of pixels; `exact` sums over all
    pairs, in quadratic time.

    Args:
      image: float [H, W, C] in [0, 1]; values outside are clipped, NaN is 0.
      probability: float [H, W, K], not negative.
      iterations: steps of mean-field inference.
      appearance: weight of the appearance kernel.
      place_sigma: its standard deviation in pixels.
      colour_sigma: its standard deviation in units of the image.
      smoothness: weight of the smoothness kernel.
      smooth_sigma: its standard deviation in pixels.
      exact: sum over all pairs of pixels instead of the approximations.

    Returns:
      Q, float [H, W, K], which sums to 1 over K.

    Raises:
      ValueError: shapes that do not fit, or a grid too large for memory.
    """
    if image.ndim != 3 or probability.ndim != 3 or image.shape[:2] != probability.shape[:2]:
        raise ValueError(
            "need image [H, W, C] and probability [H, W, K] of one size, got "
            f"{list(image.shape)} and {list(probability.shape)}"
        )
    if exact:
        similar = exact_filter(features(image, place_sigma, colour_sigma))
        near = exact_filter(features(image[..., :0], smooth_sigma, colour_sigma))
    else:
        size = grid_size(image.shape, place_sigma, colour_sigma)
        if np.prod(size, dtype=float) * probability.shape[-1] > MAX_GRID:
            raise ValueError(
                f"a bilateral grid of {' x '.join(map(str, size))} cells is too large: "
                "raise place_sigma or colour_sigma"
            )
        similar = bilateral_filter(features(image, place_sigma, colour_sigma), size)
        near = partial(gaussian_filter, sigma=smooth_sigma)
    shape = (*image.shape[:2], 1)
    kernels = [(appearance, normalised(similar, shape)), (smoothness, normalised(near, shape))]
    unary = jnp.log(jnp.maximum(probability, jnp.finfo(probability.dtype).tiny))

    def step(_, q):
        return jax.nn.softmax(unary + sum(weight * kernel(q) for weight, kernel in kernels), -1)

    return jax.lax.fori_loop(0, iterations, step, jax.nn.softmax(unary, -1))


def features(image: jax.Array, place_sigma: float, colour_sigma: float) -> jax.Array:
    """Computes place and colour of every pixel in standard deviations.

    Args:
      image: float [H, W, C]; clipped to [0, 1], NaN is 0.
      place_sigma: standard deviation of the place, in pixels.
      colour_sigma: standard deviation of the colour, in units of the image.

    Returns:
      float [H, W, 2 + C].
    """
    colour = jnp.clip(jnp.nan_to_num(image), 0.0, 1.0) / colour_sigma
    place = jnp.stack(jnp.indices(image.shape[:2], dtype=colour.dtype), -1) / place_sigma
    return jnp.concatenate([place, colour], -1)


def exact_filter(points: jax.Array) -> Callable:
    """Builds the sum over all pairs, values_i -> sum over j of exp(-|f_i - f_j|^2 / 2) values_j.

    Args:
      points: f, float [H, W, D].

    Returns:
      A function [H, W, K] -> [H, W, K].
    """
    flat = points.reshape(-1, points.shape[-1])

    def apply(values):
        rows = values.reshape(len(flat), -1)

        def one(point):
            return jnp.exp(-0.5 * jnp.sum((flat - point[None]) ** 2, -1)) @ rows

        return jax.lax.map(one, flat, batch_size=CHUNK).reshape(values.shape)

    return apply


def bilateral_filter(points: jax.Array, size: tuple[int, ...]) -> Callable:
    """Builds the sum of `exact_filter`, up to a factor, by a bilateral grid of unit cells.

    Pixels are spread over the corners of their cell by multilinear weights, the grid
    is blurred along each axis, and read at the pixels by the same weights. Spreading and
    reading each blur by 1/6 of a squared cell, so the blur between them adds the missing 2/3.

    Args:
      points: not negative, float [H, W, D].
      size: length of each axis of the grid; points lie in [0, size - 1).

    Returns:
      A function [H, W, K] -> [H, W, K].
    """
    flat = points.reshape(-1, len(size))
    low = jnp.floor(flat)
    corners = jnp.asarray(list(product((0, 1), repeat=len(size))))
    above = (flat - low)[None]
    weights = jnp.where(corners[:, None] == 1, above, 1.0 - above).prod(-1)
    strides = np.append(np.cumprod(size[:0:-1])[::-1], 1)
    places = (low.astype(jnp.int32) @ strides)[None] + (corners @ strides)[:, None]
    kernel = filters.gaussian_kernel(np.sqrt(2.0 / 3.0), truncate=2.5)

    def apply(values):
        rows = values.reshape(len(flat), -1)

        def splat(grid, corner):
            place, weight = corner
            return grid.at[place].add(weight[:, None] * rows), None

        def read(total, corner):
            place, weight = corner
            return total + weight[:, None] * grid[place], None

        empty = jnp.zeros((int(np.prod(size)), rows.shape[-1]), rows.dtype)
        grid, _ = jax.lax.scan(splat, empty, (places, weights))
        grid = grid.reshape(*size, -1)
        for axis in range(len(size)):
            grid = spread(grid, kernel, axis)
        grid = grid.reshape(empty.shape)
        return jax.lax.scan(read, jnp.zeros_like(rows), (places, weights))[0].reshape(values.shape)

    return apply


def grid_size(shape: tuple[int, int, int], place_sigma: float, colour_sigma: float) -> tuple:
    """Computes the number of cells along each axis of an image's bilateral grid.

    Args:
      shape: (H, W, C) of the image.
      place_sigma: pixels per cell.
      colour_sigma: units of the image per cell.

    Returns:
      2 + C numbers.
    """
    last = [(n - 1) / place_sigma for n in shape[:2]] + [1.0 / colour_sigma] * shape[2]
    return tuple(int(place) + 2 for place in last)


def gaussian_filter(values: jax.Array, sigma: float) -> jax.Array:
    """Spreads values with a Gaussian; beyond the border there is nothing.

    Args:
      values: float [H, W, K].
      sigma: standard deviation in pixels.

    Returns:
      float [H, W, K].
    """
    kernel = filters.gaussian_kernel(sigma)
    return spread(spread(values, kernel, 0), kernel, 1)


def spread(values: jax.Array, kernel: np.ndarray, axis: int) -> jax.Array:
    """Correlates an array with a kernel along one axis, zero beyond the ends.

    Args:
      values: float array of any shape.
      kernel: [2 r + 1].
      axis: the axis.

    Returns:
      An array of the same shape.
    """
    size, radius = values.shape[axis], len(kernel) // 2
    widths = [(radius, radius) if a == axis else (0, 0) for a in range(values.ndim)]
    padded = jnp.pad(values, widths)
    return sum(
        float(weight) * jax.lax.slice_in_dim(padded, place, place + size, axis=axis)
        for place, weight in enumerate(kernel)
    )


def normalised(kernel: Callable, shape: tuple[int, ...]) -> Callable:
    """Builds the filter D^-1/2 K D^-1/2 of a filter K; D is K applied to ones.

    Args:
      kernel: K, a function [H, W, k] -> [H, W, k].
      shape: (H, W, 1).

    Returns:
      A function [H, W, k] -> [H, W, k].
    """
    scale = jax.lax.rsqrt(kernel(jnp.ones(shape)))
    return lambda values: scale * kernel(scale * values)
