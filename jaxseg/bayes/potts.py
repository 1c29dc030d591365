"""Label maps that fit the evidence and have short borders: the Potts model, relaxed.

The energy of a label map, the sum over pixels of the energy of the pixel's label plus
the length of all borders, is hard to minimise over labels, but convex over soft labels
(Chambolle, Cremers and Pock 2012; the relaxation of Zach et al. 2008).
"""

import math

import jax
import jax.numpy as jnp


def soft_labels(energies: jax.Array, border: float, iterations: int = 100) -> jax.Array:
    """Finds each pixel's soft label, weights of the labels that sum to 1.

    Minimises sum(weights * energies) + border / 2 * sum over labels of total variation,
    by the primal-dual algorithm of Chambolle and Pock 2011. The label of the largest weight
    is the decision. Jit-able with all but energies static, and differentiable.

    Args:
      energies: of each label at each pixel, float [H, W, K], such as minus a log-likelihood.
      border: price of a border of one pixel's length.
      iterations: of the algorithm; information travels about one pixel in each.

    Returns:
      float [H, W, K], not negative.
    """
    energies = jnp.moveaxis(energies, -1, 0)  # labels first: rows of pixels are contiguous
    step = 1 / math.sqrt(8)  # the gradient's norm is below sqrt(8)

    def iterate(_, state):
        primal, ahead, dual = state
        dual = dual + step * _gradient(ahead)
        norm = jnp.sqrt((dual**2).sum(0) + 1e-12)
        dual = dual / jnp.maximum(1.0, norm / (border / 2 + 1e-12))[None]
        moved = _to_simplex(primal + step * (_divergence(dual) - energies))
        return moved, 2 * moved - primal, dual

    first = jax.nn.softmax(-energies, axis=0)
    dual = jnp.zeros((2, *energies.shape), energies.dtype)
    primal, _, _ = jax.lax.fori_loop(0, iterations, iterate, (first, first, dual))
    return jnp.moveaxis(primal, 0, -1)


def _gradient(values):
    """Forward differences of [K, H, W] along y and x, zero at the far border."""
    down = jnp.diff(values, axis=1, append=values[:, -1:])
    right = jnp.diff(values, axis=2, append=values[:, :, -1:])
    return jnp.stack([down, right])


def _divergence(dual):
    """Minus the adjoint of the gradient; the last row and column of the dual are zero."""
    down, right = dual
    down = jnp.diff(down, axis=1, prepend=jnp.zeros_like(down[:, :1]))
    return down + jnp.diff(right, axis=2, prepend=jnp.zeros_like(right[:, :, :1]))


def _to_simplex(values):
    """The nearest non-negative values with sum 1 over the first axis (Michelot 1986).

    As many rounds as labels are exact: each drops at least one label, or is the last.
    """
    threshold = (values.sum(0) - 1) / len(values)
    for _ in range(len(values) - 1):
        above = values > threshold[None]
        count = jnp.maximum(above.sum(0), 1).astype(values.dtype)
        threshold = (jnp.where(above, values, 0).sum(0) - 1) / count
    return jnp.maximum(values - threshold[None], 0.0)
