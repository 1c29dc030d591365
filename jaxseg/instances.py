"""Instance segmentation as a task: a net learns where objects are and how far inside.

The net predicts the foreground and the relative distance to the object's border (in the line
of Naylor et al. 2019); `jaxseg.inference.instances` divides these maps into objects.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseg import examples, instance_targets, pictures, segmenter, training
from jaxseg.inference import instances as watershed
from jaxseg.inference import posterior
from jaxseg.metrics import example_scores, instance_scores, pixel_scores
from jaxseg.task import Task


class Model(NamedTuple):
    """The net and the options of the task; the functions below take it first.

    Attributes:
      net: module (x, index, train) -> logits [B, H, W, 2], or a tuple of them, finest first.
      features: functions of an example -> [H, W, F], concatenated to the image.
      depth_unit: metres per unit of `depth`.
      reach: distances above it are cut to it, in pixels.
      distance_weight: the weight of the distance's loss beside the foreground's.
      divide: (foreground [H, W], distance [H, W]) -> objects int32 [H, W].
      flips: whether predictions are averaged over mirror images.
    """

    net: Any
    features: tuple[Callable, ...]
    depth_unit: float
    reach: int
    distance_weight: float
    divide: Callable
    flips: bool


def instances(
    model,
    optimizer: optax.GradientTransformation,
    example: examples.Example,
    features: tuple[Callable, ...] = (),
    depth_unit: float = 1.0,
    reach: int = 16,
    distance_weight: float = 1.0,
    threshold: float = 0.5,
    seed: float = 0.5,
    min_size: int = 4,
    levels: int = 16,
    flips: bool = False,
) -> Task:
    """Builds the task of finding the pixels of every single object.

    Args:
      model: module (x [B, H, W, C], index [B], train) -> logits [B, H, W, 2] or, in
        training, a tuple of logits at 1, 1/2, 1/4, ... of the size. Its attribute `classes`,
        where it has one, is set to 2.
      optimizer: an optax transformation; evaluation uses its moving average of the
        parameters, named `ema`, where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C];
        `instances` integer [H, W, 1]: 0 for background, 1 to 65534 for objects, 65535 for
        void; `weight` float [H, W, 1] of each pixel in the loss, if there is one; and
        `depth` [H, W, 1] where a feature uses it.
      features: cues that the net sees beside the image, as of `jaxseg.segmentation`.
      depth_unit: metres per unit of `depth`.
      reach: distances above it are cut to it, in pixels; about the radius of large objects.
      distance_weight: the weight of the distance's loss beside the foreground's.
      threshold, seed, min_size, levels: how maps are divided into objects, see
        `jaxseg.inference.instances.instances`.
      flips: predict the mean over the image and its mirror image.

    Returns:
      A `Task`. Metrics: loss; and in evaluation those of `instance_scores.scores`.

    Raises:
      ValueError: an option is out of range, or the example lacks an array.
    """
    watershed.check(threshold, seed, min_size, levels)
    if reach < 1 or distance_weight < 0:
        raise ValueError(f"needs reach={reach} >= 1 and distance_weight={distance_weight} >= 0")
    _check_example(example)
    options = {"threshold": threshold, "seed": seed, "min_size": min_size, "levels": levels}
    model = Model(
        net=model.clone(classes=2) if hasattr(model, "classes") else model,
        features=tuple(features),
        depth_unit=depth_unit,
        reach=reach,
        distance_weight=distance_weight,
        divide=partial(watershed.instances, **options),
        flips=flips,
    )
    return Task(
        init=partial(segmenter.init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=partial(eval_step, model),
        finish=finish,
        figures=partial(figures, model),
        predict=partial(predict, model),
    )


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
      batch: as of `segmenter.init`, with `instances` [B, H, W, 1], `mask` bool [B], perhaps
        `weight`.
      rng: the key of dropout.

    Returns:
      The new state, and the sums {"loss", "count"}.
    """
    state, (terms, _) = segmenter.gradient_step(
        model, optimizer, supervised_loss, state, batch, rng
    )
    return state, pixel_scores.loss_sums(terms, batch["mask"])


def eval_step(model: Model, state: training.State, batch: dict, rng: jax.Array) -> dict:
    """Computes the sums of a batch without training.

    Args:
      model: the model.
      state: the state.
      batch: as of `train_step`.
      rng: a key; without effect, as dropout is off.

    Returns:
      {"loss", "count"}, those of `instance_scores.instance_sums`, and "example_scores",
      {"ap50": [N, 2]}, see `metrics.example_scores`.
    """
    variables = training.ema_variables(state)
    logits = segmenter.apply(model, variables, batch, rng)[0][0]
    terms = supervised_loss(model, (logits,), batch)
    guess = jax.vmap(model.divide)(*_maps(logits))
    counts = jax.vmap(instance_scores.instance_sums)(guess, batch["instances"][..., 0])
    rows = batch["mask"].astype(jnp.float32)
    sums = {name: jnp.tensordot(rows, leaf, 1) for name, leaf in counts.items()}
    matched = counts["matched"][:, :1]
    union = counts["true"][:, None] + counts["predicted"][:, :1] - matched
    score = jnp.where(batch["mask"], example_scores.mean_ratio(matched, union), jnp.nan)
    sums["example_scores"] = {"ap50": example_scores.table(score, batch["index"])}
    return sums | pixel_scores.loss_sums(terms, batch["mask"])


