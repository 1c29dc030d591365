"""Labelling with classes that may overlap as a task: each class is a yes or no of its own.

The net gives P(C_i | image) of each class at every pixel, independent of the others, by a
sigmoid. With one class this is binary segmentation with one logit.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg import examples, losses, multilabel_losses, pictures, segmenter, training
from jaxseg.inference import posterior
from jaxseg.labels import IGNORE
from jaxseg.metrics import example_scores, multilabel_scores, pixel_scores
from jaxseg.task import Task


class Model(NamedTuple):
    """The net and the options of the task; the functions below take it first.

    Attributes:
      net: module (x, index, train) -> logits, or a tuple of them, finest first.
      ignore: the value of labels that neither train nor score.
      features: functions of an example -> [H, W, F], concatenated to the image.
      depth_unit: metres per unit of `depth`.
      loss: (logits, `multilabel_losses.Labels`) -> [B].
      names: K names of the classes.
      thresholds: the least probability of each class, K.
      flips: whether predictions are averaged over mirror images.
    """

    net: Any
    ignore: int
    features: tuple[Callable, ...]
    depth_unit: float
    loss: multilabel_losses.Loss
    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    flips: bool


def multilabel(
    model,
    optimizer: optax.GradientTransformation,
    example: examples.Example,
    classes: int,
    loss: multilabel_losses.Loss | None = None,
    features: tuple[Callable, ...] = (),
    ignore: int = IGNORE,
    depth_unit: float = 1.0,
    names: tuple[str, ...] = (),
    thresholds: tuple[float, ...] = (),
    flips: bool = False,
) -> Task:
    """Builds the task of deciding about every class at every pixel.

    Args:
      model: module (x [B, H, W, C], index [B], train) -> logits [B, H, W, K] or, in
        training, a tuple of logits at 1, 1/2, 1/4, ... of the size; the loss averages
        over them with these weights. Its attribute `classes`, where it has one, is set
        to K.
      optimizer: an optax transformation; evaluation uses its moving average of the
        parameters, named `ema`, where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C];
        `labels` uint8 [H, W, K] of 0, 1 and `ignore`; `weight` float [H, W, 1] of each pixel
        in the loss, if there is one; and `depth` [H, W, 1] where a feature uses it.
      classes: K; 1 for binary segmentation.
      loss: (logits, labels) -> [B], see `jaxseg.multilabel_losses`; the sum of
        cross-entropy and Dice by default.
      features: cues that the net sees beside the image, as of `jaxseg.segmentation`.
      ignore: the value of labels that neither train nor score.
      depth_unit: metres per unit of `depth`.
      names: names of the classes, for metrics.
      thresholds: the least probability at which a pixel is taken to be of the class, one
        for each; 0.5 unless given.
      flips: predict the mean over the image and its mirror image.

    Returns:
      A `Task`. Metrics: loss and those of `multilabel_scores.scores`; in evaluation also
      average_precision, the mean over classes (from probabilities in 256 steps).

    Raises:
      ValueError: an option is out of range, the number of names or thresholds is not K, or
        the example lacks an array.
    """
    _check_options(classes, ignore, names, thresholds)
    _check_example(example, classes)
    model = Model(
        net=model.clone(classes=classes) if hasattr(model, "classes") else model,
        ignore=ignore,
        features=tuple(features),
        depth_unit=depth_unit,
        loss=loss or default_loss(),
        names=tuple(names) or tuple(map(str, range(classes))),
        thresholds=tuple(thresholds) or (0.5,) * classes,
        flips=flips,
    )
    return Task(
        init=partial(segmenter.init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=partial(eval_step, model),
        finish=partial(finish, model),
        figures=partial(figures, model),
        predict=partial(predict, model),
    )


def default_loss() -> multilabel_losses.Loss:
    """Returns the sum of cross-entropy and Dice."""
    terms = multilabel_losses.binary_cross_entropy(), multilabel_losses.binary_dice()
    return losses.weighted(terms)


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
      batch: as of `segmenter.init`, with `labels` [B, H, W, K], `mask` bool [B], and
        perhaps `weight`.
      rng: the key of dropout.

    Returns:
      The new state, and the sums {"loss", "count", "hit" [K], "extra" [K], "missed" [K]}.
    """
    state, (terms, logits) = segmenter.gradient_step(
        model, optimizer, supervised_loss, state, batch, rng
    )
    counts = multilabel_scores.counts(jax.nn.sigmoid(logits), truth(model, batch), model.thresholds)
    return state, counts | pixel_scores.loss_sums(terms, batch["mask"])


