"""Edge detection as a task: a net learns the edges that people draw (in the line of HED, RCF).

The net predicts an edge map at each of its resolutions (Xie and Tu 2015) and one fused of
them all. The loss leaves out pixels that only a few annotators marked (Liu et al. 2017).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg import examples, pictures, training
from jaxseg.cues import boundary
from jaxseg.metrics import pixel_scores
from jaxseg.task import Task

# Thresholds of the metrics during training.
LEVELS = np.arange(1, 20) / 20
# How far apart a predicted and a drawn edge pixel may lie, in units of the image's diagonal.
TOLERANCE = 0.0075


class Model(NamedTuple):
    """The net and the options of the task; the functions below take it first.

    Attributes:
      net: module (x [B, H, W, C]) -> logits [B, H, W, K], the first is the prediction.
      features: functions of an example -> [H, W, F], concatenated to the image.
      consensus: least share of the annotators who mark a pixel for it to be an edge.
      balance: weight of the background.
    """

    net: Any
    features: tuple[Callable, ...]
    consensus: float
    balance: float


def edge_detection(
    model,
    optimizer: optax.GradientTransformation,
    example: examples.Example,
    features: tuple[Callable, ...] = (),
    consensus: float = 0.3,
    balance: float = 1.1,
) -> Task:
    """Builds the task of detecting the edges that people draw.

    Args:
      model: module (x [B, H, W, C]) -> logits [B, H, W, K]; the first is the
        prediction, the loss is the mean over all K.
      optimizer: an optax transformation; evaluation uses its moving average of the
        parameters, named `ema`, where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C]
        and `edges` uint8 [H, W, 1], 255 times the share of the annotators who marked
        the pixel.
      features: cues that the net sees beside the image, each a function of the
        example (`image` float [H, W, C] in [0, 1]) -> [H, W, F].
      consensus: least share of the annotators for an edge, in (0, 1]; pixels that
        fewer marked are neither edge nor background (eta of RCF).
      balance: factor of the background's weight (lambda of RCF).

    Returns:
      A `Task`. Metrics: loss; and in evaluation edge_f, the best F over 19 thresholds
      of the map's ridges, and edge_threshold, where it is reached. A pixel is right if
      an edge lies near it, without one-to-one matching: comparable from step to step,
      but not with ODS (see `jaxseg.metrics.edge_scores`).

    Raises:
      ValueError: `consensus` or `balance` is out of range, or the example lacks an
        array.
    """
    if not 0.0 < consensus <= 1.0 or balance <= 0.0:
        raise ValueError(f"needs 0 < consensus={consensus} <= 1 and balance={balance} > 0")
    _check_example(example)
    model = Model(net=model, features=tuple(features), consensus=consensus, balance=balance)
    return Task(
        init=partial(init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=partial(eval_step, model),
        finish=finish,
        figures=partial(figures, model),
        predict=partial(predict, model),
    )


def init(
    model: Model, optimizer: optax.GradientTransformation, rng: jax.Array, batch: dict
) -> training.State:
    """Draws fresh parameters.

    Args:
      model: the model.
      optimizer: an optax transformation.
      rng: a key.
      batch: `image` uint8 [B, H, W, C]; only its shape counts.

    Returns:
      The state before the first step.
    """
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    return training.init_state(optimizer, model.net.init(rng, net_input(model, one)))


def train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: training.State,
    batch: dict,
    rng: jax.Array,
) -> tuple[training.State, dict]:
    """Follows the gradient of the batch's mean loss once.

    Args:
      model: the model.
      optimizer: an optax transformation.
      state: the state.
      batch: `image` uint8 [B, H, W, C], `edges` uint8 [B, H, W, 1], `mask` bool [B].
      rng: not used.

    Returns:
      The new state, and the sums {"loss", "count"}, scalars.
    """
    del rng

    def mean_loss(params):
        terms = balanced_loss(model, apply(model, params, batch), batch["edges"])
        return jnp.mean(terms), (state.batch_stats, terms)

    state, terms = training.gradient_step(optimizer, mean_loss, state)
    return state, pixel_scores.loss_sums(terms, batch["mask"])


def eval_step(model: Model, state: training.State, batch: dict, rng: jax.Array) -> dict:
    """Computes the sums of a batch without training.

    Args:
      model: the model.
      state: the state.
      batch: as of `train_step`.
      rng: not used.

    Returns:
      {"loss", "count"}, scalars, and those of `edge_sums`, [19] each.
    """
    del rng
    logits = apply(model, training.ema_params(state), batch)
    terms = balanced_loss(model, logits, batch["edges"])
    return pixel_scores.loss_sums(terms, batch["mask"]) | edge_sums(model, logits, batch)


def net_input(model: Model, batch: dict) -> jax.Array:
    """Returns the input of the net: the image in [-1, 1], then the features.

    Args:
      model: its `features` are used.
      batch: `image` uint8 [B, H, W, C].

    Returns:
      float32 [B, H, W, C + F].
    """
    image = batch["image"].astype(jnp.float32) / 255.0
    cues = [jax.vmap(feature)({"image": image}) for feature in model.features]
    return jnp.concatenate([2.0 * image - 1.0, *cues], -1)


def apply(model: Model, params: Any, batch: dict) -> jax.Array:
    """Runs the net.

    Args:
      model: the model.
      params: parameters of the net.
      batch: `image` uint8 [B, H, W, C].

    Returns:
      Logits, float32 [B, H, W, K].
    """
    return model.net.apply({"params": params}, net_input(model, batch)).astype(jnp.float32)


def balanced_loss(model: Model, logits: jax.Array, edges: jax.Array) -> jax.Array:
    """Class-balanced cross-entropy per example (Liu et al. 2017, equation 1), nats per pixel.

    The weight of an edge pixel is the share of background pixels, that of a background
    pixel is `balance` times the share of edge pixels. Pixels that too few annotators
    marked have weight 0.

    Args:
      model: its `consensus` and `balance` are used.
      logits: float [B, H, W, K]; the loss is the mean over K.
      edges: uint8 [B, H, W, 1], 255 times the share of the annotators.

    Returns:
      float32 [B].
    """
    share = edges.astype(jnp.float32) / 255.0
    edge = is_edge(share, model.consensus)
    ground = share == 0
    edges, grounds = (jnp.sum(part, (1, 2, 3), keepdims=True) for part in (edge, ground))
    counted = jnp.maximum(edges + grounds, 1)
    edge_weight, counted = grounds.astype(jnp.float32), counted.astype(jnp.float32)
    ground_weight = model.balance * edges.astype(jnp.float32)
    weight = jnp.where(edge, edge_weight, jnp.where(ground, ground_weight, 0.0)) / counted
    terms = optax.sigmoid_binary_cross_entropy(logits, edge.astype(jnp.float32))
    return jnp.mean(jnp.sum(weight * terms, (1, 2)) / counted[:, 0, 0], -1)


def is_edge(share: jax.Array, consensus: float) -> jax.Array:
    """Decides whether enough annotators marked a pixel.

    Args:
      share: of the annotators, float [...] in [0, 1].
      consensus: least share of an edge; a share of 0 never is one.

    Returns:
      bool [...].
    """
    return (share > 0) & (share >= consensus)


def edge_sums(model: Model, logits: jax.Array, batch: dict) -> dict[str, jax.Array]:
    """Counts pixels at each of LEVELS, over the rows that are examples.

    Args:
      model: its `consensus` is used.
      logits: float [B, H, W, K], of which the first is thinned to its ridges.
      batch: `edges` uint8 [B, H, W, 1] and `mask` bool [B].

    Returns:
      float32 [19] each: `predicted` pixels, those of them that are `right` (near a
      pixel that any annotator marked), `drawn` pixels (marked by enough annotators),
      and those of them that are `found` (near a predicted pixel).
    """
    ridges = jax.vmap(boundary.ridges)(jax.nn.sigmoid(logits[..., 0]))
    share = batch["edges"][..., 0].astype(jnp.float32) / 255.0
    drawn = is_edge(share, model.consensus)
    reach = round(TOLERANCE * math.hypot(*drawn.shape[1:]))
    rows = batch["mask"][:, None, None]

    def count(level):
        predicted = ridges >= level
        return {
            "right": jnp.sum(predicted & near(share > 0, reach) & rows),
            "predicted": jnp.sum(predicted & rows),
            "found": jnp.sum(drawn & near(predicted, reach) & rows),
            "drawn": jnp.sum(drawn & rows),
        }

    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), jax.vmap(count)(LEVELS))


def near(marks: jax.Array, reach: int) -> jax.Array:
    """Finds the pixels with a mark within `reach` rows and columns.

    Args:
      marks: bool [B, H, W].
      reach: in pixels.

    Returns:
      bool [B, H, W].
    """
    size = 2 * reach + 1
    return jax.lax.reduce_window(marks, False, jnp.logical_or, (1, size, size), (1, 1, 1), "SAME")


def finish(sums: dict) -> dict[str, float]:
    """Turns sums over images into metrics.

    Args:
      sums: of `train_step` or `eval_step`, as numpy arrays.

    Returns:
      The loss; and of an evaluation edge_f and edge_threshold, see `edge_detection`.
    """
    loss = float(sums["loss"] / sums["count"])
    if "found" not in sums:
        return {"loss": loss}
    recall = sums["found"] / np.maximum(sums["drawn"], 1.0)
    precision = sums["right"] / np.maximum(sums["predicted"], 1.0)
    f = 2.0 * recall * precision / np.maximum(recall + precision, 1e-12)
    best = int(np.argmax(f))
    return {"loss": loss, "edge_f": float(f[best]), "edge_threshold": float(LEVELS[best])}


def predict(
    model: Model, state: training.State, batch: dict, rng: jax.Array
) -> dict[str, jax.Array]:
    """Predicts how likely each pixel is an edge; the map is not thinned.

    Args:
      model: the model.
      state: the state.
      batch: `image` uint8 [B, H, W, C].
      rng: not used.

    Returns:
      {"strength": float32 [B, H, W] in [0, 1]}.
    """
    del rng
    logits = apply(model, training.ema_params(state), batch)
    return {"strength": jax.nn.sigmoid(logits[..., 0])}


def figures(
    model: Model, state: training.State, batch: dict, rng: jax.Array
) -> dict[str, jax.Array]:
    """Gives image, share of the annotators and prediction of the first four examples.

    Args:
      model: the model.
      state: the state.
      batch: `image` uint8 [B, H, W, C] and `edges` uint8 [B, H, W, 1].
      rng: not used.

    Returns:
      {"edges/image": uint8 [N, H, W, 3], "edges/annotators": uint8 [N, H, W, 1],
      "edges/prediction": float32 [N, H, W, 1] in [0, 1]} with N = min(B, 4).
    """
    first = jax.tree.map(lambda leaf: leaf[:4], batch)
    return {
        "edges/image": pictures.rgb(first["image"]),
        "edges/annotators": first["edges"],
        "edges/prediction": predict(model, state, first, rng)["strength"][..., None],
    }


def _check_example(example):
    examples.check_image(example)
    image, edges = example["image"], example.get("edges")
    if edges is None or edges.dtype != np.uint8 or edges.shape != (*image.shape[:2], 1):
        raise ValueError(
            "needs examples with `edges` uint8 [H, W, 1], as large as the image; "
            f"these have {examples.described(example)}"
        )
