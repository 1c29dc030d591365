"""Stochastic depth (Huang et al. 2016): residual branches that are left out of an example."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.noise import per_example


class StochasticDepth(nn.Module):
    """Leaves a branch out of each example by the example's own key.

    So neither the batch size nor the number of devices changes which are left out.

    Attributes:
      rate: probability with which a branch is left out, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x, index, drop):
        """Returns x [B, ...] scaled by 1 / (1 - rate) where it is kept, 0 elsewhere."""
        if not (drop and self.rate):
            return x
        draw = lambda key: jax.random.bernoulli(key, 1.0 - self.rate, (1,) * (x.ndim - 1))
        kept = per_example(draw, self.make_rng("dropout"), index)
        return jnp.where(kept, x / (1.0 - self.rate), 0.0).astype(x.dtype)


def linear_rates(rate: float, blocks: int) -> list[float]:
    """The rate of each block of an encoder: from 0 at the first to `rate` at the last.

    Args:
      rate: of the last block.
      blocks: their number.

    Raises:
      ValueError: `rate` is not in [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"stochastic_depth must be in [0, 1), got {rate}")
    return np.linspace(0.0, rate, blocks).tolist()
