"""The boundary cue: where brightness, colour or texture change, without learning.

At each pixel and scale the distribution of a quantity (lightness, Lab colour, the
orientation of fine structure) is compared on either side of every line through it, as in
the Pb detector (Martin, Fowlkes and Malik 2004), but under a Gaussian window: with h_k
the smoothed histogram, the chi-square distance of the two halves is, to first order,
sum_k (d h_k / d n)^2 / h_k, a quadratic form in the direction n. So one symmetric tensor
holds all orientations, and its larger eigenvalue is the strongest of them.

Everything here can be compiled, mapped and differentiated; images are [H, W, C] in
[0, 1], NaN counts as black. Tensors are [..., 3]: their xx, xy and yy.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from jaxseg.cues.filters import luminance, smooth

SCALES = (1.0, 2.0, 4.0, 8.0)
# What a cue counts at each of SCALES: logistic regression of the boundaries that
# half of the annotators drew, on BSDS500's training images.
WEIGHTS = {
    "lightness": (2.02, 1.40, 0.38, 0.89),
    "colour": (0.87, 2.06, 1.06, 0.94),
    "texture": (1.78, 0.05, 1.23, 4.10),
}
# The weighted sum that is as likely a boundary as not.
EVEN = 8.0
# Standard deviation in pixels by which neighbouring tensors are brought to agree.
AGREEMENT = 1.5
# Share of a histogram that every bin has beforehand: sampling noise is no boundary.
PRIOR = 1e-3
# Response of a texture filter, in units of white, below which a pixel counts as flat.
FLAT = 0.03
TINY = 1e-12


def strength(image: jax.Array, suppress: bool = True) -> jax.Array:
    """How likely each pixel is on a boundary: [H, W, C] -> [H, W] in [0, 1].

    Args:
      image: float in [0, 1], grey or RGB.
      suppress: keep only ridges, one pixel wide; otherwise the map is smooth, which
        is what a watershed wants.
    """
    found = summed_tensor(cue_tensors(image))
    odds = (largest(found) / EVEN) ** 2
    likely = odds / (1.0 + odds)
    return suppressed(likely, direction(found)) if suppress else likely


def canny(image: jax.Array, sigma: float = 1.4, low: float = 0.05, high: float = 0.12) -> jax.Array:
    """Canny's edges (1986): [H, W, C] -> bool [H, W], one pixel wide.

    Args:
      image: float in [0, 1], grey or RGB (whose luminance is taken).
      sigma: of the Gaussian, in pixels.
      low, high: an edge is connected pixels above `low`, one of which is above
        `high`; as heights of an ideal step, in units of the image.
    """
    return hysteresis(step_height(image, sigma), low, high)


def step_height(image: jax.Array, sigma: float = 1.4) -> jax.Array:
    """Height of the brightness step at each ridge of the gradient: [H, W], 0 elsewhere.

    The gradient's length times sigma sqrt(2 pi), the height of the ideal step that
    would give it.
    """
    grey = luminance(jnp.nan_to_num(image))
    down, right = smooth(grey, sigma, (1, 0)), smooth(grey, sigma, (0, 1))
    height = jnp.hypot(down, right) * sigma * np.sqrt(2.0 * np.pi)
    return suppressed(height, jnp.arctan2(down, right))


def channels(scales: tuple[float, ...] = (1.0, 4.0)) -> Callable[[dict], jax.Array]:
    """The cue as input of a network: lightness, colour and texture at each scale.

    Args:
      scales: standard deviations of the windows, in pixels.

    Returns:
      example -> [H, W, 3 len(scales)], each a distance of distributions less its
      usual value, about -1 where nothing changes and 1 or more at boundaries.

    Raises:
      ValueError: no scale, or one that is not positive.
    """
    scales = tuple(float(scale) for scale in scales)
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be one or more positive numbers of pixels, got {scales}")

    def features(example):
        return 4.0 * largest(cue_tensors(example["image"], scales)) ** 0.5 - 1.0

    return lambda example: jnp.concatenate(list(jnp.moveaxis(features(example), -2, 0)), -1)


def cue_tensors(image: jax.Array, scales: tuple[float, ...] = SCALES) -> jax.Array:
    """How lightness, colour and texture change: [H, W, C] -> [H, W, scales, 3 cues, 3]."""
    colours = lab(jnp.nan_to_num(image))
    grey = colours[..., 0]
    lightness = histogram(grey, 0.0, 100.0, 12)
    colour = jnp.concatenate([histogram(colours[..., k], -40.0, 40.0, 9) for k in (1, 2)], -1)
    cues = (lightness, colour, textons(grey / 100.0))
    return jnp.stack([distance_tensors(cues, scale) for scale in scales], -3)


def summed_tensor(tensors: jax.Array) -> jax.Array:
    """Cues [H, W, scales, 3, 3] at SCALES -> [H, W, 3], weighted and smoothed.

    A tensor is quadratic in the distance; each is divided by its own, so that
    distances add up where their directions agree.
    """
    weights = jnp.asarray(list(WEIGHTS.values()), tensors.dtype).T
    share = weights[None, None] / jnp.sqrt(largest(tensors) + TINY)
    return smooth(jnp.sum(tensors * share[..., None], (-3, -2)), AGREEMENT)


def distance_tensors(cues: tuple[jax.Array, ...], sigma: float) -> jax.Array:
    """Chi-square distances of the two sides of every line, of each cue.

    A wide window is applied to block means, of up to half its sigma: what varies
    over 8 pixels need not be computed at each.

    Args:
      cues: histograms [H, W, bins], each of its own number of bins.
      sigma: of the window, in pixels.

    Returns:
      Tensors [H, W, cues, 3].
    """
    size, ends = cues[0].shape[:2], np.cumsum([cue.shape[-1] for cue in cues])[:-1]
    block = max(1, int(sigma / 2.0))
    bins, sigma = block_means(jnp.concatenate(cues, -1), block), sigma / block
    share = jnp.maximum(smooth(bins, sigma), 0.0) + PRIOR
    down, right = (smooth(bins, sigma, order) * sigma for order in ((1, 0), (0, 1)))
    products = (right * right / share, right * down / share, down * down / share)
    sums = [[jnp.sum(part, -1) for part in jnp.split(product, ends, -1)] for product in products]
    tensors = jnp.moveaxis(jnp.asarray(sums), (0, 1), (-1, -2))
    shape = (tensors.shape[0] * block, tensors.shape[1] * block, *tensors.shape[2:])
    return jax.image.resize(tensors, shape, "linear")[: size[0], : size[1]]


def block_means(array: jax.Array, block: int) -> jax.Array:
    """Means over blocks of block x block: [H, W, K] -> [ceil(H / block), ...]."""
    height, width, depth = array.shape
    pads = ((0, -height % block), (0, -width % block), (0, 0))
    whole = jnp.pad(array, pads, mode="edge")
    return whole.reshape(
        whole.shape[0] // block, block, whole.shape[1] // block, block, depth
    ).mean((1, 3))


def textons(grey: jax.Array) -> jax.Array:
    """What fine structure each pixel is part of: [H, W] -> shares [H, W, 17].

    Bright and dark bars of four orientations and two widths, by their energy; the
    last share is that of no structure.
    """
    responses = []
    for sigma in (1.0, 2.0):
        orders = ((2, 0), (0, 2), (1, 1))
        yy, xx, xy = (smooth(grey, sigma, order) * sigma**2 for order in orders)
        for angle in np.pi * np.arange(4) / 4:
            c, s = float(np.cos(angle)), float(np.sin(angle))
            responses.append(c * c * xx + 2.0 * c * s * xy + s * s * yy)
    bars = jnp.stack(responses, -1)
    energy = jnp.concatenate([jnp.maximum(bars, 0.0), jnp.maximum(-bars, 0.0)], -1) ** 2
    total = jnp.sum(energy, -1, keepdims=True) + FLAT**2
    return jnp.concatenate([energy / total, FLAT**2 / total], -1)


def histogram(values: jax.Array, low: float, high: float, bins: int) -> jax.Array:
    """Soft membership of bins, linear between their centres: [...] -> [..., bins]."""
    place = (jnp.clip(values, low, high) - low) / (high - low) * (bins - 1)
    centres = jnp.broadcast_to(jnp.arange(bins, dtype=place.dtype), (*place.shape, bins))
    return jnp.maximum(0.0, 1.0 - jnp.abs(place[..., None] - centres))


def lab(image: jax.Array) -> jax.Array:
    """sRGB in [0, 1], or grey, to CIE Lab under D65: [H, W, C] -> [H, W, 3]."""
    rgb = image[..., :3] if image.shape[-1] >= 3 else jnp.repeat(image[..., :1], 3, -1)
    # Where the other branch is taken a power would have no finite gradient.
    power = ((jnp.maximum(rgb, 0.04) + 0.055) / 1.055) ** 2.4
    linear = jnp.where(rgb <= 0.04045, rgb / 12.92, power)
    primaries = jnp.asarray(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ],
        image.dtype,
    )
    share = linear @ (primaries / primaries.sum(1, keepdims=True)).T
    knee = 6.0 / 29.0
    root = jnp.cbrt(jnp.maximum(share, knee**3))
    x, y, z = jnp.moveaxis(
        jnp.where(share > knee**3, root, share / (3.0 * knee**2) + 4.0 / 29.0), -1, 0
    )
    return jnp.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], -1)


def largest(tensors: jax.Array) -> jax.Array:
    """The larger eigenvalue of tensors [..., 3]: [...]."""
    xx, xy, yy = jnp.moveaxis(tensors, -1, 0)
    return 0.5 * (xx + yy + jnp.sqrt((xx - yy) ** 2 + 4.0 * xy**2 + TINY**2))


def direction(tensors: jax.Array) -> jax.Array:
    """Angle of the strongest change, from the x axis towards y: [..., 3] -> [...]."""
    xx, xy, yy = jnp.moveaxis(tensors, -1, 0)
    return 0.5 * jnp.arctan2(2.0 * xy, xx - yy)


def suppressed(strength: jax.Array, angle: jax.Array) -> jax.Array:
    """Keeps what is no less than its neighbours on either side along `angle`: [H, W]."""
    rows, columns = jnp.indices(strength.shape, dtype=strength.dtype)
    down, right = jnp.sin(angle), jnp.cos(angle)

    def beside(step):
        places = [rows + step * down, columns + step * right]
        return map_coordinates(strength, places, order=1, mode="nearest")

    ridge = (strength >= beside(1.0)) & (strength >= beside(-1.0))
    return jnp.where(ridge, strength, 0.0)


def hysteresis(strength: jax.Array, low: float, high: float) -> jax.Array:
    """Pixels above `low` that connect, by 8 neighbours, to one above `high`: bool [H, W]."""
    weak = strength > low

    def grow(state):
        edges, _ = state
        around = jax.lax.reduce_window(edges, False, jnp.logical_or, (3, 3), (1, 1), "SAME")
        return around & weak, edges

    start = weak & (strength > high)
    edges, _ = jax.lax.while_loop(
        lambda state: jnp.any(state[0] != state[1]), grow, (start, jnp.zeros_like(start))
    )
    return edges


def ridges(strength: jax.Array, sigma: float = 2.0) -> jax.Array:
    """Keeps the ridges of any soft boundary map, one pixel wide: [H, W] -> [H, W].

    Across a boundary the map, smoothed by `sigma` pixels, bends the most.
    """
    bend = jnp.stack([smooth(strength, sigma, order) for order in ((0, 2), (1, 1), (2, 0))], -1)
    up = (bend[..., 0] + bend[..., 2] > 0)[..., None]  # on a flank it bends upwards
    return suppressed(strength, direction(jnp.where(up, bend, -bend)))
