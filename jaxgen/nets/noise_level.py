"""The noise level as features of a net, and the class beside it."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

# The noise level, logit(t) / 4, is cut to this range: t from 6e-6 to 1 - 6e-6.
RANGE = 3.0
NEAREST = 1e-6  # of t to 0 and 1, so that its logit is finite
FREQUENCIES = 32


class Level(nn.Module):
    """Embeds the noise level, and the class: (t [B], condition [B, K] or None) -> [B, width]."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, t, condition):
        """Computes the embedding; see the class."""
        t = jnp.clip(t.astype(jnp.float32), NEAREST, 1.0 - NEAREST)
        level = jnp.clip(0.25 * (jnp.log(t) - jnp.log1p(-t)), -RANGE, RANGE)
        angles = level[:, None] * np.geomspace(0.5, 32.0, FREQUENCIES, dtype=np.float32)[None]
        waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1).astype(self.dtype)
        x = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="first")(waves))
        x = nn.Dense(self.width, dtype=self.dtype, name="second")(x)
        if condition is not None:
            dense = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="classes")
            x += dense(condition.astype(self.dtype))
        return x
