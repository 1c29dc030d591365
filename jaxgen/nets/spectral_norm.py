"""Spectral normalisation of a net's weights (Miyato et al. 2018).

A function of parameters, not a layer: any net can be normalised, and once an update
rather than once a call. The vectors of the power iteration follow from the
parameters alone, so they are the same on every device and for any batch.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

EPSILON = 1e-12


def init(rng: jax.Array, params: Any) -> dict:
    """Starting vectors of the power iteration: {path of a kernel: u [outputs]}.

    Kernels are leaves of two or more axes; the last one counts outputs. Biases and
    scales have none and stay as they are.
    """
    vectors = {}
    for number, (path, leaf) in enumerate(jax.tree.leaves_with_path(params)):
        if leaf.ndim > 1:
            key = jax.random.fold_in(rng, number)
            vectors[_name(path)] = _unit(jax.random.normal(key, leaf.shape[-1:]))
    return vectors


def normalise(params: Any, vectors: dict, steps: int = 1) -> tuple[Any, dict]:
    """Divides each kernel by its largest singular value, as far as it is known.

    A kernel [..., outputs] is the matrix [inputs, outputs] of all its other axes. The
    gradient goes through the singular value, with its two vectors held fixed
    (equation 12).

    Args:
      params: a net's parameters.
      vectors: of `init` or of the call before.
      steps: of power iteration; one an update is enough, as weights move slowly.

    Returns:
      Parameters with singular values of at most about 1, and the vectors to go on with.
    """
    moved = {}

    def divide(path, leaf):
        if leaf.ndim < 2:
            return leaf
        matrix = leaf.reshape(-1, leaf.shape[-1])
        name = _name(path)
        value, moved[name] = largest_singular_value(matrix, vectors[name], steps)
        return leaf / jnp.maximum(value, EPSILON)

    return jax.tree.map_with_path(divide, params), moved


def largest_singular_value(
    matrix: jax.Array, u: jax.Array, steps: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Power iteration from u [outputs] on a matrix [inputs, outputs].

    Returns:
      v' M u, which rises to the largest singular value, and the new u.
    """
    fixed = stop_gradient(matrix)
    for _ in range(steps):
        v = _unit(fixed @ u)
        u = _unit(fixed.T @ v)
    return v @ matrix @ u, u


def _unit(x):
    return x / jnp.maximum(jnp.linalg.norm(x), EPSILON)


def _name(path):
    return "/".join(str(getattr(key, "key", key)) for key in path)
