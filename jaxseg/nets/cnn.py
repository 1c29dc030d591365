"""The small convolutional net for classification that the project began with."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.nets.unet import HE, ChannelDropout


class CNN(nn.Module):
    """Two convolutions, pooling, dropout, a dense layer, class logits.

    Called as (x float [B, H, W, C], index int32 [B], train) -> logits float32 [B, K]. For
    224 x 224 x 3 the dense layer holds 102.8 of the net's 102.8 million parameters.

    Attributes:
      classes: K; set by the task.
      widths: channels of the convolutions, 3 x 3.
      hidden: size of the dense layer.
      dropout: rate at which channels are dropped after pooling.
      dtype: dtype of the computation; parameters are float32.
    """

    classes: int = 0
    widths: tuple[int, ...] = (64, 64)
    hidden: int = 128
    dropout: float = 0.25
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the logits of a batch; `drop` turns dropout on outside training."""
        x = x.astype(self.dtype)
        for features in self.widths:
            x = nn.relu(nn.Conv(features, (3, 3), kernel_init=HE, dtype=self.dtype)(x))
        # A last row or column that no window of 2 fills is pooled by itself.
        x = nn.max_pool(x, (2, 2), (2, 2), padding="SAME")
        x = ChannelDropout(self.dropout)(x, index, train or drop)
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(x.astype(jnp.float32))