def eval_step(model: Model, state: training.State, batch: dict, rng: jax.Array) -> dict:
    """Computes the sums of a batch without training.

    Args:
      model: the model.
      state: the state.
      batch: as of `train_step`.
      rng: a key; without effect, as dropout is off.

    Returns:
      The sums of `train_step`, {"positive", "negative"} [K, 256], and "example_scores",
      {"mean_iou": [N, 2]}, see `metrics.example_scores`.
    """
    logits = segmenter.apply(model, training.ema_variables(state), batch, rng)[0][0]
    terms = supervised_loss(model, (logits,), batch)
    target, probability = truth(model, batch), jax.nn.sigmoid(logits)
    count = partial(multilabel_scores.counts, thresholds=model.thresholds)
    counts = jax.vmap(count)(probability, target)
    sums = {name: jnp.sum(leaf, 0) for name, leaf in counts.items()}
    sums |= multilabel_scores.histograms(probability, target)
    score = example_scores.mean_ratio(counts["hit"], sum(counts.values()))  # over the union
    sums["example_scores"] = {"mean_iou": example_scores.table(score, batch["index"])}
    return sums | pixel_scores.loss_sums(terms, batch["mask"])


def supervised_loss(model: Model, outputs: tuple[jax.Array, ...], batch: dict) -> jax.Array:
    """Computes the loss per example: the weighted mean over the outputs of the net.

    Args:
      model: the model.
      outputs: logits [B, H / s, W / s, K] for strides s = 1, 2, 4, ...; weighted by 1 / s.
      batch: as of `train_step`.

    Returns:
      float32 [B].
    """

    def loss(logits, stride):
        target = truth(model, batch, stride)
        if "weight" in batch:
            heavy = target.valid * batch["weight"][:, ::stride, ::stride]
            target = target._replace(valid=heavy)
        return model.loss(logits, target)

    return segmenter.over_outputs(loss, outputs)


def truth(model: Model, batch: dict, stride: int = 1) -> multilabel_losses.Labels:
    """Applies the contract of the labels to every `stride`-th pixel of a batch.

    Args:
      model: its `ignore` is used.
      batch: `labels` [B, H, W, K] and `mask` bool [B].
      stride: in pixels.

    Returns:
      Labels [B, ceil(H / stride), ceil(W / stride), K].
    """
    values = batch["labels"][:, ::stride, ::stride]
    return multilabel_losses.labels(values, model.ignore, batch["mask"])


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Turns sums over images into the metrics that `multilabel` lists.

    Args:
      model: its `names` are used.
      sums: of `train_step` or `eval_step`, as numpy arrays.

    Returns:
      {name: value}.
    """
    scores = {"loss": float(sums["loss"] / sums["count"])}
    scores |= multilabel_scores.scores(sums, model.names)
    if "positive" in sums:
        scores["average_precision"] = multilabel_scores.average_precision(sums)
    return scores


def predict(
    model: Model, state: training.State, batch: dict, rng: jax.Array
) -> dict[str, jax.Array]:
    """Predicts the probability of each class at every pixel.

    Args:
      model: the model.
      state: the state.
      batch: as of `segmenter.init`.
      rng: a key; without effect, as dropout is off.

    Returns:
      {"presence": float32 [B, H, W, K]}, probabilities that do not add up to 1: each class
      is present or not, whatever the others are.
    """
    variables = training.ema_variables(state)
    once = lambda arrays: jax.nn.sigmoid(segmenter.apply(model, variables, arrays, rng)[0][0])
    return {"presence": posterior.mirrored(once, batch, model.flips)}


def figures(
    model: Model, state: training.State, batch: dict, rng: jax.Array
) -> dict[str, jax.Array]:
    """Gives image, truth and prediction of the first eight examples, to be drawn side by side.

    Args:
      model: the model.
      state: the state.
      batch: as of `train_step`.
      rng: a key; without effect, as dropout is off.

    Returns:
      {"predictions/image": uint8 [N, H, W, 3]; "predictions/true classes" and
      "predictions/predicted classes": uint8 [N, K, H, W, 1] of 0, 1, and 2 where void} with
      N = min(B, 8).
    """
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    presence = predict(model, state, first, rng)["presence"]
    guess = presence >= jnp.asarray(model.thresholds, jnp.float32)[None, None, None]
    target = truth(model, first)
    maps = {"true": jnp.where(target.valid > 0, target.target, 2), "predicted": guess}
    image = {"predictions/image": pictures.rgb(first["image"])}
    return image | {
        f"predictions/{name} classes": jnp.moveaxis(leaf, -1, 1)[..., None].astype(jnp.uint8)
        for name, leaf in maps.items()
    }


def _check_options(classes, ignore, names, thresholds):
    if classes < 1 or ignore in (0, 1):
        raise ValueError(f"needs classes={classes} >= 1, and ignore={ignore} other than 0 and 1")
    if names and len(names) != classes:
        raise ValueError(f"{len(names)} names for {classes} classes: {', '.join(names)}")
    if thresholds and len(thresholds) != classes:
        raise ValueError(f"{len(thresholds)} thresholds for {classes} classes: {thresholds}")
    if not all(0.0 < value < 1.0 for value in thresholds):
        raise ValueError(f"thresholds must be between 0 and 1, got {thresholds}")


def _check_example(example, classes):
    examples.check_image(example)
    size, values = example["image"].shape[:2], example.get("labels")
    if values is None or values.dtype != np.uint8 or values.shape != (*size, classes):
        raise ValueError(
            f"needs examples with `labels` uint8 [H, W, {classes}], as large as the image, of 0 "
            f"and 1; these have {examples.described(example)}"
        )
