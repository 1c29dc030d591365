"""The small classifier whose features scores compare where no other net is given."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

GRID = 4  # the largest map that is still flattened, each way


class FeatureNet(nn.Module):
    """Convolutions that halve the image down to 4 x 4, a dense layer, class logits.

    Called as (x [B, H, W, C] in [-1, 1], index [B], train) -> logits [B, K], float32, as
    classification tasks want it. The features are the dense layer, after its ReLU: what
    the logits are a linear function of.

    Attributes:
      classes: K; set by the task.
      widths: channels of the convolutions, 3 x 3. Each halves the sides that are longer
        than 4; what is left of a larger image is averaged down to 4 x 4.
      size: F, number of features.
      dtype: what it computes in; parameters, features and logits are float32.
    """

    classes: int = 0
    widths: tuple[int, ...] = (32, 64, 128)
    size: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, index=None, train=False, drop=False, features=False):
        """Logits of a batch, or (features [B, F], logits) where `features` asks."""
        del index, train, drop  # nothing here is random
        x = x.astype(self.dtype)
        for width in self.widths:
            strides = tuple(2 if side > GRID else 1 for side in x.shape[1:3])
            x = nn.Conv(
                width, (3, 3), strides, kernel_init=nn.initializers.he_normal(), dtype=self.dtype
            )(x)
            x = nn.relu(x)
        window = tuple(-(-side // GRID) for side in x.shape[1:3])
        x = nn.avg_pool(x, window, window, padding="SAME", count_include_pad=False)
        x = nn.relu(nn.Dense(self.size, dtype=self.dtype)(x.reshape(len(x), -1)))
        x = x.astype(jnp.float32)
        logits = nn.Dense(self.classes)(x)
        return (x, logits) if features else logits
