"""The depth cue: metres with unknown pixels, normals, depth edges.

Depth is float32 [H, W] in metres along the optical axis; 0, negative, NaN and infinity
mean unknown. Camera coordinates have x to the right, y down and z into the scene.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

UNITS = ("metres", "millimetres", "cityscapes_disparity")
EDGE = 0.1  # relative jump from which on two neighbours belong to two surfaces


def to_metres(
    raw: jax.Array, unit: str, baseline: float | None = None, focal: float | None = None
) -> jax.Array:
    """Converts a sensor's values to depth in metres.

    Args:
      raw: [...], of any number type.
      unit: "metres"; "millimetres" (uint16 of Kinect, RealSense and NYUv2, 0 unknown);
        or "cityscapes_disparity": uint16 p, whose disparity is (p - 1) / 256 pixels
        where p > 0, and the depth baseline * focal / disparity.
      baseline: distance of the stereo cameras in metres.
      focal: focal length in pixels of the disparity's image.

    Returns:
      float32 [...], 0 where unknown.

    Raises:
      ValueError: an unknown unit, or disparity without its camera.
    """
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}; got {unit!r}")
    values = jnp.asarray(raw, jnp.float32)
    if unit == "millimetres":
        values = values / 1000.0
    if unit == "cityscapes_disparity":
        if not baseline or not focal:
            raise ValueError("disparity needs baseline (metres) and focal (pixels) of the camera")
        disparity = (values - 1.0) / 256.0
        values = baseline * focal / jnp.where(disparity > 0, disparity, jnp.inf)
    return jnp.where(known(values), values, 0.0)


def known(depth: jax.Array) -> jax.Array:
    """Finds where depth is known: positive and finite, [...] -> bool [...]."""
    return jnp.isfinite(depth) & (depth > 0)


def fill(depth: jax.Array) -> jax.Array:
    """Fills unknown pixels smoothly and keeps known ones exactly.

    Push-pull interpolation (Gortler et al. 1996, section 3.4, as Grossman and Dally
    1998): means of the known pixels over ever larger blocks, then from coarse to fine
    each unknown pixel takes the value of the coarser level, interpolated.

    Args:
      depth: float32 [H, W] in metres.

    Returns:
      float32 [H, W]; all zero where nothing is known.
    """
    valid = known(depth)
    return jnp.where(valid, depth, _fill(jnp.where(valid, depth, 0.0), valid.astype(jnp.float32)))


def _fill(total, weight):
    """Mean of each pixel where weight > 0, else interpolated from the level above."""
    mean = total / jnp.where(weight > 0, weight, 1.0)
    height, width = total.shape
    if height == width == 1:
        return mean
    odd = ((0, height % 2), (0, width % 2))
    blocks = (jnp.pad(part, odd).reshape((height + 1) // 2, 2, -1, 2) for part in (total, weight))
    coarse = _fill(*(block.sum((1, 3)) for block in blocks))
    # A coarse pixel is a block of 2 x 2; the last may reach beyond the image.
    shape = (2 * coarse.shape[0], 2 * coarse.shape[1])
    return jnp.where(weight > 0, mean, jax.image.resize(coarse, shape, "linear")[:height, :width])


def points(depth: jax.Array, focal: float, centre: tuple[float, float] | None = None) -> jax.Array:
    """Computes the camera coordinates (x, y, z) of each pixel.

    Args:
      depth: float [H, W] in metres.
      focal: focal length in pixels.
      centre: row and column of the optical axis; the middle of the image by default.

    Returns:
      float [H, W, 3] in metres.
    """
    height, width = depth.shape
    row, column = centre or ((height - 1) / 2, (width - 1) / 2)
    y = (jnp.arange(height, dtype=depth.dtype)[:, None] - row) / focal
    x = (jnp.arange(width, dtype=depth.dtype)[None, :] - column) / focal
    return jnp.stack([x * depth, y * depth, depth], -1)


def normals(
    depth: jax.Array,
    focal: float | None = None,
    pitch: float | None = None,
    centre: tuple[float, float] | None = None,
) -> jax.Array:
    """Computes unit normals (x, y, z) of the surface, toward the camera.

    The cross product of differences along the rows and columns. A difference spans both
    neighbours if they are known and no depth edge lies between, otherwise one.

    Args:
      depth: float [H, W] in metres.
      focal: focal length in pixels, of a perspective camera.
      pitch: or the size of a pixel in metres, of an orthographic one.
      centre: row and column of the optical axis; the middle of the image by default.

    Returns:
      float [H, W, 3]; zero where depth is unknown, and where one direction has no such
      neighbour.

    Raises:
      ValueError: not exactly one of focal and pitch.
    """
    if (focal is None) == (pitch is None):
        raise ValueError("give either focal (pixels) or pitch (metres per pixel)")
    valid = known(depth)
    depth = jnp.where(valid, depth, 0.0)
    if focal is not None:
        place = points(depth, focal, centre)
    else:
        y, x = jnp.indices(depth.shape, dtype=depth.dtype) * pitch
        place = jnp.stack([x, y, depth], -1)
    down, right = (_tangent(place, depth, axis) for axis in (0, 1))
    normal = jnp.cross(down, right)  # z is negative on surfaces that face the camera
    view = place if focal is not None else jnp.array([[[0.0, 0.0, 1.0]]])
    normal = jnp.where(jnp.sum(normal * view, -1, keepdims=True) > 0, -normal, normal)
    squared = jnp.sum(normal**2, -1, keepdims=True)
    # Lengths shrink with the square of the pixel's size: only an exact 0 is no normal.
    unit = normal * jax.lax.rsqrt(jnp.where(squared > 0, squared, 1.0))
    return jnp.where(valid[..., None], unit, 0.0)


def _tangent(place, depth, axis):
    """Difference of points along an axis, within one surface; 0 where there is none."""
    valid = known(depth)
    linked = valid & _shifted(valid, axis, 1) & (jumps(depth, axis) < EDGE)
    first = jnp.where(_shifted(linked, axis, -1)[..., None], _shifted(place, axis, -1), place)
    last = jnp.where(linked[..., None], _shifted(place, axis, 1), place)
    return last - first


def _shifted(array, axis, step):
    """The neighbour's value, `step` pixels on; 0 beyond the border."""
    size = array.shape[axis]
    widths = [(abs(step), abs(step)) if a == axis else (0, 0) for a in range(array.ndim)]
    start = abs(step) + step
    return jax.lax.slice_in_dim(jnp.pad(array, widths), start, start + size, axis=axis)


