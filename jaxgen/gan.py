"""Generative adversarial nets (Goodfellow et al. 2014) as a task: z -> G(z).

z ~ N(0, 1)    generate: x = tanh(G(z, class))    judge: D(x, class), a logit
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from jaxgen import gan_training
from jaxgen.batches import image_shape, one_hot_classes
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
    augment: tuple = (),
) -> Task:
    """Builds the task of training a GAN on uint8 images.

    Args:
      generator: module (z [B, latents + classes], shape) -> [B, *shape]; tanh is applied
        to what it gives. See `jaxgen.nets.gan`; the decoders of VAEs serve too.
      discriminator: module (x [B, H, W, C], condition [B, classes] or None) -> logits
        [B], or [B, h, w] of patches.
      generator_optimizer: an optax transformation. Where its state holds a moving
        average of the parameters under the name `ema`, evaluation and samples use it.
      discriminator_optimizer: another; with a rate of its own, these are the two time
        scales of Heusel et al. 2017.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      loss: what they play for, see `jaxgen.losses.adversarial`; non-saturating by default.
      latents: length of z.
      classes: number of classes to condition both nets on; 0 for none.
      discriminator_steps: n updates of the discriminator for one of the generator. Each
        takes an n-th of the batch, and so does the generator.
      penalty: "r1" at real images, or "gradient" (WGAN-GP) between real and generated.
      penalty_weight: its weight in the discriminator's loss; half of R1's published
        gamma, and the whole lambda of WGAN-GP.
      penalty_every: it is computed at every so many-th update, with a weight as many
        times larger.
      spectral_norm: whether the discriminator's kernels have spectral norm 1.
      augment: functions (image, key) -> image before the discriminator, see
        `jaxgen.augmentations.diffaugment`.

    Returns:
      A `Task`. Metrics: loss (the generator's), discriminator_loss without its penalty,
      d_real and d_fake (mean logits), gap (their difference), d_accuracy (the share of
      pairs in which the real image has the larger logit), and penalty.

    Raises:
      ValueError: an argument that cannot be meant, an example without images, or a size
        that a net cannot make.
    """
    shape = image_shape(example, "a GAN", classes)

    def init(rng, batch):
        one = jax.tree.map(lambda leaf: leaf[:1], batch)
        z, condition = jnp.zeros((1, latents)), one_hot_classes(one, classes)
        rngs = jax.random.split(rng)
        return {
            "generator": generator.init(rngs[0], _beside(z, condition), shape)["params"],
            "discriminator": discriminator.init(rngs[1], gan_training.observe(one), condition)[
                "params"
            ],
        }

    def generate(params, condition, z):
        return jnp.tanh(generator.apply({"params": params}, _beside(z, condition), shape))

    rules = gan_training.GANSetup(
        init=init,
        condition=partial(one_hot_classes, classes=classes),
        generate=generate,
        judge=lambda params, x, condition: discriminator.apply({"params": params}, x, condition),
        latents=latents,
        loss=loss or adversarial.non_saturating(),
        discriminator_steps=discriminator_steps,
        penalty=penalty,
        penalty_weight=penalty_weight,
        penalty_every=penalty_every,
        spectral_norm=spectral_norm,
        policy=tuple(augment),
    )
    gan_training.check(rules)
    if latents < 1:
        raise ValueError(f"latents must be at least 1, got {latents}")
    optimizers = {"generator": generator_optimizer, "discriminator": discriminator_optimizer}
    return Task(
        init=partial(gan_training.init, rules, optimizers),
        train_step=partial(gan_training.train_step, rules, optimizers),
        eval_step=partial(gan_training.evaluate, rules),
        finish=gan_training.finish,
        figures=partial(figures, rules, classes),
        sample=partial(gan_training.drawn, rules),
        interpolate=partial(interpolate, rules),
        recover=gan_training.recover,
        # The players take turns on micro-batches: a step is not the sum of their gradients.
        accumulates=False,
    )


def interpolate(
    rules: gan_training.GANSetup, state: gan_training.State, batch: dict, rng: jax.Array
) -> jax.Array:
    """Strips [B, steps, H, W, C] from the sample of seed `index` to that of seed `end`."""
    path = slerp(*(gan_training.noise(rules, batch, rng, key) for key in ("index", "end")))
    params, condition = gan_training.best_generator(state), rules.condition(batch)
    strips = jax.vmap(lambda z: rules.generate(params, condition, z))(path)
    return gan_training.as_image(strips).swapaxes(0, 1)


def figures(
    rules: gan_training.GANSetup, classes: int, state: gan_training.State, batch: dict, rng
) -> dict:
    """What a person looks at: samples, a column for each class, and interpolations."""
    del batch
    columns = classes or 8
    index = jnp.arange(8 * columns)
    seeds = {"index": index, "label": index % columns}
    drawn = gan_training.drawn(rules, state, seeds, rng)
    ends = {"index": jnp.arange(8), "end": jnp.arange(8) + 8, "label": jnp.arange(8) % columns}
    return {
        "samples": drawn.reshape(8, columns, *drawn.shape[1:]),
        "interpolation": interpolate(rules, state, ends, rng),
    }


def _beside(z, condition):
    return z if condition is None else jnp.concatenate([z, condition], axis=-1)
