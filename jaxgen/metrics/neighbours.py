"""Precision, recall, density and coverage by nearest neighbours among features.

Distances are computed one block of rows at a time, so memory grows with the number of
images and not with its square.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

K = 5  # as Naeem et al. 2020
ROWS = 1024  # of a block of distances


def precision_recall(
    real: np.ndarray, generated: np.ndarray, k: int = K, rows: int = ROWS
) -> dict[str, float]:
    """Measures how realistic generated images are, and how much of the real ones they cover.

    A ball around each image reaches to its k-th nearest neighbour of the same kind.
    Precision (Kynkaanniemi et al. 2019) is the share of generated images inside the ball of
    any real image; recall is the share of real images inside the ball of any generated
    image. Density (Naeem et al. 2020) is the mean number of real balls around a generated
    image, divided by k; coverage is the share of real balls with a generated image inside.
    Inside means nearer than the radius, so a set against itself has density and coverage 1.

    Args:
      real: features [N, F].
      generated: features [M, F].
      k: the number of the neighbour that sets the radius.
      rows: images in a block of distances.

    Returns:
      precision, recall, density and coverage.

    Raises:
      ValueError: k below 1, or not more than k images of either kind.
    """
    count = min(len(real), len(generated))
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if count < least_images(k):
        raise ValueError(
            f"the {k}-th neighbour needs at least {least_images(k)} images of each kind; "
            f"there are {len(real)} and {len(generated)}"
        )
    middle = centre(real)
    real, generated = (jnp.asarray(points - middle, jnp.float32) for points in (real, generated))
    compare = partial(_compare, rows=rows)
    counts = compare(real, generated, radii(real, k, rows), radii(generated, k, rows))
    hit, balls, reached, covered = (np.asarray(leaf) for leaf in jax.device_get(counts))
    return {
        "precision": float(hit.mean()),
        "recall": float(reached.mean()),
        "density": float(balls.sum(dtype=np.float64) / (k * len(generated))),
        "coverage": float(covered.mean()),
    }


def centre(points: np.ndarray) -> np.ndarray:
    """Finds what to subtract from features before their distances are compared in float32.

    Far from zero, float32 would round away the distances between the points. Subtracting the
    mean itself could round each point: whole numbers have many equal distances, which stay
    equal only where no difference is rounded. So each mean is rounded to a multiple of a
    power of two, about the largest standard deviation of a feature.

    Args:
      points: features [N, F].

    Returns:
      float64 [F], less than half of that deviation from the mean of each feature.
    """
    points = np.asarray(points, np.float64)
    step = np.ldexp(0.5, np.frexp(points.std(axis=0).max())[1])
    return step * np.round(points.mean(axis=0) / step)


def least_images(k: int = K) -> int:
    """Number of images of each kind that the k-th neighbour needs."""
    return k + 1


@partial(jax.jit, static_argnums=(1, 2))
def radii(points: jax.Array, k: int = K, rows: int = ROWS) -> jax.Array:
    """Squared distance of each point to its k-th nearest neighbour.

    Args:
      points: [N, F].
      k: the number of the neighbour.
      rows: points in a block of distances.

    Returns:
      [N].
    """

    def block(part):
        # The nearest of all is the point itself.
        return _smallest(squared_distances(part, points), k + 1)

    return jax.lax.map(block, _blocks(points, rows)).reshape(-1)[: len(points)]


def _smallest(values, k):
    """The k-th smallest of each row of values [N, M]: [N].

    One pass for each of the k values: `top_k` sorts on CPUs, which takes 28 times as long
    for rows of 10,000.
    """

    def step(_, carry):
        value, held = carry
        larger = jnp.min(jnp.where(values > value[:, None], values, jnp.inf), axis=1)
        value = jnp.where(held < k, larger, value)
        return value, jnp.sum(values <= value[:, None], axis=1)

    start = jnp.full(len(values), -jnp.inf), jnp.zeros(len(values), jnp.int32)
    return jax.lax.fori_loop(0, k, step, start)[0]


@jax.jit
def nearest(queries: jax.Array, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the nearest point of each query.

    Args:
      queries: [Q, D].
      points: [N, D].

    Returns:
      Squared distances [Q], and the indices of the points, int32 [Q].
    """
    distances = squared_distances(queries, points)
    return jnp.min(distances, axis=1), jnp.argmin(distances, axis=1)


def copied(generated: np.ndarray, real: np.ndarray, share: float = 0.05) -> float:
    """The share of generated images that are unusually near to a training image.

    Near is nearer than the nearest `share` of real images that were not trained on: images as
    new as those have this share, and a model that copies has more (in the line of Meehan et al.
    2020).

    Args:
      generated: distances [N] to the nearest training image.
      real: the same of real images [M].
      share: of the real images that counts as near.

    Returns:
      In [0, 1].
    """
    return float(np.mean(np.asarray(generated) < np.quantile(real, share)))


def squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared Euclidean distances between rows of x [N, D] and y [M, D]: [N, M]."""
    product = jnp.dot(x, y.T, precision="highest")
    norms = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None]
    return jnp.maximum(norms - 2.0 * product, 0.0)


@partial(jax.jit, static_argnames="rows")
def _compare(real, generated, real_radii, generated_radii, rows):
    """Compares both sets, one block of real images at a time.

    Returns:
      Of each generated image, whether it is inside any real ball [M]; of each real image,
      the number of generated images inside its ball, whether it is inside any generated
      ball, and whether any generated image is inside its ball, [N] each.
    """
    count = len(real)
    # A row that only pads the last block has no ball.
    padded = jnp.pad(real_radii, (0, -count % _height(count, rows)), constant_values=-1.0)

    def block(hit, part):
        points, radius = part
        distances = squared_distances(points, generated)
        inside = distances < radius[:, None]
        reached = jnp.any(distances < generated_radii[None], axis=1)
        covered = jnp.min(distances, axis=1) < radius
        return hit | jnp.any(inside, axis=0), (jnp.sum(inside, axis=1), reached, covered)

    parts = _blocks(real, rows), padded.reshape(-1, _height(count, rows))
    hit, counts = jax.lax.scan(block, jnp.zeros(len(generated), bool), parts)
    return hit, *(leaf.reshape(-1)[:count] for leaf in counts)


def _height(count, rows):
    return min(count, rows)


def _blocks(points, rows):
    """Points [N, F] as blocks [N / rows, rows, F], padded with zeros."""
    height = _height(len(points), rows)
    padded = jnp.pad(points, ((0, -len(points) % height), (0, 0)))
    return padded.reshape(-1, height, points.shape[-1])