def jumps(depth: jax.Array, axis: int) -> jax.Array:
    """Computes the relative depth discontinuity from each pixel to the next along an axis.

    Inverse depth is linear in the pixel on every plane. So the jump of a pair is its
    difference in inverse depth, or what remains of that after subtracting the slope on
    either side, where this is less, over the pair's mean: about |z1 - z2| / z. It is 0 on
    any plane, however steep, and small at creases.

    Args:
      depth: float [H, W] in metres.
      axis: 0 for the pixel below, 1 for the pixel to the right.

    Returns:
      float [H, W]; 0 where one of the two depths is unknown.
    """
    valid = known(depth)
    inverse = jnp.where(valid, 1.0 / jnp.where(valid, depth, 1.0), 0.0)
    before, after, second = (_shifted(inverse, axis, step) for step in (-1, 1, 2))
    has_before, has_after, has_second = (_shifted(valid, axis, step) for step in (-1, 1, 2))
    change = after - inverse
    left = jnp.where(has_before, jnp.abs(change - (inverse - before)), 0.0)
    right = jnp.where(has_second, jnp.abs(change - (second - after)), 0.0)
    # The larger of the two: at a mixed pixel between two surfaces, one side's slope
    # explains the change.
    unexplained = jnp.where(has_before | has_second, jnp.maximum(left, right), jnp.inf)
    both = valid & has_after
    least = jnp.where(both, jnp.minimum(jnp.abs(change), unexplained), 0.0)
    return 2.0 * least / jnp.where(both, inverse + after, 1.0)


def edges(depth: jax.Array) -> jax.Array:
    """Computes the strength of the depth edge at each pixel, the largest of its four jumps.

    Args:
      depth: float [H, W] in metres.

    Returns:
      float [H, W]; see `jumps`.
    """
    down, right = jumps(depth, 0), jumps(depth, 1)
    across = jnp.maximum(down, _shifted(down, 0, -1))
    return jnp.maximum(across, jnp.maximum(right, _shifted(right, 1, -1)))


def channels(focal: float | None = None) -> Callable:
    """Builds the depth cue as input of a network.

    The channels are inverse depth, standardised over the image's known pixels; the
    normal's x, y and z; the depth edge in [0, 1), half at a jump of 10 %; and whether
    depth is known. All are 0 where depth is unknown, and everywhere where `depth` is
    missing from the example, so a network trained with `drop` works on images alone.

    Args:
      focal: focal length in pixels; None for the longer side of the image, an angle of
        view of 53 degrees.

    Returns:
      (example with `image` [H, W, C], perhaps `depth` [H, W, 1]) -> float32 [H, W, 6].
    """

    def compute(example):
        shape = example["image"].shape[:2]
        if "depth" not in example:
            return jnp.zeros((*shape, 6))
        depth = example["depth"][..., 0]
        valid = known(depth)
        inverse = jnp.where(valid, 1.0 / jnp.where(valid, depth, 1.0), 0.0)
        jump = edges(depth)
        parts = (
            standardised(inverse, valid)[..., None],
            normals(depth, focal or max(shape)),
            (jump / (jump + EDGE))[..., None],
            valid[..., None].astype(jnp.float32),
        )
        return jnp.concatenate(parts, -1)

    return compute


def standardised(values: jax.Array, valid: jax.Array) -> jax.Array:
    """Scales values to mean 0 and variance 1 over the valid pixels.

    Variation below a thousandth of the mean is not enlarged to variance 1.

    Args:
      values: float [H, W].
      valid: bool [H, W].

    Returns:
      float [H, W], 0 where not valid.
    """
    count = jnp.maximum(jnp.sum(valid), 1).astype(values.dtype)
    mean = jnp.sum(jnp.where(valid, values, 0.0)) / count
    centred = jnp.where(valid, values - mean, 0.0)
    return centred * jax.lax.rsqrt(jnp.sum(centred**2) / count + (1e-3 * mean) ** 2 + 1e-12)


def drop(example: dict, rng: jax.Array, rate: float = 0.2) -> dict:
    """Makes the whole `depth` of an example unknown, at random; an augmentation.

    Modality dropout (Neverova et al. 2016): the network learns to work without the sensor.

    Args:
      example: with `depth` [H, W, 1].
      rng: the example's key.
      rate: probability.

    Returns:
      The example, its `depth` kept or all 0.

    Raises:
      ValueError: an example without depth.
    """
    if "depth" not in example:
        raise ValueError(f"drop needs examples with `depth`; these have {', '.join(example)}")
    depth = example["depth"]
    keep = jax.random.bernoulli(rng, 1.0 - rate)
    return example | {"depth": jnp.where(keep, depth, jnp.zeros_like(depth))}
