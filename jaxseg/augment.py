"""Augmentation of one example: all its arrays are warped together.

Functions (example, rng, ...) -> example for `config.data.augment`, compiled into the
training step. The random numbers depend on (seed, step, example) alone.
"""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jaxseg.labels import IGNORE

# How each array is resampled, and its value outside the source: black in an image,
# unknown depth, no edge, no weight, a void object; labels get the ignore id.
LINEAR = {"image": 0.0, "edges": 0.0, "weight": 0.0}
NEAREST = {"depth": 0.0, "instances": 65535}


def warp(
    example: dict,
    rng: jax.Array,
    crop: tuple[int, int] = (),
    flip: bool = True,
    turns: int = 1,
    share: float = 1.0,
    scale: tuple[float, float] = (1.0, 1.0),
    rotate: float = 0.0,
    elastic: float = 0.0,
    grid: int = 5,
    balance: float = 0.0,
    ignore: int = IGNORE,
) -> dict:
    """Flips, scales, rotates, bends and crops an example in one resampling.

    Args:
      example: arrays [H, W, C]: `image`, `edges` and `weight` are resampled linearly, `depth`,
        `segmentation`, `labels` and `instances` take the nearest pixel; others stay unchanged.
      rng: a key.
      crop: (height, width) of the result; that of the example unless given. Its place
        is drawn so that it lies inside the source where it fits; of an example that is padded
        below and at the right (black, and without a label), inside the rest.
      flip: whether half of the examples are mirrored left to right.
      turns: in how many ways they are turned by right angles, each as likely: 1 for none, 2 for
        0 and 180 degrees, 4 for all four, which needs a square result.
      share: of the examples that are scaled, rotated and bent. The others keep their pixels as
        they are, without the blur of resampling (Isensee et al. 2021, nnU-Net, take a fifth).
      scale: range of the enlargement, which is drawn uniformly in its logarithm.
      rotate: largest angle in degrees, either way.
      elastic: standard deviation in pixels of a smooth random displacement, drawn on
        a grid x grid mesh over the crop.
      grid: points of that mesh along each side.
      balance: share of crops around a pixel of a class, drawn from those that the example
        shows, each as likely; so rare classes are seen (Isensee et al. 2021, nnU-Net, take a
        third).
      ignore: id of the pixels of `segmentation` and `labels` that lie outside the source.

    Returns:
      The example with arrays [h, w, C] of the same dtypes.

    Raises:
      ValueError: `balance` for an example without `segmentation`; `turns` or `share` out of range.
    """
    source = example["image"].shape[:2]
    size = tuple(crop) or source
    if crop:
        source = _content(example, ignore)
    keys = jax.random.split(rng, 5)
    centre = jax.random.uniform(keys[4], (2,), minval=-0.5, maxval=0.5), None
    if balance:
        if "segmentation" not in example:
            raise ValueError(f"balance={balance} needs examples with `segmentation`")
        centre = centre[0], _balanced_centre(example["segmentation"], keys[4], balance, ignore)
    turn = _quarter_turn(jax.random.fold_in(keys[2], 1), turns, size)
    _check_share(share)
    bends = bool(tuple(scale) != (1.0, 1.0) or rotate or elastic)
    if bends and share < 1.0:
        bends = jax.random.bernoulli(jax.random.fold_in(keys[1], 1), share)
    bend = bends, scale, rotate, elastic, grid
    places = _source_places(keys, source, size, flip, turn, bend, centre)
    warped = dict(example)
    for key, fill in (LINEAR | NEAREST | {"segmentation": ignore, "labels": ignore}).items():
        if key in example:
            warped[key] = _resample(example[key], places, key in LINEAR, fill)
    return warped


def colour(
    example: dict,
    rng: jax.Array,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    noise: float = 0.0,
    share: float = 1.0,
) -> dict:
    """Changes the image's brightness, contrast and saturation, and adds noise.

    Args:
      example: with `image` uint8 [H, W, C].
      rng: a key.
      brightness: largest shift, as a share of the range.
      contrast: largest relative change of the distance to the mean.
      saturation: largest relative change of the distance to grey.
      noise: standard deviation of Gaussian pixel noise, as a share of the range.
      share: of the examples that are changed.

    Returns:
      The example with the changed `image` uint8 [H, W, C].

    Raises:
      ValueError: `share` is out of range.
    """
    _check_share(share)
    image = example["image"].astype(jnp.float32) / 255.0
    shift, gain, tint = jax.random.uniform(rng, (3,), minval=-1.0, maxval=1.0)
    mean, grey = jnp.mean(image), jnp.mean(image, -1, keepdims=True)
    image = grey + (1.0 + saturation * tint) * (image - grey)
    image = mean + (1.0 + contrast * gain) * (image - mean) + brightness * shift
    if noise:
        image += noise * jax.random.normal(jax.random.fold_in(rng, 1), image.shape)
    changed = _to_uint8(255.0 * image)
    if share < 1.0:
        taken = jax.random.bernoulli(jax.random.fold_in(rng, 2), share)
        changed = jnp.where(taken, changed, example["image"])
    return example | {"image": changed}


def _check_share(share):
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share={share} must be in [0, 1]")


