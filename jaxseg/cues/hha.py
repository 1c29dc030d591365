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


def gravity(normals: jax.Array) -> jax.Array:
    """Estimates the direction of gravity from the normals of surfaces.

    Starting from the camera's y axis, alternates between choosing the normals that are
    nearly parallel or nearly orthogonal to the estimate, and taking the direction
    that is most parallel to the former and most orthogonal to the latter.

    Args:
      normals: float [H, W, 3], of `jaxseg.cues.depth.normals`; zero where unknown.

    Returns:
      A unit vector float [3] in camera coordinates.
    """
    rows = normals.reshape(-1, 3)
    unit = jnp.sum(rows**2, -1) > 0.5

    def step(down, tolerance):
        cosine = rows @ down
        level = unit & (jnp.abs(cosine) > jnp.cos(tolerance))
        upright = unit & (jnp.abs(cosine) < jnp.sin(tolerance))
        sign = upright.astype(rows.dtype) - level.astype(rows.dtype)
        scatter = jnp.matmul(rows.T * sign[None], rows, precision="highest")
        value, vector = jnp.linalg.eigh(scatter)
        least = vector[:, 0] * jnp.where(vector[:, 0] @ down < 0, -1.0, 1.0)
        # Where two directions explain the normals equally well, the estimate stays.
        count = jnp.maximum(jnp.sum(unit), 1).astype(rows.dtype)
        clear = value[1] - value[0] > 1e-3 * count
        return jnp.where(clear, least, down), None

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
    valid = cue.known(depth)
    safe = jnp.where(valid, depth, 1.0)
    normal = cue.normals(depth, focal)
    up = -jax.lax.stop_gradient(gravity(normal))
    height = cue.points(safe, focal) @ up
    height = height - jnp.min(jnp.where(valid, height, jnp.inf))
    has_normal = jnp.any(normal != 0, -1)
    cosine = jnp.where(has_normal, jnp.clip(normal @ up, -0.9999, 0.9999), 0.0)
    parts = (
        jnp.where(valid, 1.0 / safe, 0.0),
        jnp.where(valid, height, 0.0),
        jnp.where(has_normal, jnp.arccos(cosine), 0.0),
    )
    return jnp.stack(parts, -1)


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
        inverse, height, angle = jnp.moveaxis(hha(depth, focal or max(shape)), -1, 0)
        parts = (
            cue.standardised(inverse, valid),
            cue.standardised(height, valid),
            jnp.where(angle > 0, jnp.cos(angle), 0.0),
            valid.astype(jnp.float32),
        )
        return jnp.stack(parts, -1)

    return compute
