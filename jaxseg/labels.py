"""The label contract: which ids a mask may hold, and what happens with others.

An id is a class, in [0, K), or the ignore id. JAX's own functions accept any other id
silently, each in its own way: `one_hot` drops it, indexing clamps or wraps it. Here
such an id makes the loss NaN, and with it the gradient, so that training stops at
that step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

IGNORE = 255


class Truth(NamedTuple):
    """Labels in the form that losses and metrics use.

    Attributes:
      labels: int32 [..., H, W]; 0 where the pixel does not count.
      one_hot: float32 [..., H, W, K]; all zero where the pixel does not count.
      valid: float32 [..., H, W]: 1 where the pixel counts, 0 where it is ignored,
        NaN where the id is neither a class nor the ignore id.
    """

    labels: jax.Array
    one_hot: jax.Array
    valid: jax.Array


def truth(
    segmentation: jax.Array, classes: int, ignore: int = IGNORE, mask: jax.Array | None = None
) -> Truth:
    """Applies the label contract.

    Args:
      segmentation: integer ids [..., H, W] or [..., H, W, 1].
      classes: K.
      ignore: the id of pixels that neither train nor score.
      mask: bool, broadcastable to the ids; False where a pixel does not count.

    Returns:
      A `Truth`.
    """
    if segmentation.shape[-1] == 1 and segmentation.ndim > 3:
        segmentation = segmentation[..., 0]
    ids = segmentation.astype(jnp.int32)
    known = (ids >= 0) & (ids < classes)
    valid = jnp.where(known, 1.0, jnp.where(ids == ignore, 0.0, jnp.nan))
    if mask is not None:
        valid = jnp.where(mask, valid, 0.0)
    counts = known & (valid > 0)
    labels = jnp.where(counts, ids, 0)
    one_hot = jax.nn.one_hot(jnp.where(counts, ids, -1), classes)
    return Truth(labels, one_hot, valid)


def check_ids(classes: int, ignore: int = IGNORE) -> None:
    """Refuses numbers of classes and ignore ids that contradict the label contract.

    Args:
      classes: K.
      ignore: the ignore id.

    Raises:
      ValueError: fewer than two classes, or an ignore id that is a class.
    """
    if classes < 2:
        raise ValueError(f"classes={classes}: a segmentation has at least 2 (background is one)")
    if 0 <= ignore < classes:
        raise ValueError(
            f"ignore={ignore} is one of the {classes} classes; give an id outside [0, {classes})"
        )
