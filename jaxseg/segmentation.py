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
import numpy as np
import optax

from jaxseg import labels, losses, pictures
from jaxseg.metrics import contours, pixel_scores
from jaxseg.task import Task


class State(NamedTuple):
    """What training changes.

    `class_frequencies` is the sum over steps of each class's share of all pixels, from which the
    prior that the net learnt follows (see `prior` and `jaxseg.bayes.prior_shift`).
    """

    params: Any
    opt_state: optax.OptState
    batch_stats: Any
    class_frequencies: jax.Array


class Model(NamedTuple):
    """The net and what it is about; every function below takes it first.

    Attributes:
      net: module (x, index, train) -> logits, or a tuple of them, finest first.
      classes: K.
      ignore: the id that neither trains nor scores.
      features: functions of an example -> [H, W, F], concatenated to the image.
      depth_unit: metres per unit of `depth`.
      loss: (logits, truth) -> [B].
      names: of the classes.
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


def segmentation(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
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
        training, a tuple of logits at 1, 1/2, 1/4, ... of the size, whose losses are
        averaged with these weights. An attribute `classes` is set to K; `passes`
        needs it to take `drop`, which turns dropout on outside training.
      optimizer: an optax transformation; evaluation uses its moving average of the
        parameters, named `ema`, where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C],
        `segmentation` integer [H, W, 1], and `depth` [H, W, 1] where a feature wants
        it (0 where it is not known).
      classes: K.
      loss: (logits, truth) -> [B], see `jaxseg.losses`; cross-entropy by default.
      features: cues that the net sees beside the image, each a function of the
        example (`image` float in [0, 1], `depth` in metres) -> [H, W, F].
      ignore: id of pixels that neither train nor score.
      depth_unit: metres per unit of `depth`, e.g. 0.001 for millimetres.
      names: of the classes, for metrics.
      flips: predict the mean over the image and its mirror image.
      passes: predict the mean of this many dropout samples (Gal and Ghahramani
        2016), and how far they differ; 0 predicts without dropout.

    Returns:
      A `Task`. Metrics: loss, those of `metrics.scores`, calibration_error, and from
      score_step boundary_f1 and hausdorff95 in pixels.

    Raises:
      ValueError: an argument that cannot be meant, or an example without its arrays.
    """
    labels.check_ids(classes, ignore)
    _check_example(example)
    if names and len(names) != classes:
        raise ValueError(f"{len(names)} names for {classes} classes: {', '.join(names)}")
    _check_dropout(model, passes)
    net = model.clone(classes=classes) if hasattr(model, "classes") else model
    loss = loss or losses.cross_entropy()
    model = Model(
        net, classes, ignore, tuple(features), depth_unit, loss, tuple(names), flips, passes
    )
    return Task(
        init=partial(init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=partial(eval_step, model),
        finish=partial(finish, model),
        figures=partial(figures, model),
        predict=partial(predict, model),
        score_step=partial(eval_step, model, thorough=True),
    )


def init(model: Model, optimizer, rng: jax.Array, batch: dict) -> State:
    """Fresh parameters and optimiser state."""
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    variables = model.net.init(
        {"params": rng, "dropout": rng}, observe(model, one), one["index"], True
    )
    params = variables["params"]
    shares = jnp.zeros(model.classes)
    return State(params, optimizer.init(params), variables.get("batch_stats", {}), shares)


def train_step(model: Model, optimizer, state: State, batch: dict, rng: jax.Array):
    """One step on the mean loss of the batch: the new state, and its sums."""

    def mean_loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs, stats = apply(model, variables, batch, rng, train=True)
        terms = supervised_loss(model, outputs, batch)
        return jnp.mean(terms), (terms, outputs[0], stats)

    grads, (terms, logits, stats) = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    sums = pixel_sums(model, jax.nn.softmax(logits), batch) | pixel_scores.loss_sums(
        terms, batch["mask"]
    )
    shares = state.class_frequencies + jnp.sum(sums["confusion"], 1) / batch["segmentation"].size
    return State(params, opt_state, stats, shares), sums


def eval_step(model: Model, state: State, batch: dict, rng: jax.Array, thorough=False) -> dict:
    """Sums of a batch without training; `thorough` adds the scores of contours."""
    logits = apply(model, evaluated(state), batch, rng)[0][0]
    terms = supervised_loss(model, (logits,), batch)
    sums = pixel_sums(model, jax.nn.softmax(logits), batch) | pixel_scores.loss_sums(
        terms, batch["mask"]
    )
    if thorough:
        sums["contours"] = contours.contour_sums(jnp.argmax(logits, -1), truth(model, batch))
    return sums


def observe(model: Model, batch: dict) -> jax.Array:
    """What the net sees: [B, H, W, C + F], the image in [-1, 1] and the features."""
    image = batch["image"].astype(jnp.float32) / 255.0
    example = {"image": image}
    if "depth" in batch:
        example["depth"] = batch["depth"].astype(jnp.float32) * model.depth_unit
    cues = [jax.vmap(feature)(example) for feature in model.features]
    return jnp.concatenate([2.0 * image - 1.0, *cues], axis=-1)


def apply(model: Model, variables: dict, batch: dict, rng: jax.Array, train=False, drop=False):
    """Runs the net.

    Args:
      model: the model.
      variables: {"params", "batch_stats"}.
      batch: with `image`, `index`, and what the features want.
      rng: of dropout.
      train: whether dropout is on, and norms take the batch's statistics.
      drop: whether dropout is on all the same outside training.

    Returns:
      A tuple of logits, finest first; and the new batch statistics.
    """
    x, dropout = observe(model, batch), {"dropout": rng}
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


def supervised_loss(model: Model, outputs: tuple, batch: dict) -> jax.Array:
    """Loss per example [B]: the weighted mean over the depths of supervision."""
    total = weight = 0.0
    for level, logits in enumerate(outputs):
        target = truth(model, batch, stride=2**level)
        total, weight = total + model.loss(logits, target) / 2**level, weight + 1 / 2**level
    return total / weight


def truth(model: Model, batch: dict, stride: int = 1) -> labels.Truth:
    """The batch's labels under the contract, every `stride`-th pixel of them."""
    ids = batch["segmentation"][:, ::stride, ::stride, 0]
    return labels.truth(ids, model.classes, model.ignore, batch["mask"][:, None, None])


def pixel_sums(model: Model, probability: jax.Array, batch: dict) -> dict:
    """Confusion matrix and calibration bins of a batch."""
    target = truth(model, batch)
    return {
        "confusion": pixel_scores.confusion(jnp.argmax(probability, -1), target),
        "calibration": pixel_scores.calibration(probability, target),
    }


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Sums over images -> metrics; see `segmentation`."""
    scores = {"loss": float(sums["loss"] / sums["count"])}
    scores |= pixel_scores.scores(sums["confusion"], model.names)
    scores["calibration_error"] = pixel_scores.calibration_error(sums["calibration"])
    if "contours" in sums:
        scores |= contours.contour_scores(sums["contours"])
    return scores


def predict(model: Model, state: State, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Posterior of every pixel; needs `image`, `index` and what the features want.

    Returns:
      probability [B, H, W, K]; entropy [B, H, W] in nats; and with dropout samples
      information [B, H, W], the mutual information of label and parameters in
      nats, which is large where the samples disagree (Houlsby et al. 2011).
    """
    if not model.passes:
        probability = _posterior(model, state, batch, rng, False)
        return {"probability": probability, "entropy": entropy(probability)}

    def add(total, number):
        one = _posterior(model, state, batch, jax.random.fold_in(rng, number), True)
        return (total[0] + one, total[1] + entropy(one)), None

    like = jax.eval_shape(lambda: _posterior(model, state, batch, rng, True))
    start = jnp.zeros(like.shape), jnp.zeros(like.shape[:-1])
    (total, spread), _ = jax.lax.scan(add, start, jnp.arange(model.passes))
    probability = total / model.passes
    whole = entropy(probability)
    information = jnp.maximum(whole - spread / model.passes, 0.0)
    return {"probability": probability, "entropy": whole, "information": information}


def entropy(probability: jax.Array) -> jax.Array:
    """Entropy of [..., K] in nats: [...]."""
    return jnp.sum(jax.scipy.special.entr(probability), -1)


def figures(model: Model, state: State, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Image, truth, prediction and errors of the first examples, side by side.

    Black where rows of the batch are no examples.
    """
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    guess = jnp.argmax(predict(model._replace(passes=0), state, first, rng)["probability"], -1)
    ids = first["segmentation"][..., 0].astype(jnp.int32)
    rows = pictures.comparison(first["image"], ids, guess, model.ignore)
    return {"predictions": rows * first["mask"][:, None, None, None, None]}


def evaluated(state: State) -> dict:
    """Variables to evaluate with: the parameters' moving average where there is one."""
    params = optax.tree.get(state.opt_state, "ema", state.params)
    return {"params": params, "batch_stats": state.batch_stats}


def prior(state: State) -> jax.Array:
    """P(C_i) of the pixels trained on: [K]; uniform before the first step."""
    total = jnp.sum(state.class_frequencies)
    classes = state.class_frequencies.shape[0]
    return jnp.where(total > 0, state.class_frequencies / jnp.maximum(total, 1e-12), 1.0 / classes)


def _posterior(model, state, batch, rng, drop):
    """softmax of the logits, averaged over the mirror image if asked for."""

    def once(examples):
        logits = apply(model, evaluated(state), examples, rng, drop=drop)[0][0]
        return jax.nn.softmax(logits.astype(jnp.float32))

    if not model.flips:
        return once(batch)
    mirror = {key: leaf[:, :, ::-1] if leaf.ndim == 4 else leaf for key, leaf in batch.items()}
    return 0.5 * (once(batch) + once(mirror)[:, :, ::-1])


def _check_dropout(net, passes):
    if passes < 0:
        raise ValueError(f"passes must not be negative, got {passes}")
    takes = inspect.signature(type(net).__call__).parameters
    if passes and ("drop" not in takes or getattr(net, "dropout", 1.0) == 0.0):
        name = type(net).__name__
        raise ValueError(f"passes={passes} needs a net with dropout; this {name} was built without")


def _check_example(example):
    found = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in example.items()}
    image, ids = example.get("image"), example.get("segmentation")
    if image is None or len(image.shape) != 3 or image.dtype != np.uint8:
        raise ValueError(f"needs examples with `image` uint8 [H, W, C]; these have {found}")
    fits = ids is not None and ids.dtype.kind in "iu" and ids.shape == (*image.shape[:2], 1)
    if not fits:
        raise ValueError(
            f"needs examples with `segmentation`, integer [H, W, 1] as large as the image; "
            f"these have {found}"
        )
