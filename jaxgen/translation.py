"""Images from images (pix2pix, Isola et al. 2017) as a task: (condition, z) -> G(condition, z).

The condition is a label map, or the image itself with a part of it taken away. The
discriminator sees it beside the image, so it judges whether the two belong together.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import gan_training
from jaxgen.batches import image_shape
from jaxgen.losses import adversarial
from jaxgen.task import Task


def translation(
    generator,
    discriminator,
    generator_optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    given: str = "segmentation",
    classes: int = 0,
    ignore: int = 255,
    degrade: Callable | None = None,
    latents: int = 0,
    loss: adversarial.Loss | None = None,
    distance: float = 100.0,
    discriminator_steps: int = 1,
    penalty: str = "",
    penalty_weight: float = 0.0,
    penalty_every: int = 1,
    spectral_norm: bool = False,
) -> Task:
    """Builds the task of training a conditional GAN on pairs of images.

    Args:
      generator: module (condition [B, H, W, K], z [B, latents], shape) -> [B, *shape];
        tanh is applied to what it gives. See `jaxgen.nets.translation`.
      discriminator: module (x [B, H, W, C + K], None) -> logits [B], or [B, h, w] of
        patches; image and condition come as one array.
      generator_optimizer: an optax transformation. Where its state holds a moving
        average of the parameters under the name `ema`, evaluation and images use it.
      discriminator_optimizer: another, with a rate of its own.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C],
        and `segmentation` [H, W, 1] where that is given.
      given: "segmentation", or "image" with `degrade`.
      classes: number of classes of a segmentation; an id outside makes the loss NaN.
      ignore: the id of pixels without a class; the players are told none.
      degrade: images [B, H, W, C] in [-1, 1] -> what is left of them, of that height and
        width; for example `upper_half`.
      latents: length of z; 0 for one image per condition.
      loss: what they play for, see `jaxgen.losses.adversarial`; non-saturating by default.
      distance: weight of the mean absolute error, on images in [-1, 1].
      discriminator_steps: as in `jaxgen.gan.gan`, and so are all others.
      penalty: see there.
      penalty_weight: see there.
      penalty_every: see there.
      spectral_norm: see there.

    Returns:
      A `Task`. Metrics: those of `jaxgen.gan.gan`, and distance, the mean absolute error
      on images in [0, 1].

    Raises:
      ValueError: an argument that cannot be meant, or examples that do not fit it.
    """
    shape = image_shape(example, "image translation")
    _check(given, example, shape, classes, degrade)

    def condition(batch):
        if given == "image":
            return degrade(gan_training.observe(batch))
        return one_hot_map(batch["segmentation"], classes, ignore)

    def init(rng, batch):
        told = condition(jax.tree.map(lambda leaf: leaf[:1], batch))
        rngs, z, blank = jax.random.split(rng), jnp.zeros((1, latents)), jnp.zeros((1, *shape))
        return {
            "generator": generator.init(rngs[0], told, z, shape)["params"],
            "discriminator": discriminator.init(rngs[1], _beside(blank, told))["params"],
        }

    def generate(params, told, z):
        return jnp.tanh(generator.apply({"params": params}, told, z, shape))

    def judge(params, x, told):
        return discriminator.apply({"params": params}, _beside(x, told))

    rules = gan_training.GANSetup(
        init=init,
        condition=condition,
        generate=generate,
        judge=judge,
        latents=latents,
        loss=loss or adversarial.non_saturating(),
        distance=distance,
        discriminator_steps=discriminator_steps,
        penalty=penalty,
        penalty_weight=penalty_weight,
        penalty_every=penalty_every,
        spectral_norm=spectral_norm,
    )
    gan_training.check(rules)
    optimizers = {"generator": generator_optimizer, "discriminator": discriminator_optimizer}
    show = (
        partial(_shown_map, classes=classes) if given == "segmentation" else gan_training.as_image
    )
    return Task(
        init=partial(gan_training.init, rules, optimizers),
        train_step=partial(gan_training.train_step, rules, optimizers),
        eval_step=partial(gan_training.evaluate, rules),
        finish=gan_training.finish,
        figures=partial(figures, rules, show),
        complete=partial(gan_training.drawn, rules),
        given=given,
        recover=gan_training.recover,
        accumulates=False,
    )


def figures(
    rules: gan_training.GANSetup, show: Callable, state: gan_training.State, batch: dict, rng
) -> dict:
    """Rows: condition, true image, and what is drawn, twice where noise plays a part."""
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    rows = [show(rules.condition(first)), first["image"] / 255.0]
    for number in range(2 if rules.latents else 1):
        rows.append(gan_training.drawn(rules, state, first, jax.random.fold_in(rng, number)))
    channels = max(row.shape[-1] for row in rows)
    return {"translations": jnp.stack([_with_channels(row, channels) for row in rows])}


def upper_half() -> Callable:
    """Blackens the lower half of images [B, H, W, C]; an odd middle row stays."""

    def degrade(images):
        height = images.shape[1]
        kept = jnp.arange(height)[:, None, None] < (height + 1) // 2
        return jnp.where(kept, images, -1.0)

    return degrade


def coarse(factor: int = 4) -> Callable:
    """Replaces each block of `factor` x `factor` pixels of images by its mean."""
    if factor < 2:
        raise ValueError(f"factor must be at least 2, got {factor}")

    def degrade(images):
        height, width = images.shape[1:3]
        spare = ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0))
        full = jnp.pad(images, spare, mode="edge")
        blocks = full.reshape(
            full.shape[0], full.shape[1] // factor, factor, -1, factor, full.shape[3]
        )
        means = blocks.mean(axis=(2, 4))
        return means.repeat(factor, axis=1).repeat(factor, axis=2)[:, :height, :width]

    return degrade


def one_hot_map(ids: jax.Array, classes: int, ignore: int) -> jax.Array:
    """Ids [B, H, W, 1] -> [B, H, W, classes]; 0 where ignored, NaN where they are no class."""
    ids = ids[..., 0].astype(jnp.int32)
    valid = ((ids >= 0) & (ids < classes)) | (ids == ignore)
    one_hot = jnp.where((ids == ignore)[..., None], 0.0, jax.nn.one_hot(ids, classes))
    return jnp.where(valid[..., None], one_hot, jnp.nan)


def _shown_map(one_hot, classes):
    """A colour for each class, hues a golden angle apart; black where ignored."""
    turns = np.arange(classes)[:, None] * 0.618 + np.array([0.0, 1 / 3, 2 / 3])
    return one_hot @ jnp.asarray(0.5 + 0.4 * np.cos(2 * np.pi * turns), jnp.float32)


def _with_channels(images, channels):
    return jnp.broadcast_to(images, (*images.shape[:-1], channels))


def _beside(x, condition):
    return jnp.concatenate([x, condition], axis=-1)


def _check(given, example, shape, classes, degrade):
    if given not in ("segmentation", "image"):
        raise ValueError(f"given must be segmentation or image, got {given!r}")
    if given == "image":
        if degrade is None or classes:
            raise ValueError('given="image" needs `degrade`, and takes no classes')
        return
    if degrade is not None or classes < 2:
        raise ValueError(f'given="segmentation" needs classes >= 2 (got {classes}), and no degrade')
    ids = example.get("segmentation")
    wanted = (*shape[:2], 1)
    if ids is None or tuple(ids.shape) != wanted or ids.dtype.kind not in "iu":
        found = "none" if ids is None else f"{ids.dtype}{list(ids.shape)}"
        raise ValueError(
            f"image translation needs integer `segmentation` {list(wanted)}; got {found}"
        )
