"""Optimisers for tests under strict promotion."""

import jax
import optax


def adam(*args, **kwargs):
    """optax.adam; its bias correction mixes a float with an integer count."""
    plain = optax.adam(*args, **kwargs)

    def update(grads, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return plain.update(grads, state, params)

    return optax.GradientTransformation(plain.init, update)
