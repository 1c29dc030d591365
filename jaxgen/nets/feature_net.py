"""A small classifier whose features the scores of samples compare by default."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

GRID = 4  # height and width of the largest map that is flattened


class FeatureNet(nn.Module):
    """Convolutions that halve the image down to 4 x 4, a dense layer, and class logits.

    The features are the outputs of the dense layer after its ReLU; the logits are a linear
    function of them.

    Attributes:
      classes: K; set by the task.
      widths: channels of the convolutions, 3 x 3. Each halves the sides that are longer
        than 4; an average pooling to 4 x 4 follows for images that are still larger.
      size: F, number of features.
      dtype: dtype that it computes in; parameters, features and logits are float32.
    """

    classes: int = 0
    widths: tuple[int, ...] = (32, 64, 128)
    size: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, index=None, train=False, drop=False, features=False):
        """Classifies images.

        Args:
          x: [B, H, W, C] in [-1, 1].
          index: not used, as nothing is random; for the signature of classification nets.
          train: not used.
          drop: not used.
          features: whether to return the features too.

        Returns:
          Logits [B, K], or (features [B, F], logits); float32.
        """
        del index, train, drop
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
