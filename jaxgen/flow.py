"""Flow matching and diffusion as a task: a net that gives the clean image of a noisy one.

z = t x + (1 - t) e; see `jaxgen.flows` for the path, and for what published recipes choose.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training
from jaxgen.batches import ema_params, image_shape, masked_sums
from jaxgen.flows import (
    distillation,
    images,
    likelihoods,
    mean_velocity,
    ode,
    parametrisations,
    paths,
    weights,
)
from jaxgen.flows.model import (
    Model,
    check_kinds,
    condition_of,
    denoise,
    init_params,
    noise_of,
    observe,
)
from jaxgen.flows.sampling_options import Sampling, step_by_step
from jaxgen.likelihoods.images import bits_per_dim
from jaxgen.noise import per_example
from jaxgen.task import Codec, Task

BINS = 10  # of time, of which the loss is shown


def flow(
    model,
    optimizer: optax.GradientTransformation,
    example: dict[str, jax.ShapeDtypeStruct],
    parametrisation: parametrisations.Parametrisation | None = None,
    density: paths.Times | None = None,
    weight: weights.Weight | None = None,
    classes: int = 0,
    class_dropout: float = 0.1,
    levels: int = 0,
    draws: int = 16,
    likelihood: ode.Density | None = None,
    sampling: Sampling | None = None,
    mean_flow: mean_velocity.MeanFlow | None = None,
    codec: Codec | None = None,
) -> Task:
    """Builds the task of training a flow, or a diffusion model, on uint8 images.

    Args:
      model: module (z [B, H, W, C], t [B], condition or None) -> [B, H, W, C], as
        `jaxgen.nets.image_transformer.ImageTransformer`.
      optimizer: an optax transformation. Where its state holds a moving average
        of the parameters under the name `ema`, evaluation and samples use it.
      example: shape and dtype of each array of one example; `image` must be
        uint8 [H, W, C], and `label` an integer where `classes` is given.
      parametrisation: what the net computes; the clean image by default.
      density: of the times of training; logit-normal by default.
      weight: of the squared error; that of the velocity by default.
      classes: number of classes to condition the net on; 0 for none.
      class_dropout: share of examples that train without their class, for guidance.
      levels: 256, or 2 for binarised images: the bound on -log p(image) is a metric then. 2
        models pixels that are drawn as black or white with the grey level as probability.
      draws: of time and noise for each image when the bound is scored.
      likelihood: how `score_step` computes the exact density, see `jaxgen.flows.ode`; it does
        not unless given. Grey levels are spread evenly over their widths first.
      sampling: how images are made, see `jaxgen.flows.step_by_step`; as its defaults say.
      mean_flow: also trains the mean velocity up to a later time, for samples in one step by
        `samplers.leap`; see `jaxgen.flows.mean_velocity`. Its loss is that of training alone.
      codec: of a trained auto-encoder, whose latents the flow models in place of pixels (Rombach
        et al. 2022); images are completed by the `start` of `sampling` alone then.

    Returns:
      A `Task`. Metrics: loss; loss_t0.0 to loss_t0.9, its mean in a tenth of the times; and in
      evaluation, with `levels`, negative_elbo, prior, reconstruction and diffusion in nats per
      image and bits_per_dim; from score_step, with `likelihood`, nll in nats, nll_bits_per_dim, and
      noise_std, of the noise that images are taken to, 1 where nll can be trusted.

    Raises:
      ValueError: an argument outside its range, or an example without images or labels.
    """
    image = image_shape(example, "a flow", classes)
    shape, sampling = codec.shape if codec else image, sampling or step_by_step()
    if sampling.given_rows is None:
        sampling = sampling._replace(given_rows=shape[0] // 2)
    model = Model(
        net=model,
        shape=shape,
        parametrisation=parametrisation or parametrisations.clean(),
        density=density or paths.logit_normal(),
        weight=weight or weights.velocity(),
        classes=classes,
        class_dropout=class_dropout,
        levels=levels,
        draws=draws,
        likelihood=likelihood,
        sampling=sampling,
        mean_flow=mean_flow,
        codec=codec,
    )
    check_kinds(model)
    _check_model(model, image)
    _check_sampling(model)
    with_ema = lambda function: likelihood_training.with_ema(function, model)
    drawn = partial(guided_by_state, model) if sampling.autoguidance else with_ema
    return Task(
        init=likelihood_training.init(optimizer, partial(init_params, model)),
        train_step=likelihood_training.train_step(optimizer, partial(train_terms, model)),
        eval_step=with_ema(evaluate),
        finish=partial(finish, model),
        figures=likelihood_training.with_ema(images.figures, _without_weaker(model)),
        score_step=with_ema(partial(evaluate, thorough=True)) if levels or likelihood else None,
        sample=drawn(images.sample),
        complete=drawn(images.complete) if sampling.start or not codec else None,
        given="image",
        keeps_pixels=not codec and not sampling.start,
        interpolate=drawn(images.interpolate),
        evidence=with_ema(likelihoods.evidence) if classes else None,
        density=None if levels == 2 or codec else with_ema(likelihoods.density_of),
        from_noise=None if levels == 2 or codec else with_ema(likelihoods.image_of),
        teacher=with_ema(distillation.teacher),
    )


def guided_by_state(model: Model, function: Callable) -> Callable:
    """A function of a state, whose own parameters are those of a weaker net.

    Args:
      model: the model.
      function: (model, params, ...) -> images.

    Returns:
      (state, ...) -> images by the moving average of the parameters.
    """

    def drawn(state, *rest):
        guided = model._replace(weaker=state.params)
        return function(guided, ema_params(state.opt_state, state.params), *rest)

    return drawn


def train_terms(model: Model, params: dict, batch: dict, rng: jax.Array) -> dict:
    """The loss of training, at one time for each image.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of the step.

    Returns:
      {"loss": [B]}, and by time "loss_by_time" and "count_by_time" [B, 10].
    """
    keys, index = [jax.random.fold_in(rng, number) for number in range(4)], batch["index"]
    t, drop = model.density.of(per_example(jax.random.uniform, keys[1], index)), None
    if model.classes and model.class_dropout:
        drop = per_example(jax.random.uniform, keys[2], index) < model.class_dropout
    if not model.mean_flow:
        return loss_at(model, params, batch, keys[0], t, drop)
    u = per_example(lambda key: jax.random.uniform(key, (2,)), keys[3], index)
    other = model.density.of(u[:, 0])
    t, until = mean_velocity.second_times(model.mean_flow, t, other, u[:, 1])
    x, noise = ends(model, batch, keys[0])
    condition = condition_of(model, batch, drop)
    clean = lambda z, t, until: denoise(model, params, z, t, condition, until)
    loss = mean_velocity.loss(model.mean_flow, clean, x, noise, t, until, condition)
    return by_time(loss, t)


def ends(model: Model, batch: dict, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both ends of the path: images or latents, and noise, [B, H, W, C] each.

    Args:
      model: the model.
      batch: see `jaxgen.task.Task`.
      rng: key of binarisation and noise.
    """
    x = observe(model, batch, jax.random.fold_in(rng, 0))
    return x, noise_of(model, jax.random.fold_in(rng, 1), batch["index"])


