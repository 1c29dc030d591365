"""k-means on the device, from several starts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Clusters(NamedTuple):
    """The result of k-means.

    Attributes:
      centres: float [K, D].
      inertia: float scalar, the sum of squared distances to the nearest centre.
    """

    centres: jax.Array
    inertia: jax.Array


def kmeans(
    points: jax.Array, clusters: int, key: jax.Array, restarts: int, iterations: int = 30
) -> Clusters:
    """Runs Lloyd's algorithm several times, each begun by k-means++, and keeps the best run.

    Arthur and Vassilvitskii 2007. A cluster that loses all its points keeps its centre.
    Deterministic given the key; jit-able with all but points and key static.

    Args:
      points: float [N, D].
      clusters: K, may exceed the number of distinct points.
      key: a typed key.
      restarts: number of runs.
      iterations: of each run.

    Returns:
      The `Clusters` of least inertia.

    Raises:
      ValueError: no points, or clusters, restarts or iterations below 1.
    """
    if min(len(points), clusters, restarts, iterations) < 1:
        raise ValueError(
            f"need at least 1 point, cluster, restart and iteration, got {len(points)}, "
            f"{clusters}, {restarts} and {iterations}"
        )

    def run(key):
        centres = _plus_plus(points, clusters, key)
        centres = jax.lax.fori_loop(0, iterations, lambda _, c: _lloyd(points, c), centres)
        return Clusters(centres, distances(points, centres).min(1).sum())

    found = jax.lax.map(run, jax.random.split(key, restarts))
    best = jnp.argmin(found.inertia)
    return jax.tree.map(lambda values: values[best], found)


def distances(points: jax.Array, centres: jax.Array) -> jax.Array:
    """Computes squared Euclidean distances, not negative.

    Args:
      points: float [N, D].
      centres: float [K, D].

    Returns:
      float [N, K].
    """
    cross = jnp.matmul(points, centres.T, precision="highest")
    squares = (points**2).sum(1)[:, None] - 2 * cross + (centres**2).sum(1)[None]
    return jnp.maximum(squares, 0.0)


def _plus_plus(points, clusters, key):
    """Each next centre is a point, drawn with probability of its squared distance."""
    first, *keys = jax.random.split(key, clusters)
    centre = points[jax.random.randint(first, (), 0, len(points))]
    centres, nearest = [centre], ((points - centre[None]) ** 2).sum(1)
    for one in keys:
        centre = points[jax.random.categorical(one, jnp.log(nearest + 1e-30))]
        centres.append(centre)
        nearest = jnp.minimum(nearest, ((points - centre[None]) ** 2).sum(1))
    return jnp.stack(centres)


def _lloyd(points, centres):
    members = jax.nn.one_hot(distances(points, centres).argmin(1), len(centres))
    sizes = members.sum(0)[:, None]
    means = jnp.matmul(members.T, points, precision="highest") / jnp.maximum(sizes, 1.0)
    return jnp.where(sizes > 0, means, centres)
