"""Attention with several heads (Vaswani et al. 2017)."""

import jax
import jax.numpy as jnp


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Averages values by the softmax of the scaled products of queries and keys.

    The softmax is computed in float32; products in the dtype of the arguments.

    Args:
      queries: [B, N, heads, size].
      keys: [B, M, heads, size].
      values: [B, M, heads, size].

    Returns:
      [B, N, heads, size] of the dtype of the values.
    """
    products = jnp.einsum("bnhd,bmhd->bhnm", queries, keys).astype(jnp.float32)
    weights = jax.nn.softmax(products * queries.shape[-1] ** -0.5)
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(values.dtype), values)
