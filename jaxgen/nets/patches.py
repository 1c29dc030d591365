"""Images as maps of patches, whose pixels become channels, and back."""

import jax


def fold(x: jax.Array, side: int) -> jax.Array:
    """Makes one pixel of each patch.

    Args:
      x: [B, H, W, C].
      side: of a patch, which must divide H and W.

    Returns:
      [B, H / side, W / side, side * side * C].
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // side, width // side, -1)


def unfold(x: jax.Array, side: int) -> jax.Array:
    """The inverse of `fold`.

    Args:
      x: [B, h, w, side * side * C].
      side: of a patch.

    Returns:
      [B, h * side, w * side, C].
    """
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, side, side, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * side, width * side, -1)
