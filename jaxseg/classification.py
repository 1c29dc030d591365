"""Classification of images as a task: one label per image, trained and scored like masks."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg import examples, labels, losses, pictures, training
from jaxseg.metrics import pixel_scores
from jaxseg.task import Task


class Model(NamedTuple):
    """The net and the options of the task; the functions below take it first.

    Attributes:
      net: module (x [B, H, W, C], index [B], train) -> logits [B, K].
      classes: K.
      smoothing: share of each target spread evenly over all classes.
      names: names of the classes; () for "0", "1", ...
    """

    net: Any
    classes: int
    smoothing: float
    names: tuple[str, ...]


def classification(
    model,
    optimizer: optax.GradientTransformation,
    example: examples.Example,
    classes: int,
    smoothing: float = 0.0,
    names: tuple[str, ...] = (),
) -> Task:
    """Builds the task of classifying images.

    Args:
      model: module (x [B, H, W, C], index [B], train) -> logits [B, K]. Its attribute
        `classes`, where it has one, is set to K.
      optimizer: an optax transformation; evaluation uses its moving average of the
        parameters, named `ema`, where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C]
        and `label`, an integer scalar.
      classes: K.
      smoothing: share of each target spread evenly over all classes.
      names: names of the classes, for metrics.

    Returns:
      A `Task`. Metrics: loss (cross-entropy in nats), accuracy, class_accuracy, recall of
      each class, calibration_error. A label outside [0, K) makes the loss NaN.

    Raises:
      ValueError: fewer than two classes, or the example lacks an array.
    """
    labels.check_ids(classes, -1)
    examples.check_image(example)
    label = example.get("label")
    if label is None or label.shape or label.dtype.kind not in "iu":
        raise ValueError(
            f"needs examples with an integer `label`; these have {examples.described(example)}"
        )
    net = model.clone(classes=classes) if hasattr(model, "classes") else model
    model = Model(net=net, classes=classes, smoothing=smoothing, names=tuple(names))
    return Task(
        init=partial(init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=partial(eval_step, model),
        finish=partial(finish, model),
        figures=partial(figures, model),
    )


def init(
    model: Model, optimizer: optax.GradientTransformation, rng: jax.Array, batch: dict
) -> training.State:
    """Draws fresh parameters.

    Args:
      model: the model.
      optimizer: an optax transformation.
      rng: a key.
      batch: `image` uint8 [B, H, W, C] and `index` int32 [B].

    Returns:
      The state before the first step.
    """
    image, index = (batch[key][:1] for key in ("image", "index"))
    keys = {"params": rng, "dropout": rng}
    variables = model.net.init(keys, image.astype(jnp.float32), index, True)
    return training.init_state(optimizer, {"params": variables["params"]})


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
      batch: `image` uint8 [B, H, W, C], `label` integers [B], `index` int32 [B] and
        `mask` bool [B].
      rng: the key of dropout.

    Returns:
      The new state, and the sums of `loss_and_sums`.
    """

    def mean_loss(params):
        options = {"train": True, "rngs": {"dropout": rng}}
        loss, sums = loss_and_sums(model, params, batch, **options)
        return loss, (state.batch_stats, sums)

    return training.gradient_step(optimizer, mean_loss, state)


def eval_step(model: Model, state: training.State, batch: dict, rng: jax.Array) -> dict:
    """Computes the sums of a batch without training.

    Args:
      model: the model.
      state: the state.
      batch: as of `train_step`.
      rng: not used.

    Returns:
      The sums of `loss_and_sums`.
    """
    del rng
    return loss_and_sums(model, training.ema_params(state), batch)[1]


def logits_of(model: Model, params: Any, batch: dict, **options) -> jax.Array:
    """Runs the net.

    Args:
      model: the model.
      params: parameters of the net.
      batch: `image` uint8 [B, H, W, C] and `index` int32 [B].
      **options: further arguments of the net, such as `train`.

    Returns:
      Logits, float [B, K].
    """
    x = batch["image"].astype(jnp.float32) / 127.5 - 1.0
    return model.net.apply({"params": params}, x, batch["index"], **options)


