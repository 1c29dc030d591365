"""Spectral normalisation of a net's weights (Miyato et al. 2018).

A function of parameters, not a layer: it works with any net, and runs once per update and
not once per call. The vectors of the power iteration depend on the parameters only, so they
are the same on every device and for any batch.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

EPSILON = 1e-12


def init(rng: jax.Array, params: Any) -> dict:
    """Draws the first vectors of the power iteration.

    Args:
      rng: key.
      params: a net's parameters. Leaves of two or more axes are kernels, and their last axis
        is that of the outputs; biases and scales have no vector.

    Returns:
      {path of a kernel: u [outputs]}.
    """
    vectors = {}
    for number, (path, leaf) in enumerate(jax.tree.leaves_with_path(params)):
        if leaf.ndim > 1:
            key = jax.random.fold_in(rng, number)
            vectors[_name(path)] = _unit(jax.random.normal(key, leaf.shape[-1:]))
    return vectors


def normalise(params: Any, vectors: dict, steps: int = 1) -> tuple[Any, dict]:
    """Divides each kernel by the estimate of its largest singular value.

    A kernel [..., outputs] is taken as the matrix [inputs, outputs]. The gradient goes
    through the singular value, with its two vectors held fixed (equation 12).

    Args:
      params: a net's parameters.
      vectors: the result of `init` or of the previous call.
      steps: of power iteration; one per update is enough, as weights change slowly.

    Returns:
      Parameters with singular values of at most about 1, and the vectors for the next call.
    """
    new_vectors = {}

    def divide(path, leaf):
        if leaf.ndim < 2:
            return leaf
        matrix = leaf.reshape(-1, leaf.shape[-1])
        name = _name(path)
        value, new_vectors[name] = largest_singular_value(matrix, vectors[name], steps)
        return leaf / jnp.maximum(value, EPSILON)

    return jax.tree.map_with_path(divide, params), new_vectors


def largest_singular_value(
    matrix: jax.Array, u: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Estimates the largest singular value by power iteration.

    Args:
      matrix: M [inputs, outputs].
      u: [outputs], the vector to start from.
      steps: of the iteration.

    Returns:
      v' M u, which rises to the largest singular value, and the new u [outputs].
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
