"""Depth as HHA: horizontal disparity, height above the ground, angle with gravity.

Gupta, Girshick, Arbelaez and Malik 2014, "Learning rich features from RGB-D images
for object detection and segmentation". The direction of gravity is estimated from
the surfaces' normals alone (Gupta, Arbelaez and Malik 2013, section 5.1).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.cues import depth as cue

DOWN = (0.0, 1.0, 0.0)  # of a camera that is held level
# Degrees within which a surface counts as level or upright: coarse steps, then fine.
TOLERANCES = (45.0,) * 5 + (15.0,) * 5
# Mean squared cosines of the normals with two directions that count as equally good.
TIE = 1e-3


def gravity(normals: jax.Array) -> jax.Array:
    """Estimates the direction of gravity from the normals of surfaces.

    Starting from the camera's y axis, alternates between choosing the normals that are
    nearly parallel or nearly orthogonal to the estimate, and taking the direction
    that is most parallel to the former and most orthogonal to the latter. Where several
    directions are as good, as beside a single wall, it takes the one nearest to the estimate.

    Args:
      normals: float [H, W, 3], of `jaxseg.cues.depth.normals`; zero where unknown.

    Returns:
      A unit vector float [3] in camera coordinates.
    """
    rows = normals.reshape(-1, 3)
    unit = jnp.sum(rows**2, -1) > 0.5

    def step(down, tolerance):
        cosine = _product(rows, down)
        level = unit & (jnp.abs(cosine) > jnp.cos(tolerance))
        upright = unit & (jnp.abs(cosine) < jnp.sin(tolerance))
        sign = upright.astype(rows.dtype) - level.astype(rows.dtype)
        scatter = _product(rows.T * sign[None], rows)
        value, vector = jnp.linalg.eigh(scatter)
        count = jnp.maximum(jnp.sum(unit), 1).astype(rows.dtype)
        # What even the best direction leaves unexplained is noise: no less tells two apart.
        best = value - value[0] < jnp.maximum(TIE * count, value[0])
        nearest = _product(vector, jnp.where(best, _product(down, vector), 0.0))
        length = jnp.linalg.norm(nearest)
        # None is nearest to an estimate that is orthogonal to all: it stays.
        return jnp.where(length > 1e-3, nearest / jnp.maximum(length, 1e-3), down), None

    return jax.lax.scan(step, jnp.array(DOWN), np.radians(np.float32(TOLERANCES)))[0]


def hha(depth: jax.Array, focal: float) -> jax.Array:
    """Computes inverse depth, height and angle with gravity of every pixel.

    The angle is that of the normal with the upward direction: 0 on the ground, pi / 2
    on a wall. No gradient flows through the estimate of gravity.

    Args:
      depth: float [H, W] in metres.
      focal: focal length in pixels.

    Returns:
      float [H, W, 3]: inverse depth (1/m), height above the lowest point (m) and angle
      (radians). All are 0 where depth is unknown; the angle also where the normal is.
    """
    inverse, height, cosine, sine = _parts(depth, focal)
    # Not the arc cosine: rounding is most of it on level ground, where it has no slope.
    angle = jnp.arctan2(sine, jnp.where((cosine == 0) & (sine == 0), 1.0, cosine))
    return jnp.stack([inverse, height, angle], -1)


def _parts(depth, focal):
    """Inverse depth, height, cosine and sine of the angle; 0 where unknown, [H, W] each."""
    valid = cue.known(depth)
    safe = jnp.where(valid, depth, 1.0)
    normal = cue.normals(depth, focal)
    up = -jax.lax.stop_gradient(gravity(normal))
    height = _product(cue.points(safe, focal), up)
    height = height - jnp.min(jnp.where(valid, height, jnp.inf))
    squared = jnp.sum(jnp.cross(normal, jnp.broadcast_to(up, normal.shape)) ** 2, -1)
    sine = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    return (
        jnp.where(valid, 1.0 / safe, 0.0),
        jnp.where(valid, height, 0.0),
        _product(normal, up),
        sine,
    )


def channels(focal: float | None = None) -> Callable:
    """Builds HHA as input of a network.

    Inverse depth and height, standardised over the image's known pixels; the cosine
    of the angle with the upward direction; and whether depth is known. All are 0 where
    depth is unknown, and everywhere where `depth` is missing from the example.

    Args:
      focal: focal length in pixels; None for the longer side of the image, an angle of
        view of 53 degrees.

    Returns:
      (example with `image` [H, W, C], perhaps `depth` [H, W, 1]) -> float32 [H, W, 4].
    """

    def compute(example):
        shape = example["image"].shape[:2]
        if "depth" not in example:
            return jnp.zeros((*shape, 4))
        depth = example["depth"][..., 0]
        valid = cue.known(depth)
        inverse, height, cosine, _ = _parts(depth, focal or max(shape))
        inverse, height = (cue.standardised(part, valid) for part in (inverse, height))
        return jnp.stack([inverse, height, cosine, valid.astype(jnp.float32)], -1)

    return compute


def _product(left, right):
    return jnp.matmul(left, right, precision="highest")
