"""Semantic segmentation as a task: features, a net, a loss, and the MAP decision.

The net gives P(C_i | image) at every pixel, and the decision is maximum a posteriori:
f(x, y) = argmax_i P(x, y | C_i) P(C_i).
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseg import examples, labels, losses, pictures, segmenter, training
from jaxseg.inference import posterior
from jaxseg.metrics import contours, example_scores, pixel_scores
from jaxseg.segmenter import Model
from jaxseg.task import Task


class State(NamedTuple):
    """What training changes: `training.State` and the frequencies of the classes.

    Attributes:
      params: parameters of the net.
      opt_state: state of the optimiser.
      batch_stats: running statistics of batch norms; {} for a net without them.
      class_frequencies: float32 [K], the sum over steps of each class's share of the
        batch's pixels; `prior` normalises it.
    """

    params: Any
    opt_state: optax.OptState
    batch_stats: Any
    class_frequencies: jax.Array


def segmentation(
    model,
    optimizer: optax.GradientTransformation,
    example: examples.Example,
    classes: int,
    loss: losses.Loss | None = None,
    features: tuple[Callable, ...] = (),
    ignore: int = labels.IGNORE,
    depth_unit: float = 1.0,
    names: tuple[str, ...] = (),
    flips: bool = False,
    passes: int = 0,
) -> Task:
    """Builds the task of labelling every pixel.

    Args:
      model: module (x [B, H, W, C], index [B], train) -> logits [B, H, W, K] or, in
        training, a tuple of logits at 1, 1/2, 1/4, ... of the size; the loss averages
        over them with these weights. Its attribute `classes`, where it has one, is set
        to K. With `passes` it takes `drop`, which turns dropout on outside training.
      optimizer: an optax transformation; evaluation uses its moving average of the
        parameters, named `ema`, where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C],
        `segmentation` integer [H, W, 1], and `depth` [H, W, 1] where a feature uses it
        (0 where depth is unknown).
      classes: K.
      loss: (logits, truth) -> [B], see `jaxseg.losses`; cross-entropy by default.
      features: cues that the net sees beside the image, each a function of the
        example (`image` float in [0, 1], `depth` in metres) -> [H, W, F].
      ignore: id of pixels that neither train nor score.
      depth_unit: metres per unit of `depth`, e.g. 0.001 for millimetres.
      names: names of the classes, for metrics.
      flips: predict the mean over the image and its mirror image.
      passes: predict the mean of this many dropout samples, and how far they differ;
        0 predicts without dropout.

    Returns:
      A `Task`. Metrics: loss, those of `pixel_scores.scores`, calibration_error, and from
      score_step boundary_f1 and hausdorff95 in pixels.

    Raises:
      ValueError: an option is out of range, the number of names is not K, `passes` is
        given to a net without dropout, or the example lacks an array.
    """
    labels.check_ids(classes, ignore)
    _check_example(example)
    if names and len(names) != classes:
        raise ValueError(f"{len(names)} names for {classes} classes: {', '.join(names)}")
    _check_dropout(model, passes)
    model = Model(
        net=model.clone(classes=classes) if hasattr(model, "classes") else model,
        classes=classes,
        ignore=ignore,
        features=tuple(features),
        depth_unit=depth_unit,
        loss=loss or losses.cross_entropy(),
        names=tuple(names),
        flips=flips,
        passes=passes,
    )
    return Task(
        init=partial(init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=partial(eval_step, model),
        finish=partial(finish, model),
        figures=partial(figures, model),
        score_step=partial(eval_step, model, thorough=True),
        predict=partial(predict, model),
    )


def init(
    model: Model, optimizer: optax.GradientTransformation, rng: jax.Array, batch: dict
) -> State:
    """Draws fresh parameters.

    Args:
      model: the model.
      optimizer: an optax transformation.
      rng: a key.
      batch: `image` uint8 [B, H, W, C], `index` int32 [B], and `depth` [B, H, W, 1] where
        a feature uses it.

    Returns:
      The state before the first step.
    """
    start = segmenter.init(model, optimizer, rng, batch)
    return State(*start, class_frequencies=jnp.zeros(model.classes))


def train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: State,
    batch: dict,
    rng: jax.Array,
) -> tuple[State, dict]:
    """Follows the gradient of the batch's mean loss once.

    Args:
      model: the model.
      optimizer: an optax transformation.
      state: the state.
      batch: as of `init`, with `segmentation` ids [B, H, W, 1] and `mask` bool [B].
      rng: the key of dropout.

    Returns:
      The new state, and the sums {"loss", "count", "confusion" [K, K], "calibration"}.
    """
    loss = segmenter.supervised_loss
    new, (terms, logits) = segmenter.gradient_step(model, optimizer, loss, state, batch, rng)
    sums = segmenter.sums_of(model, logits, terms, batch)
    share = jnp.sum(sums["confusion"], 1) / batch["segmentation"].size
    return new._replace(class_frequencies=state.class_frequencies + share), sums


def eval_step(model: Model, state: State, batch: dict, rng: jax.Array, thorough=False) -> dict:
    """Computes the sums of a batch without training.

    Args:
      model: the model.
      state: the state.
      batch: as of `train_step`.
      rng: a key; without effect, as dropout is off.
      thorough: whether to add the scores of contours, and to average over the mirror image
        where predictions do.

    Returns:
      The sums of `train_step`, and "example_scores", {"mean_iou": [N, 2]}, see
      `metrics.example_scores`; with `thorough` also "contours".
    """
    variables = training.ema_variables(state)
    logits_of = lambda arrays: segmenter.apply(model, variables, arrays, rng)[0][0]
    logits = logits_of(batch)
    if thorough and model.flips:
        once = lambda arrays: jax.nn.softmax(logits_of(arrays).astype(jnp.float32))
        mean = posterior.mirrored(once, batch, True)
        logits = jnp.log(jnp.maximum(mean, jnp.finfo(mean.dtype).tiny))
    terms = segmenter.supervised_loss(model, (logits,), batch)
    sums = segmenter.sums_of(model, logits, terms, batch)
    guess, target = jnp.argmax(jax.nn.softmax(logits), -1), segmenter.truth(model, batch)
    counts = jax.vmap(pixel_scores.confusion)(guess, target)
    sums["confusion"] = jnp.sum(counts, 0)  # in place of the count of all pixels at once
    sums["example_scores"] = {
        "mean_iou": example_scores.table(example_scores.mean_iou(counts), batch["index"])
    }
    if thorough:
        sums["contours"] = contours.contour_sums(guess, target)
    return sums


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Turns sums over images into the metrics that `segmentation` lists.

    Args:
      model: its `names` are used.
      sums: of `train_step` or `eval_step`, as numpy arrays.

    Returns:
      {name: value}.
    """
    scores = {"loss": float(sums["loss"] / sums["count"])}
    scores |= pixel_scores.scores(sums["confusion"], model.names)
    scores["calibration_error"] = pixel_scores.calibration_error(sums["calibration"])
    if "contours" in sums:
        scores |= contours.contour_scores(sums["contours"])
    return scores


