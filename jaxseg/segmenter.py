"""The net of a segmentation task: input, logits, loss and sums of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseg import labels, losses
from jaxseg.metrics import pixel_scores


class Model(NamedTuple):
    """The net and the options of the task; the functions below take it first.

    Attributes:
      net: module (x, index, train) -> logits, or a tuple of them, finest first.
      classes: K.
      ignore: the id of pixels that neither train nor score.
      features: functions of an example -> [H, W, F], concatenated to the image.
      depth_unit: metres per unit of `depth`.
      loss: (logits, truth) -> [B].
      names: names of the classes; () for "0", "1", ...
      flips: whether predictions are averaged over mirror images.
      passes: dropout samples that a prediction averages; 0 for none.
    """

    net: Any
    classes: int
    ignore: int
    features: tuple[Callable, ...]
    depth_unit: float
    loss: losses.Loss
    names: tuple[str, ...]
    flips: bool
    passes: int


def net_input(model: Model, batch: dict) -> jax.Array:
    """Returns the input of the net: the image in [-1, 1], then the features.

    Args:
      model: its `features` and `depth_unit` are used.
      batch: `image` uint8 [B, H, W, C], and `depth` [B, H, W, 1] where a feature uses it.

    Returns:
      float32 [B, H, W, C + F].
    """
    image = batch["image"].astype(jnp.float32) / 255.0
    example = {"image": image}
    if "depth" in batch:
        example["depth"] = batch["depth"].astype(jnp.float32) * model.depth_unit
    cues = [jax.vmap(feature)(example) for feature in model.features]
    return jnp.concatenate([2.0 * image - 1.0, *cues], axis=-1)


def apply(
    model: Model, variables: dict, batch: dict, rng: jax.Array, train=False, drop=False
) -> tuple[tuple[jax.Array, ...], Any]:
    """Runs the net.

    Args:
      model: the model.
      variables: {"params", "batch_stats"}.
      batch: as of `init`.
      rng: the key of dropout.
      train: whether dropout is on, and batch norms use the batch's statistics.
      drop: whether dropout is on outside training.

    Returns:
      A tuple of logits, finest first; and the new batch statistics.
    """
    x, dropout = net_input(model, batch), {"dropout": rng}
    stats = variables["batch_stats"]
    if train:
        outputs, changed = model.net.apply(
            variables, x, batch["index"], True, rngs=dropout, mutable=["batch_stats"]
        )
        stats = changed.get("batch_stats", stats)
    elif drop:
        outputs = model.net.apply(variables, x, batch["index"], False, drop=True, rngs=dropout)
    else:
        outputs = model.net.apply(variables, x, batch["index"], False)
    return (outputs if isinstance(outputs, tuple) else (outputs,)), stats


def supervised_loss(model: Model, outputs: tuple[jax.Array, ...], batch: dict) -> jax.Array:
    """Computes the loss per example: the weighted mean over the outputs of the net.

    Args:
      model: the model.
      outputs: logits [B, H / s, W / s, K] for strides s = 1, 2, 4, ...; weighted by 1 / s.
      batch: `segmentation` ids [B, H, W, 1] and `mask` bool [B]; and perhaps `weight` float
        [B, H, W, 1] of each pixel in the loss.

    Returns:
      float32 [B].
    """
    total = weight = 0.0
    for level, logits in enumerate(outputs):
        stride = 2**level
        target = truth(model, batch, stride)
        if "weight" in batch:
            heavy = target.valid * batch["weight"][:, ::stride, ::stride, 0]
            target = target._replace(valid=heavy)
        total, weight = total + model.loss(logits, target) / 2**level, weight + 1 / 2**level
    return total / weight


def truth(model: Model, batch: dict, stride: int = 1) -> labels.Truth:
    """Applies the label contract to every `stride`-th pixel of a batch's masks.

    Args:
      model: its `classes` and `ignore` are used.
      batch: `segmentation` ids [B, H, W, 1] and `mask` bool [B].
      stride: in pixels.

    Returns:
      A `labels.Truth` of [B, ceil(H / stride), ceil(W / stride)].
    """
    ids = batch["segmentation"][:, ::stride, ::stride, 0]
    return labels.truth(ids, model.classes, model.ignore, batch["mask"][:, None, None])


def sums_of(model: Model, logits: jax.Array, terms: jax.Array, batch: dict) -> dict:
    """Computes the sums of a batch.

    Args:
      model: the model.
      logits: float [B, H, W, K].
      terms: losses [B].
      batch: `segmentation` ids [B, H, W, 1] and `mask` bool [B].

    Returns:
      {"confusion" [K, K], "calibration", "loss", "count"}.
    """
    target, probability = truth(model, batch), jax.nn.softmax(logits)
    return {
        "confusion": pixel_scores.confusion(jnp.argmax(probability, -1), target),
        "calibration": pixel_scores.calibration(probability, target),
    } | pixel_scores.loss_sums(terms, batch["mask"])
