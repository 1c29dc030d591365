"""optax's Adam for tests under strict dtype promotion."""

import jax
import optax


def adam(rate: float) -> optax.GradientTransformation:
    """Adam, for tests under strict promotion.

    optax divides by 1 - decay**count with an integer count, which strict promotion
    refuses; its own code runs under the standard rules.
    """
    inner = optax.adam(rate)

    def update(*arguments):
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(*arguments)

    return optax.GradientTransformation(inner.init, update)