def predict(model: Model, state: State, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Computes the posterior of every pixel; see `inference.posterior.predict`.

    Args:
      model: the model.
      state: the state.
      batch: as of `init`.
      rng: the key of dropout samples.

    Returns:
      `probability` [B, H, W, K], `entropy` [B, H, W], and with `passes` `information`
      [B, H, W].
    """
    variables = training.ema_variables(state)

    def logits_of(arrays, key, drop):
        return segmenter.apply(model, variables, arrays, key, drop=drop)[0][0]

    return posterior.predict(logits_of, batch, rng, flips=model.flips, passes=model.passes)


def figures(model: Model, state: State, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Gives image, truth and prediction of the first eight examples, to be drawn side by side.

    Args:
      model: the model; its `passes` are not used.
      state: the state.
      batch: as of `train_step`.
      rng: a key; without effect, as dropout is off.

    Returns:
      {"predictions/image": uint8 [N, H, W, 3]; "predictions/truth", "predictions/prediction":
      ids [N, H, W, 1], uint8, or float32 where K > 255} with N = min(B, 8). A pixel of the
      truth that does not count has the id K.
    """
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    guess = jnp.argmax(predict(model._replace(passes=0), state, first, rng)["probability"], -1)
    target, kind = segmenter.truth(model, first), jnp.uint8 if model.classes < 256 else jnp.float32
    truth = jnp.where(target.valid > 0, target.labels, model.classes)
    return {
        "predictions/image": pictures.rgb(first["image"]),
        "predictions/truth": truth.astype(kind)[..., None],
        "predictions/prediction": guess.astype(kind)[..., None],
    }


def prior(state: State) -> jax.Array:
    """Returns P(C_i) of the pixels trained on, [K]; uniform before the first step."""
    total = jnp.sum(state.class_frequencies)
    classes = state.class_frequencies.shape[0]
    return jnp.where(total > 0, state.class_frequencies / jnp.maximum(total, 1e-12), 1.0 / classes)


def _check_dropout(net, passes):
    if passes < 0:
        raise ValueError(f"passes must not be negative, got {passes}")
    arguments = inspect.signature(type(net).__call__).parameters
    if passes and ("drop" not in arguments or getattr(net, "dropout", 1.0) == 0.0):
        name = type(net).__name__
        raise ValueError(f"passes={passes} needs a net with dropout; this {name} was built without")


def _check_example(example):
    examples.check_image(example)
    image, ids = example["image"], example.get("segmentation")
    if ids is None or ids.dtype.kind not in "iu" or ids.shape != (*image.shape[:2], 1):
        raise ValueError(
            "needs examples with `segmentation`, integer [H, W, 1] as large as the image; "
            f"these have {examples.described(example)}"
        )
