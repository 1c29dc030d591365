"""Image-level classification as a task: one label per image, by the same machinery."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg import labels, pictures
from jaxseg.metrics import pixel_scores
from jaxseg.task import Task


class State(NamedTuple):
    """What training changes."""

    params: Any
    opt_state: optax.OptState


class Model(NamedTuple):
    """The net and what it is about; every function below takes it first.

    Attributes:
      net: module (x, index, train) -> logits [B, K].
      classes: K.
      smoothing: share of each target spread evenly over all classes.
      names: of the classes.
    """

    net: Any
    classes: int
    smoothing: float
    names: tuple[str, ...]


def classification(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    classes: int,
    smoothing: float = 0.0,
    names: tuple[str, ...] = (),
) -> Task:
    """Builds the task of naming what an image shows.

    Args:
      model: module (x [B, H, W, C], index [B], train) -> logits [B, K]. If it has an
        attribute `classes`, it is set to K.
      optimizer: an optax transformation; evaluation uses its `ema` where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C]
        and `label`, an integer.
      classes: K.
      smoothing: share of each target spread evenly over all classes.
      names: of the classes, for metrics.

    Returns:
      A `Task`. Metrics: loss (cross-entropy in nats), accuracy, class_accuracy,
      recall of each class, calibration_error. A label outside [0, K) makes the loss
      NaN.

    Raises:
      ValueError: fewer than two classes, or an example without its arrays.
    """
    labels.check_ids(classes, -1)
    image, label = example.get("image"), example.get("label")
    if image is None or len(image.shape) != 3 or image.dtype != np.uint8:
        raise ValueError("needs examples with `image` uint8 [H, W, C]")
    if label is None or label.shape or label.dtype.kind not in "iu":
        raise ValueError("needs examples with an integer `label`")
    net = model.clone(classes=classes) if hasattr(model, "classes") else model
    model = Model(net, classes, smoothing, tuple(names))
    return Task(
        init=partial(init, model, optimizer),
        train_step=partial(train_step, model, optimizer),
        eval_step=lambda state, batch, rng: loss_and_sums(model, ema_params(state), batch)[1],
        finish=partial(finish, model),
        figures=partial(figures, model),
    )


def init(model: Model, optimizer, rng: jax.Array, batch: dict) -> State:
    """Fresh parameters and optimiser state."""
    image, index = (batch[key][:1] for key in ("image", "index"))
    keys = {"params": rng, "dropout": rng}
    params = model.net.init(keys, image.astype(jnp.float32), index, True)["params"]
    return State(params, optimizer.init(params))


def train_step(model: Model, optimizer, state: State, batch: dict, rng: jax.Array):
    """One step on the mean loss of the batch: the new state, and its sums."""
    compute = partial(loss_and_sums, model, batch=batch, train=True, rngs={"dropout": rng})
    grads, sums = jax.grad(lambda params: compute(params=params), has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return State(optax.apply_updates(state.params, updates), opt_state), sums


def logits_of(model: Model, params, batch: dict, **options) -> jax.Array:
    """Class logits [B, K] of a batch; options go to the net."""
    x = batch["image"].astype(jnp.float32) / 127.5 - 1.0
    return model.net.apply({"params": params}, x, batch["index"], **options)


def loss_and_sums(model: Model, params, batch: dict, **options) -> tuple[jax.Array, dict]:
    """Mean loss and sums of a batch.

    One pixel per image: the label contract and the sums are those of masks.
    """
    logits, target = logits_of(model, params, batch, **options), truth(batch, model.classes)
    wanted = optax.smooth_labels(target.one_hot[:, 0, 0], model.smoothing)
    terms = optax.softmax_cross_entropy(logits, wanted) * target.valid[:, 0, 0]
    probability = jax.nn.softmax(logits)[:, None, None]
    return jnp.mean(terms), {
        "loss": jnp.sum(terms),
        "count": jnp.sum(batch["mask"].astype(jnp.float32)),
        "confusion": pixel_scores.confusion(jnp.argmax(probability, -1), target),
        "calibration": pixel_scores.calibration(probability, target),
    }


def figures(model: Model, state: State, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Images in a green frame where they are named rightly, else in a red one."""
    del rng
    guess = jnp.argmax(logits_of(model, ema_params(state), batch), -1)
    return {"predictions": framed(batch["image"], guess == batch["label"])}


def truth(batch: dict, classes: int) -> labels.Truth:
    """Labels of a batch under the contract, as masks of one pixel."""
    return labels.truth(batch["label"][:, None, None], classes, -1, batch["mask"][:, None, None])


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Sums over images -> metrics; see `classification`."""
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
    """Images [B, H, W, C] in a frame, green where right and red where not: uint8."""
    frame = jnp.where(right[:, None], jnp.uint8(pictures.RIGHT), jnp.uint8(pictures.WRONG))
    height, width = image.shape[1:3]
    border = jnp.ones((height + 4, width + 4), bool).at[2:-2, 2:-2].set(False)
    inner = jnp.pad(pictures.rgb(image), ((0, 0), (2, 2), (2, 2), (0, 0)))
    return jnp.where(border[None, :, :, None], frame[:, None, None], inner)


def ema_params(state: State) -> Any:
    """The moving average of the parameters where the optimiser keeps one."""
    return optax.tree.get(state.opt_state, "ema", state.params)