def loss_at(
    model: Model,
    params: dict,
    batch: dict,
    rng: jax.Array,
    t: jax.Array,
    drop: jax.Array | None = None,
) -> dict:
    """The loss at given times.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key of noise and binarisation.
      t: [B].
      drop: bool [B], rows without their class.

    Returns:
      As `train_terms`.
    """
    x, noise = ends(model, batch, rng)
    z = paths.noisy(x, noise, t)
    guess = denoise(model, params, z, t, condition_of(model, batch, drop))
    return by_time(weights.weighted(model.weight, model.density, x, guess, t), t)


def by_time(loss: jax.Array, t: jax.Array) -> dict[str, jax.Array]:
    """The loss [B], and "loss_by_time" and "count_by_time" [B, 10] of the times [B]."""
    place = jax.nn.one_hot(jnp.clip((BINS * t).astype(jnp.int32), 0, BINS - 1), BINS)
    return {"loss": loss, "loss_by_time": loss[:, None] * place, "count_by_time": place}


def evaluate(
    model: Model, params: dict, batch: dict, rng: jax.Array, thorough: bool = False
) -> dict:
    """The sums of a batch without training, at times spread evenly over the split.

    Args:
      model: the model.
      params: of the net.
      batch: see `jaxgen.task.Task`.
      rng: key.
      thorough: whether the bound takes the model's `draws`, not one; and whether the density
        is computed.

    Returns:
      Those of `train_terms`, with `levels` of `bounds.bound_terms`, and perhaps nll.
    """
    t = model.density.of((paths.van_der_corput(batch["index"]) + 0.5) % 1.0)
    terms = loss_at(model, params, batch, jax.random.fold_in(rng, 0), t)
    terms |= likelihoods.terms(model, params, batch, rng, thorough)
    return masked_sums(terms, batch["mask"])


