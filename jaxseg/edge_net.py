"""A small learned edge detector (in the line of HED and RCF) as a task.

A convolutional encoder of four resolutions and a light decoder, with a prediction at each
resolution (Xie and Tu 2015) and one fused of all; the loss leaves out pixels that only a
few annotators marked (Liu et al. 2017). It is small enough to be trained from scratch.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg import pictures
from jaxseg.cues import boundary
from jaxseg.metrics import pixel_scores
from jaxseg.nets.unet import HE, pad_to_multiple, resize
from jaxseg.task import Task

# Thresholds at which the training metrics are taken, and how far apart pixels may lie,
# as a share of the image's diagonal.
LEVELS = np.arange(1, 20) / 20
TOLERANCE = 0.0075


class EdgeNet(nn.Module):
    """A convolutional net with an edge map at every resolution.

    Called as (x [B, H, W, C]) -> logits [B, H, W, 1 + stages], the fused map first. Any
    size: images are padded to a multiple of the coarsest stride, and logits cropped.

    Attributes:
      widths: channels of each stage; each has half the resolution of the one before.
      side: channels in which the decoder joins the stages.
      dilation: of the last stage's second and third convolution, for a wider view.
      difference: whether the first convolution of each stage sees only differences to
        the centre pixel (central pixel difference convolution, Su et al. 2021).
      groups: of the group norm.
      dtype: what it computes in; parameters are float32.
    """

    widths: tuple[int, ...] = (16, 24, 32, 40)
    side: int = 16
    dilation: int = 2
    difference: bool = True
    groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Logits of a batch; see the class."""
        if not self.widths or min(*self.widths, self.side, self.dilation, self.groups) < 1:
            raise ValueError("EdgeNet: widths, side, dilation and groups must be at least 1")
        height, width = x.shape[1:3]
        x = pad_to_multiple(x, 2 ** (len(self.widths) - 1)).astype(self.dtype)
        stages = []
        for level, features in enumerate(self.widths):
            if level:
                x = nn.max_pool(x, (2, 2), (2, 2))
            x = self._stage(x, features, self.dilation if level == len(self.widths) - 1 else 1)
            stages.append(x)
        sides, x = [], None
        for level in reversed(range(len(stages))):
            skip = nn.Conv(self.side, (1, 1), kernel_init=HE, dtype=self.dtype)(stages[level])
            x = skip if x is None else skip + resize(x, 2)
            x = nn.relu(self._norm(self._conv(self.side)(x)))
            head = nn.Conv(1, (1, 1), dtype=jnp.float32)
            sides.append(resize(head(x.astype(jnp.float32)), 2**level))
        sides = jnp.concatenate(sides[::-1], -1)
        even = nn.initializers.constant(1.0 / len(stages))
        fused = nn.Conv(1, (1, 1), kernel_init=even, dtype=jnp.float32)(sides)
        return jnp.concatenate([fused, sides], -1)[:, :height, :width]

    def _stage(self, x, features, dilation):
        """Three convolutions, the last two with a connection around them."""
        first = DifferenceConv(features, self.dtype) if self.difference else self._conv(features)
        x = inputs = nn.relu(self._norm(first(x)))
        x = nn.relu(self._norm(self._conv(features, dilation)(x)))
        return nn.relu(inputs + self._norm(self._conv(features, dilation)(x)))

    def _conv(self, features, dilation=1):
        return nn.Conv(
            features,
            (3, 3),
            use_bias=False,
            kernel_init=HE,
            kernel_dilation=dilation,
            dtype=self.dtype,
        )

    def _norm(self, x):
        return nn.GroupNorm(math.gcd(self.groups, x.shape[-1]), dtype=self.dtype)(x)