def _content(example, ignore):
    """(height, width) of an example without what pads it below and at the right."""
    shown = jnp.any(example["image"] != 0, -1)
    if "segmentation" in example:
        shown |= example["segmentation"][..., 0] != ignore
    last = lambda line: jnp.max(jnp.where(line, 1 + jnp.arange(line.size), 1)).astype(jnp.float32)
    return last(jnp.any(shown, 1)), last(jnp.any(shown, 0))


def _balanced_centre(ids, rng, share, ignore):
    """A pixel (y, x) of a class drawn from those that are there; and whether it is taken."""
    ids = ids[..., 0].astype(jnp.int32)
    present = jnp.bincount(ids.ravel(), length=256).at[ignore].set(0) > 0
    taken, chosen, row, column = jax.random.split(jax.random.fold_in(rng, 1), 4)
    number = jax.random.categorical(chosen, jnp.where(present, 0.0, -jnp.inf))
    of_class = ids == number
    draw = lambda key, weight: jax.random.categorical(key, jnp.log(weight.astype(jnp.float32)))
    y = draw(row, jnp.sum(of_class, 1))
    x = draw(column, of_class[y])
    return jnp.stack([y, x]).astype(jnp.float32), jax.random.bernoulli(taken, share) & jnp.any(
        present
    )


def _quarter_turn(rng, turns, size):
    """Cosine and sine of one of so many turns by right angles."""
    if turns not in (1, 2, 4) or (turns == 4 and size[0] != size[1]):
        raise ValueError(f"turns={turns} must be 1, 2, or for a square result 4, not {size}")
    number = jax.random.randint(rng, (), 0, turns) * (4 // turns)
    return jnp.array([1.0, 0.0, -1.0, 0.0])[number], jnp.array([0.0, 1.0, 0.0, -1.0])[number]


def _source_places(keys, source, size, flip, quarter, bend, centre):
    """Finds where each pixel of the result lies in the source: (y, x), each [h, w].

    `bend` begins with whether scale, rotation and displacement, which follow, take place.
    """
    bends, scale, rotate, elastic, grid = bend
    centred = [jnp.arange(n, dtype=jnp.float32) - (n - 1) / 2 for n in size]
    y, x = jnp.meshgrid(*centred, indexing="ij")
    if elastic:
        mesh = elastic * jax.random.normal(keys[0], (grid, grid, 2))
        displaced = jnp.where(bends, jax.image.resize(mesh, (*size, 2), "cubic"), 0.0)
        y, x = y + displaced[..., 0], x + displaced[..., 1]
    low, high = jnp.log(scale[0]), jnp.log(scale[1])
    zoom = jnp.where(bends, jnp.exp(jax.random.uniform(keys[1], minval=low, maxval=high)), 1.0)
    turn = jnp.deg2rad(rotate) * jax.random.uniform(keys[2], minval=-1.0, maxval=1.0)
    turn = jnp.where(bends, turn, 0.0)
    side = jnp.where(jax.random.bernoulli(keys[3]) & flip, -1.0, 1.0)
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    cos, sin = cos * quarter[0] - sin * quarter[1], sin * quarter[0] + cos * quarter[1]
    cos, sin = cos / zoom, sin / zoom
    y, x = cos * y + sin * x, (cos * x - sin * y) * side
    room = [jnp.maximum(full - part / zoom, 0.0) for full, part in zip(source, size, strict=True)]
    middle = [(n - 1) / 2 for n in source]
    place, around = centre
    shift = [share * free for share, free in zip(place, room, strict=True)]
    if around is not None:
        pixel, taken = around
        near = [jnp.clip(pixel[i] - middle[i], -room[i] / 2, room[i] / 2) for i in (0, 1)]
        shift = [jnp.where(taken, a, b) for a, b in zip(near, shift, strict=True)]
    # Whole pixels stay whole.
    whole = (
        jnp.round(middle[i] + s - (size[i] - 1) / 2) + (size[i] - 1) / 2 - middle[i]
        for i, s in enumerate(shift)
    )
    down, right = (jnp.where(bends, a, b) for a, b in zip(shift, whole, strict=True))
    return y + middle[0] + down, x + middle[1] + right


def _resample(array, places, linear, fill):
    """Samples an array [H, W, C] at (y, x), each [h, w]: [h, w, C] of the same dtype."""
    height, width = array.shape[:2]
    y, x = places
    inside = (y > -0.5) & (y < height - 0.5) & (x > -0.5) & (x < width - 0.5)
    if linear:
        one = lambda plane: map_coordinates(plane.astype(jnp.float32), places, 1, mode="nearest")
        values = jax.vmap(one, -1, -1)(array)
        values = _to_uint8(values) if array.dtype == jnp.uint8 else values.astype(array.dtype)
    else:
        row = jnp.clip(jnp.round(y).astype(jnp.int32), 0, height - 1)
        column = jnp.clip(jnp.round(x).astype(jnp.int32), 0, width - 1)
        values = jnp.asarray(array)[row, column]
    return jnp.where(inside[..., None], values, jnp.asarray(fill, array.dtype))


def _to_uint8(values):
    return jnp.clip(jnp.round(values), 0, 255).astype(jnp.uint8)
