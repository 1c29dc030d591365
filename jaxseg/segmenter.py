"""What segmentation tasks share: start, step and net, and loss and sums of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseg import labels, losses, training
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


def init(
    model: Any, optimizer: optax.GradientTransformation, rng: jax.Array, batch: dict
) -> training.State:
    """Draws fresh parameters.

    Args:
      model: a `Model`, or any with `net`, `features` and `depth_unit`.
      optimizer: an optax transformation.
      rng: a key.
      batch: `image` uint8 [B, H, W, C], `index` int32 [B], and `depth` [B, H, W, 1] where
        a feature uses it.

    Returns:
      The state before the first step.
    """
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    keys = {"params": rng, "dropout": rng}
    variables = model.net.init(keys, net_input(model, one), one["index"], True)
    return training.init_state(optimizer, variables)


def gradient_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    loss: Callable,
    state: Any,
    batch: dict,
    rng: jax.Array,
) -> tuple[Any, tuple[jax.Array, jax.Array]]:
    """Follows the gradient of the batch's mean loss once.

    Args:
      model: as of `init`.
      optimizer: an optax transformation.
      loss: (model, outputs of the net, batch) -> [B].
      state: a `training.State`, or any NamedTuple with the same fields and more.
      batch: as of `init`, with what `loss` uses.
      rng: the key of dropout.

    Returns:
      The new state; and the losses [B] with the finest logits [B, H, W, K].
    """

    def mean_loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs, stats = apply(model, variables, batch, rng, train=True)
        terms = loss(model, outputs, batch)
        return jnp.mean(terms), (stats, (terms, outputs[0]))

    return training.gradient_step(optimizer, mean_loss, state)


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

    def loss(logits, stride):
        target = truth(model, batch, stride)
        if "weight" in batch:
            heavy = target.valid * batch["weight"][:, ::stride, ::stride, 0]
            target = target._replace(valid=heavy)
        return model.loss(logits, target)

    return over_outputs(loss, outputs)


def over_outputs(loss: Callable, outputs: tuple[jax.Array, ...]) -> jax.Array:
    """Computes the weighted mean of the losses of a net's outputs.

    Args:
      loss: (logits [B, H / s, W / s, K], s) -> [B].
      outputs: logits for strides s = 1, 2, 4, ...; weighted by 1 / s.

    Returns:
      float32 [B].
    """
    strides = [2**level for level in range(len(outputs))]
    total = sum(loss(logits, s) / s for logits, s in zip(outputs, strides, strict=True))
    return total / sum(1 / s for s in strides)


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
