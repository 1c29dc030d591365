"""Images from images (pix2pix, Isola et al. 2017) as a task: (condition, z) -> G(condition, z).

The condition is a label map, or the image itself with a part removed. The discriminator
gets image and condition together, so it learns whether the two belong together.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import gan_players, gan_training
from jaxgen.batches import image_shape, unit_range
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
      generator: module (condition [B, H, W, K], z [B, latents], shape) -> [B, *shape],
        before tanh. See `jaxgen.nets.translation`.
      discriminator: module (x [B, H, W, C + K], None) -> logits [B], or [B, h, w] of
        patches; image and condition come as one array.
      generator_optimizer: an optax transformation. Where its state holds a moving
        average of the parameters under the name `ema`, evaluation and images use it.
      discriminator_optimizer: the same for the discriminator.
      example: shape and dtype of each array of one example: `image` uint8 [H, W, C],
        and `segmentation` integer [H, W, 1] where `given` is "segmentation".
      given: the array that the condition is made from: "segmentation", or "image" with
        `degrade`.
      classes: number of classes of a segmentation; an id outside makes the loss NaN.
      ignore: the id of pixels without a class; the condition is 0 there.
      degrade: images [B, H, W, C] in [-1, 1] -> the condition [B, H, W, K]; for example
        `upper_half`.
      latents: length of z; 0 for one image per condition.
      loss: the losses of both nets, see `jaxgen.losses.adversarial`; non-saturating by
        default.
      distance: weight of the mean absolute error, on images in [-1, 1].
      discriminator_steps: as in `jaxgen.gan.gan`.
      penalty: as in `jaxgen.gan.gan`.
      penalty_weight: as in `jaxgen.gan.gan`.
      penalty_every: as in `jaxgen.gan.gan`.
      spectral_norm: as in `jaxgen.gan.gan`.

    Returns:
      A `Task`. Metrics: those of `jaxgen.gan.gan`, and distance, the mean absolute error
      on images in [0, 1].

    Raises:
      ValueError: an argument outside its range, arguments that exclude each other, or an
        example without the arrays that they need.
    """
    shape = image_shape(example, "image translation")
    _check(given, example, shape, classes, degrade)

    def condition(batch):
        if given == "image":
            return degrade(gan_players.normalise(batch))
        return one_hot_map(batch["segmentation"], classes, ignore)

    def init(rng, batch):
        one = condition(jax.tree.map(lambda leaf: leaf[:1], batch))
        rngs, z, blank = jax.random.split(rng), jnp.zeros((1, latents)), jnp.zeros((1, *shape))
        return {
            "generator": generator.init(rngs[0], one, z, shape)["params"],
            "discriminator": discriminator.init(rngs[1], _concatenate(blank, one))["params"],
        }

    def generate(params, condition, z):
        return jnp.tanh(generator.apply({"params": params}, condition, z, shape))

    def discriminate(params, x, condition):
        return discriminator.apply({"params": params}, _concatenate(x, condition))

    setup = gan_players.GANSetup(
        init=init,
        condition=condition,
        generate=generate,
        discriminate=discriminate,
        latents=latents,
        loss=loss or adversarial.non_saturating(),
        distance=distance,
        discriminator_steps=discriminator_steps,
        penalty=penalty,
        penalty_weight=penalty_weight,
        penalty_every=penalty_every,
        spectral_norm=spectral_norm,
    )
    gan_players.check(setup)
    optimizers = {"generator": generator_optimizer, "discriminator": discriminator_optimizer}
    show = gan_players.as_image if given == "image" else partial(_colours, classes=classes)
    return Task(
        init=partial(gan_training.init, setup, optimizers),
        train_step=partial(gan_training.train_step, setup, optimizers),
        eval_step=partial(gan_training.evaluate, setup),
        finish=gan_training.finish,
        figures=partial(figures, setup, show),
        complete=partial(gan_training.sample, setup),
        given=given,
        recover=gan_training.recover,
        accumulates=False,
    )


def figures(
    setup: gan_players.GANSetup, show: Callable, state: gan_players.State, batch: dict, rng
) -> dict:
    """Makes the images that training writes beside its metrics.

    Args:
      setup: the setup.
      show: condition -> images [B, H, W, 1 or C] in [0, 1].
      state: the state; the moving average of its generator is used.
      batch: see `jaxgen.task.Task`.
      rng: key.

    Returns:
      translations [rows, N, H, W, C], N at most 8, with the rows condition, true image and
      generated image, the last twice where there is noise.
    """
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    rows = [show(setup.condition(first)), unit_range(first["image"])]
    for number in range(2 if setup.latents else 1):
        key = jax.random.fold_in(rng, number)
        rows.append(gan_training.sample(setup, state, first, key))
    channels = max(row.shape[-1] for row in rows)
    return {"translations": jnp.stack([_with_channels(row, channels) for row in rows])}


def upper_half() -> Callable:
    """Builds a `degrade` that sets the lower half of images to black.

    Returns:
      images [B, H, W, C] in [-1, 1] -> the same shape; an odd middle row stays.
    """

    def degrade(images):
        height = images.shape[1]
        kept = jnp.arange(height)[None, :, None, None] < (height + 1) // 2
        return jnp.where(kept, images, -1.0)

    return degrade


def coarse(factor: int = 4) -> Callable:
    """Builds a `degrade` that replaces blocks of pixels by their mean.

    Args:
      factor: side of a block in pixels.

    Returns:
      images [B, H, W, C] -> the same shape.

    Raises:
      ValueError: a factor below 2.
    """
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
    """One-hot classes of label maps.

    Args:
      ids: integer [B, H, W, 1].
      classes: K.
      ignore: the id of pixels without a class.

    Returns:
      float32 [B, H, W, K]; 0 where ignored, NaN where the id is not in [0, K).
    """
    ids = ids[..., 0].astype(jnp.int32)
    valid = ((ids >= 0) & (ids < classes)) | (ids == ignore)
    one_hot = jnp.where((ids == ignore)[..., None], 0.0, jax.nn.one_hot(ids, classes))
    return jnp.where(valid[..., None], one_hot, jnp.nan)


def _colours(one_hot, classes):
    """A colour for each class, hues a golden angle apart; black where ignored."""
    turns = np.arange(classes)[:, None] * 0.618 + np.array([0.0, 1 / 3, 2 / 3])
    return one_hot @ jnp.asarray(0.5 + 0.4 * np.cos(2 * np.pi * turns), jnp.float32)


def _with_channels(images, channels):
    return jnp.broadcast_to(images, (*images.shape[:-1], channels))


def _concatenate(x, condition):
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
    needed = (*shape[:2], 1)
    if ids is None or tuple(ids.shape) != needed or ids.dtype.kind not in "iu":
        found = "none" if ids is None else f"{ids.dtype}{list(ids.shape)}"
        raise ValueError(
            f"image translation needs integer `segmentation` {list(needed)}; got {found}"
        )
