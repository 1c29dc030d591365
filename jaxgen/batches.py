"""Checks of examples, and operations on batches that all generative tasks share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def image_shape(example: dict, model: str, classes: int = 0) -> tuple[int, int, int]:
    """Checks the arrays of an example and returns the shape of its image.

    Args:
      example: shape and dtype of each array of one example.
      model: the model, for the message: "a VAE".
      classes: number of classes that the model is conditioned on; 0 for none.

    Returns:
      (H, W, C) of the image.

    Raises:
      ValueError: no `image` uint8 [H, W, C], no integer `label` where there are classes, or
        a negative number of classes.
    """
    image = example.get("image")
    if image is None or len(image.shape) != 3 or image.dtype != np.uint8:
        found = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in example.items()}
        raise ValueError(f"{model} needs examples with `image` uint8 [H, W, C]; these have {found}")
    label = example.get("label")
    if classes < 0:
        raise ValueError(f"classes must be 0 (none) or their number; got {classes}")
    if classes and (label is None or label.shape or label.dtype.kind not in "iu"):
        raise ValueError(f"classes={classes} needs examples with an integer `label`")
    return image.shape


def one_hot_classes(batch: dict, classes: int) -> jax.Array | None:
    """One-hot classes of a batch.

    A class id outside [0, classes) must never train silently: its row is NaN, so the loss
    is NaN, and training stops and names the step.

    Args:
      batch: with `label`, integer [B], unless `classes` is 0.
      classes: number of classes; 0 for none.

    Returns:
      float32 [B, classes], or None without classes.
    """
    if not classes:
        return None
    label = batch["label"]
    valid = (label >= 0) & (label < classes)
    return jnp.where(valid[:, None], jax.nn.one_hot(label, classes), jnp.nan)


def with_condition(z: jax.Array, condition: jax.Array | None) -> jax.Array:
    """Concatenates latents, or noise, and their condition.

    Args:
      z: [..., B, L].
      condition: [B, K], or None.

    Returns:
      [..., B, L + K]; z itself without a condition.
    """
    if condition is None:
        return z
    spread = jnp.broadcast_to(condition, (*z.shape[:-1], condition.shape[-1]))
    return jnp.concatenate([z, spread], axis=-1)


def unit_range(image: jax.Array) -> jax.Array:
    """Scales uint8 images [...] to float32 in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255.0


def signed_range(image: jax.Array) -> jax.Array:
    """Scales uint8 images [...] to float32 in [-1, 1]."""
    return jnp.asarray(image, jnp.float32) / 127.5 - 1.0


def from_signed(x: jax.Array) -> jax.Array:
    """Scales values [...] from [-1, 1] to [0, 1]; those outside become the nearest inside."""
    return jnp.clip(0.5 * (x + 1.0), 0.0, 1.0)


def masked_sums(terms: dict, mask: jax.Array) -> dict:
    """Sums terms over the rows of a batch that are examples.

    Args:
      terms: {name: float32 [B, ...]}.
      mask: bool [B], False on rows that only pad the batch; their values may be NaN.

    Returns:
      {name: [...]}, and `count`, the number of examples, float32.
    """

    def total(value):
        rows = mask.reshape(-1, *[1] * (value.ndim - 1))
        return jnp.sum(jnp.where(rows, value, 0.0), axis=0)

    sums = {name: total(value) for name, value in terms.items()}
    return sums | {"count": jnp.sum(mask.astype(jnp.float32))}


def ema_params(opt_state: optax.OptState, params: Any) -> Any:
    """The moving average of the parameters where the optimiser keeps one, else `params`.

    Args:
      opt_state: state of an optimiser; a moving average in it has the name `ema`.
      params: the parameters.

    Returns:
      A tree of the structure of `params`.
    """
    return optax.tree.get(opt_state, "ema", params)


def seeds_to_show(classes: int) -> dict[str, jax.Array]:
    """The batch whose samples a figure shows: `index` 0 to 63, `label` the classes in turn."""
    index = jnp.arange(64)
    return {"index": index, "label": index % max(classes, 1)}
