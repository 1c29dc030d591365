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
    likelihoods,
    mean_velocity,
    ode,
    parametrisations,
    paths,
    samplers,
    sampling,
    weights,
)
from jaxgen.flows.model import Model, condition_of, denoise, init_params, noise_of, observe
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
    sampler: samplers.Sampler | None = None,
    grid: np.ndarray | None = None,
    guidance: float = 1.0,
    interval: tuple[float, float] = (0.1, 1.0),
    autoguidance: bool = False,
    given_rows: int | None = None,
    start: float = 0.0,
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
      sampler: see `jaxgen.flows.samplers`; Heun's by default.
      grid: times of sampling, [steps + 1], see `samplers.even_times`; 20 steps by default.
      guidance: x_hat = x_none + guidance (x_class - x_none) (Ho and Salimans 2022).
      interval: times between which the guidance acts (Kynkäänniemi et al. 2024).
      autoguidance: guides by a weaker net in place of no class: x_hat = x_weaker + guidance
        (x_class - x_weaker) (Karras et al. 2024, "Guiding a diffusion model with a bad version of
        itself"). Images are made by the optimiser's moving average, and the weaker net's
        parameters are those of the state itself, where the caller puts them.
      given_rows: rows at the top that `complete` keeps; half of them by default.
      start: above 0, `complete` keeps no rows: it adds noise to the whole image, as much as there
        is at this time, and samples from there (SDEdit, Meng et al. 2022).
      mean_flow: also trains the mean velocity up to a later time, for samples in one step by
        `samplers.leap`; see `jaxgen.flows.mean_velocity`. Its loss is that of training alone.
      codec: of a trained auto-encoder, whose latents the flow models in place of pixels (Rombach
        et al. 2022); images are completed by `start` alone then.

    Returns:
      A `Task`. Metrics: loss; loss_t0.0 to loss_t0.9, its mean in a tenth of the times; and in
      evaluation, with `levels`, negative_elbo, prior, reconstruction and diffusion in nats per
      image and bits_per_dim; from score_step, with `likelihood`, nll in nats, nll_bits_per_dim, and
      noise_std, of the noise that images are taken to, 1 where nll can be trusted.

    Raises:
      ValueError: an argument outside its range, or an example without images or labels.
    """
    image = image_shape(example, "a flow", classes)
    shape = codec.shape if codec else image
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
        sampler=sampler or samplers.heun(),
        grid=samplers.even_times(20) if grid is None else np.asarray(grid),
        guidance=guidance,
        interval=tuple(interval),
        given_rows=shape[0] // 2 if given_rows is None else given_rows,
        start=start,
        mean_flow=mean_flow,
        codec=codec,
    )
    _check_model(model, image)
    _check_sampling(model, autoguidance)
    with_ema = lambda function: likelihood_training.with_ema(function, model)
    drawn = partial(guided_by_state, model) if autoguidance else with_ema
    return Task(
        init=likelihood_training.init(optimizer, partial(init_params, model)),
        train_step=likelihood_training.train_step(optimizer, partial(train_terms, model)),
        eval_step=with_ema(evaluate),
        finish=partial(finish, model),
        # Those of training know no weaker net.
        figures=likelihood_training.with_ema(
            sampling.figures, model._replace(guidance=1.0) if autoguidance else model
        ),
        score_step=with_ema(partial(evaluate, thorough=True)) if levels or likelihood else None,
        sample=drawn(sampling.sample),
        complete=drawn(sampling.complete) if start or not codec else None,
        given="image",
        interpolate=drawn(sampling.interpolate),
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


def _check_sampling(model, autoguidance):
    """Refuses guidance, times and rows that cannot work."""
    guidance, interval, grid = model.guidance, model.interval, model.grid
    classes, dropout = model.classes, model.class_dropout
    if guidance != 1.0 and not (classes and dropout) and not autoguidance:
        raise ValueError(
            f"guidance={guidance} needs classes, and a net that also trained without them "
            f"(class_dropout above 0); there are classes={classes}, class_dropout={dropout}"
        )
    ordered = len(interval) == 2 and 0.0 <= interval[0] <= interval[1] <= 1.0
    if not 0.0 <= guidance < np.inf or not ordered:
        raise ValueError(f"guidance={guidance}, interval={interval}: needs 0 <= from <= to <= 1")
    if not 0 <= model.given_rows < model.shape[0]:
        raise ValueError(f"given_rows must be 0 to {model.shape[0] - 1}, got {model.given_rows}")
    if not 0.0 <= model.start < 1.0:
        raise ValueError(f"start={model.start} must be in [0, 1); at 1 an image stays as it is")
    if model.sampler.leaps and not model.mean_flow:
        raise ValueError("leap is for a mean flow; take another sampler, or train with mean_flow")
    rises = grid.ndim == 1 and len(grid) > 1 and np.all(np.diff(grid) > 0)
    if not rises or grid[0] < 0 or grid[-1] != 1:
        raise ValueError(f"grid must rise from 0 or more to 1, see `even_times`; got {grid}")
    times = model.start + (1.0 - model.start) * grid[:-1]  # of images that are guided
    if guidance != 1.0 and not np.any((times >= interval[0]) & (times <= interval[1])):
        raise ValueError(
            f"guidance={guidance} acts at times {interval[0]:g} to {interval[1]:g}, where no step "
            f"begins (of {len(times)}): take more steps, another interval, or guidance=1"
        )
