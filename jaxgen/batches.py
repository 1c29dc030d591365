"""What every generative task does with its examples: check, condition, and sum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def image_shape(example: dict, model: str, classes: int = 0) -> tuple[int, int, int]:
    """Checks what an example looks like; returns its image's (H, W, C).

    Args:
      example: shape and dtype of each array of one example.
      model: what needs it, for the message: "a VAE".
      classes: number of classes that the model is conditioned on; 0 for none.

    Raises:
      ValueError: no `image` uint8 [H, W, C], or no integer `label` for the classes.
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
    """One-hot classes [B, classes], or None where a model has none.

    A class id outside [0, classes) must never train silently: its row is NaN, and
    so is the loss, at which training stops and names the step.
    """
    if not classes:
        return None
    label = batch["label"]
    valid = (label >= 0) & (label < classes)
    return jnp.where(valid[:, None], jax.nn.one_hot(label, classes), jnp.nan)


def masked_sums(terms: dict, mask: jax.Array) -> dict:
    """Sums each term [B, ...] over the rows that are examples, and counts these."""

    def total(value):
        rows = mask.reshape(-1, *[1] * (value.ndim - 1))
        return jnp.sum(jnp.where(rows, value, 0.0), axis=0)

    sums = {name: total(value) for name, value in terms.items()}
    return sums | {"count": jnp.sum(mask.astype(jnp.float32))}


def ema_params(opt_state, params):
    """The moving average of the parameters where the optimiser keeps one, else these."""
    return optax.tree.get(opt_state, "ema", params)