class DifferenceConv(nn.Module):
    """A 3 x 3 convolution, half of whose outputs see differences to the centre alone.

    The kernels of that half sum to zero over the window, so they answer to change and
    not to brightness. It costs what a convolution costs.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """[B, H, W, C] -> [B, H, W, features]."""
        kernel = self.param("kernel", HE, (3, 3, x.shape[-1], self.features))
        change = kernel[..., : self.features // 2]
        change = change.at[1, 1].add(-change.sum((0, 1)))
        kernel = jnp.concatenate([change, kernel[..., self.features // 2 :]], -1)
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class State(NamedTuple):
    """What training changes."""

    params: Any
    opt_state: optax.OptState


class Model(NamedTuple):
    """The net and what it is about; every function below takes it first.

    Attributes:
      net: module (x) -> logits [B, H, W, K], of which the first is the prediction.
      features: functions of an example -> [H, W, F], concatenated to the image.
      consensus: share of the annotators from which on a pixel is an edge; what fewer
        marked is neither edge nor background.
      balance: weight of the background, in units of its balance with the edges.
    """

    net: Any
    features: tuple[Callable, ...]
    consensus: float
    balance: float


def edge_detector(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    features: tuple[Callable, ...] = (),
    consensus: float = 0.3,
    balance: float = 1.1,
) -> Task:
    """Builds the task of finding the edges that people draw.

    Args:
      model: module (x [B, H, W, C]) -> logits [B, H, W, K]; the first is the
        prediction, the loss is the mean over all.
      optimizer: an optax transformation; evaluation uses its moving average of the
        parameters, named `ema`, where it keeps one.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C]
        and `edges` uint8 [H, W, 1], 255 times the share of annotators.
      features: cues that the net sees beside the image, each a function of the
        example (`image` float in [0, 1]) -> [H, W, F].
      consensus: eta of RCF, in (0, 1].
      balance: lambda of RCF.

    Returns:
      A `Task`. Metrics: loss; and in evaluation edge_f, the best F over 19 thresholds
      of the map's ridges, at edge_threshold, where a pixel is right if an edge lies near
      it (no one-to-one matching: for watching, not for comparing with ODS).

    Raises:
      ValueError: an argument that cannot be meant, or an example without its arrays.
    """
    if not 0.0 < consensus <= 1.0 or balance <= 0.0:
        raise ValueError(f"needs 0 < consensus={consensus} <= 1 and balance={balance} > 0")
    _check_example(example)
    model = Model(model, tuple(features), consensus, balance)

    def train_step(state, batch, rng):
        def mean_loss(params):
            logits = apply(model, params, batch)
            terms = balanced_loss(model, logits, batch["edges"])
            return jnp.mean(terms), terms

        grads, terms = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state), pixel_scores.loss_sums(terms, batch["mask"])

    def eval_step(state, batch, rng):
        logits = apply(model, ema_params(state), batch)
        terms = balanced_loss(model, logits, batch["edges"])
        return pixel_scores.loss_sums(terms, batch["mask"]) | edge_sums(model, logits, batch)

    return Task(
        init=partial(init, model, optimizer),
        train_step=train_step,
        eval_step=eval_step,
        finish=finish,
        figures=partial(figures, model),
        predict=partial(predict, model),
    )


def init(model: Model, optimizer, rng: jax.Array, batch: dict) -> State:
    """Fresh parameters and optimiser state."""
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    params = model.net.init(rng, observe(model, one))["params"]
    return State(params, optimizer.init(params))


def observe(model: Model, batch: dict) -> jax.Array:
    """What the net sees: [B, H, W, C + F], the image in [-1, 1] and the features."""
    image = batch["image"].astype(jnp.float32) / 255.0
    cues = [jax.vmap(feature)({"image": image}) for feature in model.features]
    return jnp.concatenate([2.0 * image - 1.0, *cues], -1)


def apply(model: Model, params, batch: dict) -> jax.Array:
    """Logits [B, H, W, K] of a batch, float32."""
    return model.net.apply({"params": params}, observe(model, batch)).astype(jnp.float32)


def balanced_loss(model: Model, logits: jax.Array, edges: jax.Array) -> jax.Array:
    """Class-balanced cross-entropy per example, nats per pixel: [B].

    Edges weigh as much as the share of background, the background `balance` times as
    much as the share of edges; what too few annotators marked weighs nothing.

    Args:
      model: tells `consensus` and `balance`.
      logits: [B, H, W, K], whose losses are averaged.
      edges: uint8 [B, H, W, 1].
    """
    share = edges.astype(jnp.float32) / 255.0
    edge = (share > 0) & (share >= model.consensus)
    ground = share == 0
    edges, grounds = (jnp.sum(part, (1, 2, 3), keepdims=True) for part in (edge, ground))
    counted = jnp.maximum(edges + grounds, 1)
    weight = jnp.where(edge, grounds, jnp.where(ground, model.balance * edges, 0.0)) / counted
    terms = optax.sigmoid_binary_cross_entropy(logits, edge.astype(jnp.float32))
    return jnp.mean(jnp.sum(weight * terms, (1, 2)) / counted[:, 0, 0], -1)


def edge_sums(model: Model, logits: jax.Array, batch: dict) -> dict:
    """Pixel counts at each of LEVELS, over the rows that are examples."""
    ridges = jax.vmap(boundary.ridges)(jax.nn.sigmoid(logits[..., 0]))
    share = batch["edges"][..., 0].astype(jnp.float32) / 255.0
    drawn = (share > 0) & (share >= model.consensus)
    reach = round(TOLERANCE * math.hypot(*drawn.shape[1:]))
    rows = batch["mask"][:, None, None]

    def count(level):
        found = ridges >= level
        return {
            "right": jnp.sum(found & near(share > 0, reach) & rows),
            "predicted": jnp.sum(found & rows),
            "found": jnp.sum(drawn & near(found, reach) & rows),
            "drawn": jnp.sum(drawn & rows),
        }

    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), jax.vmap(count)(LEVELS))


def near(marks: jax.Array, reach: int) -> jax.Array:
    """Whether a mark lies within `reach` rows and columns: bool [B, H, W]."""
    size = 2 * reach + 1
    return jax.lax.reduce_window(marks, False, jnp.logical_or, (1, size, size), (1, 1, 1), "SAME")


def finish(sums: dict) -> dict[str, float]:
    """Sums over images -> metrics; see `edge_detector`."""
    loss = float(sums["loss"] / sums["count"])
    if "found" not in sums:
        return {"loss": loss}
    recall = sums["found"] / np.maximum(sums["drawn"], 1.0)
    precision = sums["right"] / np.maximum(sums["predicted"], 1.0)
    f = 2.0 * recall * precision / np.maximum(recall + precision, 1e-12)
    best = int(np.argmax(f))
    return {"loss": loss, "edge_f": float(f[best]), "edge_threshold": float(LEVELS[best])}


def predict(model: Model, state: State, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """{"strength": [B, H, W]}: how likely each pixel is an edge, not yet thinned."""
    return {"strength": jax.nn.sigmoid(apply(model, ema_params(state), batch)[..., 0])}


def figures(model: Model, state: State, batch: dict, rng: jax.Array) -> dict[str, jax.Array]:
    """Image, annotators' share and prediction of the first examples, side by side."""
    first = jax.tree.map(lambda leaf: leaf[:4], batch)
    strength = predict(model, state, first, rng)["strength"][..., None]
    shown = pictures.rgb(first["image"]), first["edges"], strength * 255.0
    columns = [pictures.rgb(column.astype(jnp.uint8)) for column in shown]
    return {"edges": jnp.stack(columns, axis=1)}


def ema_params(state: State) -> Any:
    """The parameters to evaluate with: their moving average where there is one."""
    return optax.tree.get(state.opt_state, "ema", state.params)


def _check_example(example):
    found = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in example.items()}
    image, edges = example.get("image"), example.get("edges")
    if image is None or len(image.shape) != 3 or image.dtype != np.uint8:
        raise ValueError(f"needs examples with `image` uint8 [H, W, C]; these have {found}")
    if edges is None or edges.dtype != np.uint8 or edges.shape != (*image.shape[:2], 1):
        raise ValueError(
            "needs examples with `edges` uint8 [H, W, 1], as large as the image; "
            f"these have {found}"
        )