def loss_and_sums(
    model: Model, params: Any, batch: dict, **options
) -> tuple[jax.Array, dict[str, Any]]:
    """Computes mean loss and sums of a batch, with one pixel per image.

    The label contract and the sums are those of masks of one pixel.

    Args:
      model: the model.
      params: parameters of the net.
      batch: as of `train_step`.
      **options: further arguments of the net.

    Returns:
      The mean cross-entropy in nats, and the sums {"loss", "count", "confusion" [K, K],
      "calibration"}.
    """
    logits, target = logits_of(model, params, batch, **options), truth(batch, model.classes)
    logits = logits[:, None, None]
    terms = losses.pixel_cross_entropy(logits, target, model.smoothing) * target.valid
    probability = jax.nn.softmax(logits)
    return jnp.mean(terms), {
        "loss": jnp.sum(terms),
        "count": jnp.sum(batch["mask"].astype(jnp.float32)),
        "confusion": pixel_scores.confusion(jnp.argmax(probability, -1), target),
        "calibration": pixel_scores.calibration(probability, target),
    }


def figures(
    model: Model, state: training.State, batch: dict, rng: jax.Array
) -> dict[str, jax.Array]:
    """Frames each image in blue where its predicted class is right, else in vermilion.

    Args:
      model: the model.
      state: the state.
      batch: `image` uint8 [B, H, W, C], `label` integers [B] and `index` int32 [B].
      rng: not used.

    Returns:
      {"predictions": uint8 [B, H + 4, W + 4, 3]}.
    """
    del rng
    guess = jnp.argmax(logits_of(model, training.ema_params(state), batch), -1)
    right = guess == batch["label"].astype(guess.dtype)
    return {"predictions": framed(batch["image"], right)}


def truth(batch: dict, classes: int) -> labels.Truth:
    """Applies the label contract to a batch's labels, as masks of one pixel.

    Args:
      batch: `label` integers [B] and `mask` bool [B].
      classes: K.

    Returns:
      A `labels.Truth` of [B, 1, 1].
    """
    return labels.truth(batch["label"][:, None, None], classes, -1, batch["mask"][:, None, None])


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Turns sums over images into metrics.

    Args:
      model: its `names` are used.
      sums: of `loss_and_sums`, as numpy arrays.

    Returns:
      The metrics that `classification` lists; NaN for the recall of a class without
      images.
    """
    scores = pixel_scores.scores(sums["confusion"])
    counts = np.asarray(sums["confusion"], np.float64)
    total = counts.sum(1)
    recall = np.divide(np.diag(counts), total, out=np.full(len(total), np.nan), where=total > 0)
    names = model.names or tuple(str(k) for k in range(len(counts)))
    return {
        "loss": float(sums["loss"] / sums["count"]),
        "accuracy": scores["pixel_accuracy"],
        "class_accuracy": scores["class_accuracy"],
        "calibration_error": pixel_scores.calibration_error(sums["calibration"]),
    } | {f"recall/{name}": float(value) for name, value in zip(names, recall, strict=True)}


def framed(image: jax.Array, right: jax.Array) -> jax.Array:
    """Draws a frame of two pixels around images, blue where right and vermilion where not.

    Args:
      image: uint8 [B, H, W, C].
      right: bool [B].

    Returns:
      uint8 [B, H + 4, W + 4, 3].
    """
    good, bad = (jnp.asarray([c], jnp.uint8) for c in (pictures.RIGHT, pictures.WRONG))
    frame = jnp.where(right[:, None], good, bad)
    height, width = image.shape[1:3]
    border = jnp.ones((height + 4, width + 4), bool).at[2:-2, 2:-2].set(False)
    inner = jnp.pad(pictures.rgb(image), ((0, 0), (2, 2), (2, 2), (0, 0)))
    return jnp.where(border[None, :, :, None], frame[:, None, None], inner)