def supervised_loss(model: Model, outputs: tuple[jax.Array, ...], batch: dict) -> jax.Array:
    """Computes the loss per example: the weighted mean over the outputs of the net.

    Args:
      model: the model.
      outputs: logits [B, H / s, W / s, 2] for strides s = 1, 2, 4, ...; weighted by 1 / s.
      batch: as of `train_step`.

    Returns:
      float32 [B].
    """
    numbers = batch["instances"][..., 0]
    target = instance_targets.targets(numbers, batch["mask"], model.reach)
    if "weight" in batch:
        target = target._replace(valid=target.valid * batch["weight"][..., 0])

    def loss(logits, stride):
        at_level = jax.tree.map(lambda leaf: leaf[:, ::stride, ::stride], target)
        return pixel_loss(logits, at_level, model.distance_weight)

    return segmenter.over_outputs(loss, outputs)


def pixel_loss(
    logits: jax.Array, target: instance_targets.Targets, distance_weight: float
) -> jax.Array:
    """Computes the loss per example, the weighted mean over its pixels, in nats.

    The cross-entropy of the foreground, and of the distance in [0, 1] the Kullback-Leibler
    divergence, which is 0 where the distance is right.

    Args:
      logits: float [B, H, W, 2], of the foreground and of the distance.
      target: the targets; `valid` is the weight of each pixel.
      distance_weight: the weight of the divergence.

    Returns:
      float32 [B].
    """
    logits = logits.astype(jnp.float32)
    cross_entropy = optax.sigmoid_binary_cross_entropy
    d = target.distance
    floor = jax.scipy.special.entr(d) + jax.scipy.special.entr(1.0 - d)
    terms = cross_entropy(logits[..., 0], target.foreground)
    terms += distance_weight * (cross_entropy(logits[..., 1], d) - floor)
    total = jnp.sum(target.valid, (1, 2))
    value = jnp.sum(jnp.where(target.valid == 0, 0.0, terms * target.valid), (1, 2))
    return value / jnp.where(total == 0, 1.0, total)


def finish(sums: dict) -> dict[str, float]:
    """Turns sums over images into the metrics that `instances` lists.

    Args:
      sums: of `train_step` or `eval_step`, as numpy arrays.

    Returns:
      {name: value}.
    """
    loss = {"loss": float(sums["loss"] / sums["count"])}
    return loss | (instance_scores.scores(sums, sums["count"]) if "matched" in sums else {})


def predict(
    model: Model, state: training.State, batch: dict, rng: jax.Array
) -> dict[str, jax.Array]:
    """Predicts the two maps of which `jaxseg.inference.instances` makes objects.

    Args:
      model: the model.
      state: the state.
      batch: as of `segmenter.init`.
      rng: a key; without effect, as dropout is off.

    Returns:
      `foreground` and `distance`, float32 [B, H, W] in [0, 1]. They may be averaged over
      windows; numbers of objects may not.
    """
    variables = training.ema_variables(state)
    once = lambda arrays: _maps(segmenter.apply(model, variables, arrays, rng)[0][0])
    foreground, distance = posterior.mirrored(once, batch, model.flips)
    return {"foreground": foreground, "distance": distance}


def figures(
    model: Model, state: training.State, batch: dict, rng: jax.Array
) -> dict[str, jax.Array]:
    """Gives image, true and predicted objects of the first eight examples, to be drawn.

    Args:
      model: the model.
      state: the state.
      batch: as of `train_step`.
      rng: a key; without effect, as dropout is off.

    Returns:
      {"predictions/image": uint8 [N, H, W, 3]; "predictions/true objects" and
      "predictions/predicted objects": numbers, float32 [N, H, W, 1]} with N = min(B, 8); 0 is
      background, and in the truth 65535 void.
    """
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    maps = predict(model, state, first, rng)
    guess = jax.vmap(model.divide)(maps["foreground"], maps["distance"])[..., None]
    return {
        "predictions/image": pictures.rgb(first["image"]),
        "predictions/true objects": first["instances"].astype(jnp.float32),
        "predictions/predicted objects": guess.astype(jnp.float32),
    }


def _maps(logits):
    """Foreground and distance, float32 [B, H, W] each, of logits [B, H, W, 2]."""
    values = jax.nn.sigmoid(logits.astype(jnp.float32))
    return values[..., 0], values[..., 1]


def _check_example(example):
    examples.check_image(example)
    size, numbers = example["image"].shape[:2], example.get("instances")
    if numbers is None or numbers.dtype.kind not in "iu" or numbers.shape != (*size, 1):
        raise ValueError(
            "needs examples with `instances`, integer [H, W, 1] as large as the image, the number "
            f"of each pixel's object; these have {examples.described(example)}"
        )