def finish(model: Model, sums: dict) -> dict[str, float]:
    """Divides sums over images by the number of images.

    Args:
      model: the model.
      sums: of one or more batches, numpy float64.

    Returns:
      The metrics that `flow` lists; a tenth of the times without an image is left out.
    """
    names = ("loss", "negative_elbo", "prior", "reconstruction", "diffusion", "nll")
    means = {name: float(sums[name] / sums["count"]) for name in names if name in sums}
    for number, count in enumerate(sums["count_by_time"]):
        if count:
            means[f"loss_t{number / BINS:.1f}"] = float(sums["loss_by_time"][number] / count)
    values = int(np.prod(model.shape))
    if "negative_elbo" in means:
        means["bits_per_dim"] = float(bits_per_dim(means["negative_elbo"], values))
    if "nll" in means:
        means["nll_bits_per_dim"] = float(bits_per_dim(means["nll"], values, 8.0))
        means["noise_std"] = float(np.sqrt(sums["noise_square"] / sums["count"]))
    return means


def _check_model(model, image):
    """Refuses what no training can use; `image` is the shape of the examples."""
    levels, codec, dropout = model.levels, model.codec, model.class_dropout
    if levels not in (0, *likelihoods.ENDS):
        raise ValueError(f"levels must be 0 (none), 2 or 256, got {levels}")
    if model.parametrisation.levels not in (0, levels):
        raise ValueError(
            f"levels={levels}: this parametrisation is for {model.parametrisation.levels} levels"
        )
    if model.draws < 1:
        raise ValueError(f"draws={model.draws} must be at least 1")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"class_dropout={dropout} must be in [0, 1)")
    if model.likelihood and levels == 2:
        raise ValueError("likelihood: black and white pixels have no density; take levels=0 or 256")
    if codec and (levels or model.likelihood):
        raise ValueError("codec: latents have no bits per dimension; take levels=0, no likelihood")
    if codec and codec.image_shape != image:
        raise ValueError(
            f"codec: the auto-encoder is for images {codec.image_shape}; these are {image}"
        )
    distillation.check(model)


def _check_sampling(model):
    """Refuses guidance, rows and samplers that this flow cannot use."""
    sampling, classes, dropout = model.sampling, model.classes, model.class_dropout
    by_class = classes and dropout
    if sampling.guidance != 1.0 and not by_class and not sampling.autoguidance:
        raise ValueError(
            f"guidance={sampling.guidance} needs classes, and a net that also trained without them "
            f"(class_dropout above 0); there are classes={classes}, class_dropout={dropout}"
        )
    if not 0 <= sampling.given_rows < model.shape[0]:
        raise ValueError(f"given_rows must be 0 to {model.shape[0] - 1}, got {sampling.given_rows}")
    if sampling.sampler.leaps and not model.mean_flow:
        raise ValueError("leap is for a mean flow; take another sampler, or train with mean_flow")


def _without_weaker(model):
    """The model as figures of training use it, where there is no weaker net."""
    if not model.sampling.autoguidance:
        return model
    return model._replace(sampling=model.sampling._replace(guidance=1.0))
