"""Generative adversarial nets (Goodfellow et al. 2014) as a task: z -> G(z).

z ~ N(0, 1)    generate: x = tanh(G(z, class))    discriminate: D(x, class), a logit
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from jaxgen import gan_players, gan_training
from jaxgen.batches import image_shape, one_hot_classes, with_condition
from jaxgen.losses import adversarial
from jaxgen.noise import slerp
from jaxgen.task import Task


def gan(
    generator,
    discriminator,
    generator_optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    loss: adversarial.Loss | None = None,
    latents: int = 64,
    classes: int = 0,
    discriminator_steps: int = 1,
    penalty: str = "",
    penalty_weight: float = 0.0,
    penalty_every: int = 1,
    spectral_norm: bool = False,
    augmentations: tuple = (),
) -> Task:
    """Builds the task of training a GAN on uint8 images.

    Args:
      generator: module (z [B, latents + classes], shape) -> [B, *shape], before tanh. See
        `jaxgen.nets.gan`; the decoders of VAEs can be used too.
      discriminator: module (x [B, H, W, C], condition [B, classes] or None) -> logits
        [B], or [B, h, w] of patches.
      generator_optimizer: an optax transformation. Where its state holds a moving
        average of the parameters under the name `ema`, evaluation and samples use it.
      discriminator_optimizer: the same for the discriminator; with another learning rate
        these are the two time scales of Heusel et al. 2017.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      loss: the losses of both nets, see `jaxgen.losses.adversarial`; non-saturating by
        default.
      latents: length of z.
      classes: number of classes to condition both nets on; 0 for none.
      discriminator_steps: n, updates of the discriminator for each update of the
        generator. Every update takes an n-th of the batch.
      penalty: "r1" at real images, or "gradient" (WGAN-GP) between real and generated
        images; empty for none.
      penalty_weight: weight of the penalty in the discriminator's loss: half of R1's
        published gamma, or the whole lambda of WGAN-GP.
      penalty_every: k; the penalty is computed at every k-th update, with k times the
        weight.
      spectral_norm: whether the discriminator's kernels have spectral norm 1.
      augmentations: functions (image, key) -> image that are applied to the
        discriminator's inputs, see `jaxgen.augmentations.diffaugment`.

    Returns:
      A `Task`. Metrics: loss (the generator's), discriminator_loss without its penalty,
      d_real and d_fake (mean logits), gap (their difference), d_accuracy (the share of
      pairs in which the real image has the larger logit), and penalty.

    Raises:
      ValueError: an argument outside its range, an example without images or labels, or
        an image size that a net cannot make.
    """
    shape = image_shape(example, "a GAN", classes)

    def init(rng, batch):
        one = jax.tree.map(lambda leaf: leaf[:1], batch)
        z, condition = jnp.zeros((1, latents)), one_hot_classes(one, classes)
        rngs = jax.random.split(rng)
        images = gan_players.normalise(one)
        return {
            "generator": generator.init(rngs[0], with_condition(z, condition), shape)["params"],
            "discriminator": discriminator.init(rngs[1], images, condition)["params"],
        }

    def generate(params, condition, z):
        return jnp.tanh(generator.apply({"params": params}, with_condition(z, condition), shape))

    def discriminate(params, x, condition):
        return discriminator.apply({"params": params}, x, condition)

    setup = gan_players.GANSetup(
        init=init,
        condition=partial(one_hot_classes, classes=classes),
        generate=generate,
        discriminate=discriminate,
        latents=latents,
        loss=loss or adversarial.non_saturating(),
        discriminator_steps=discriminator_steps,
        penalty=penalty,
        penalty_weight=penalty_weight,
        penalty_every=penalty_every,
        spectral_norm=spectral_norm,
        augmentations=tuple(augmentations),
    )
    gan_players.check(setup)
    if latents < 1:
        raise ValueError(f"latents must be at least 1, got {latents}")
    optimizers = {"generator": generator_optimizer, "discriminator": discriminator_optimizer}
    return Task(
        init=partial(gan_training.init, setup, optimizers),
        train_step=partial(gan_training.train_step, setup, optimizers),
        eval_step=partial(gan_training.evaluate, setup),
        finish=gan_training.finish,
        figures=partial(figures, setup, classes),
        sample=partial(gan_training.sample, setup),
        interpolate=partial(interpolate, setup),
        recover=gan_training.recover,
        # Updates follow each other within a step: a step is no sum over micro-batches.
        accumulates=False,
    )


def interpolate(
    setup: gan_players.GANSetup, state: gan_players.State, batch: dict, rng: jax.Array
) -> jax.Array:
    """Generates images from noise interpolated spherically between that of two seeds.

    Args:
      setup: the setup.
      state: the state; the moving average of its generator is used.
      batch: `index` [B], `end` [B] and, for a conditional model, `label` [B].
      rng: key.

    Returns:
      Strips [B, steps, H, W, C] in [0, 1] from the sample of seed `index` to that of `end`.
    """
    path = slerp(*(gan_players.noise(setup, batch, rng, key) for key in ("index", "end")))
    params, condition = gan_players.ema_generator(state), setup.condition(batch)
    strips = jax.vmap(lambda z: setup.generate(params, condition, z))(path)
    return gan_players.as_image(strips).swapaxes(0, 1)


def figures(
    setup: gan_players.GANSetup, classes: int, state: gan_players.State, batch: dict, rng
) -> dict:
    """Generates the images that training writes beside its metrics.

    Args:
      setup: the setup.
      classes: number of classes; 0 for none.
      state: the state; the moving average of its generator is used.
      batch: not used.
      rng: key.

    Returns:
      samples [8, columns, H, W, C], a column for each class (8 columns without classes),
      and interpolation [8, steps, H, W, C].
    """
    del batch
    columns = classes or 8
    index = jnp.arange(8 * columns)
    seeds = {"index": index, "label": index % columns}
    samples = gan_training.sample(setup, state, seeds, rng)
    ends = {"index": jnp.arange(8), "end": jnp.arange(8) + 8, "label": jnp.arange(8) % columns}
    return {
        "samples": samples.reshape(8, columns, *samples.shape[1:]),
        "interpolation": interpolate(setup, state, ends, rng),
    }
