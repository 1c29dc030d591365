"""The task: one training problem as a NamedTuple of pure functions.

The idea is optax's `GradientTransformation`, applied to whole training problems. A task
holds its nets and its optimiser, and uses no file, device, loop or clock, so any loop can
train it. `jaxseg.task.Task` has the same fields, order and defaults; a test compares them.
"""

from collections.abc import Callable
from typing import NamedTuple


class Codec(NamedTuple):
    """The latents of a trained model, for models of them.

    Attributes:
      image_shape: (H, W, C) of an image.
      shape: (h, w, L) of its latents.
      encode: (images uint8 [B, H, W, C], rng, index int32 [B]) -> latents [B, h, w, L], each
        channel with a mean of about 0 and a deviation of about 1.
      decode: (latents [B, h, w, L]) -> images [B, H, W, C] in [0, 1].
      levels: how many each channel has, with FSQ; () without.
      codes: (images uint8) -> places among the levels int32 [B, h, w, L]; None without FSQ.
      image_of: (such places) -> images as of `decode`; None without FSQ.
    """

    image_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    encode: Callable
    decode: Callable
    levels: tuple[int, ...] = ()
    codes: Callable | None = None
    image_of: Callable | None = None


class Task(NamedTuple):
    """Pure functions that define one training problem.

    A `batch` is a dict of arrays with a leading batch axis: the keys of an example
    (`image` uint8 [B, H, W, C], `label` int32 [B], ...); `index` int32 [B], the place of
    the example in its split; and `mask` bool [B], False on rows that only pad the batch.
    An `rng` is a typed key. In training it depends on (seed, step); in evaluations and figures
    on the seed alone; images made by seed use one fixed key. Noise is drawn per example
    from (rng, index), so neither the batch size nor the number of devices changes it.

    `sums` is a dict of arrays that are added: over micro-batches, batches, devices and
    hosts. `finish` divides them, once.

    Attributes:
      init: (rng, batch) -> state, any pytree of arrays.
      train_step: (state, batch, rng) -> (state, sums).
      eval_step: (state, batch, rng) -> sums; fast, runs during training.
      finish: (sums as numpy float64) -> {name: float}, with a "loss".
      figures: (state, batch, rng) -> {name: images}, images [N, H, W, C], or
        [rows, columns, H, W, C] for a fixed layout; uint8, or float in [0, 1]. Images by
        the names "NAME/COLUMN" become one picture with titles; its columns truth and
        prediction are ids, K where void.

    Optional, None where a task has none:
      score_step: as eval_step, but thorough and slow, for the evaluation of a finished
        run; eval_step is used where it is None.
      sample: (state, batch, rng) -> images [B, H, W, C] in [0, 1]; the batch holds
        `index` and `label` only. Row i depends on (rng, index[i]) and, for a
        class-conditional model, label[i].
      complete: (state, batch, rng) -> images [B, H, W, C] made from given ones: a
        reconstruction, the rest of an image, an image for a label map. The batch holds
        the example's key `given`, `index` and `label`.
      given: the key of the batch that `complete` starts from.
      keeps_pixels: whether the batch of `complete` may also hold `keep`, bool [B, H, W, 1]: the
        pixels that the images have exactly as they are given; the others are made anew.
      interpolate: (state, batch, rng) -> strips [B, steps, H, W, C], from the sample
        of seed index[i] to the sample of seed end[i].
      log_prob: (state, batch, rng) -> [B], the exact log p(image) in nats, or log p of its codes.
      evidence: (state, batch, rng) -> [B], an estimate or a bound of log p(image | label) in
        nats, to compare labels by: it may lack terms that are the same for all labels, and its
        noise depends on (rng, index[i]) alone. The batch also holds `draw` int32 [B], how many
        estimates of the example came before. Not needed beside `log_prob`.
      conditionals: (state, x, batch) -> [B, H, W, C, K], the parameters of
        p(x_i | all x before i) of an autoregressive model, differentiable in the
        observed variable x [B, H, W, C]; i counts rows, then columns, then channels.
      density: (state, x, batch, rng, probes, last=0.01) -> log p(x) [B] in nats of x
        [B, H, W, C], with values from -1 to 1, and the noise [B, H, W, C] that it comes from;
        `probes` random vectors estimate the divergence, 0 is exact; `last` is the share of noise
        that x holds.
      from_noise: (state, noise, batch, last=0.01) -> x [B, H, W, C], the way back.
      predict: (state, batch, rng) -> {name: [B, H, W, ...]}, predictions for images;
        the batch needs no ground truth.
      codec: (state) -> a `Codec`, the latents that another model can generate.
      teacher: (state) -> a `flows.mean_velocity.Teacher`, a flow that another one learns from.
      recover: (state) -> the state that training continues from after a return to a good
        checkpoint; where it is None, the state of the checkpoint itself.
      accumulates: whether adding the gradients of micro-batches gives the step of the
        whole batch; where it is False, training refuses `train.accumulate` > 1.
    """

    init: Callable
    train_step: Callable
    eval_step: Callable
    finish: Callable
    figures: Callable
    score_step: Callable | None = None
    sample: Callable | None = None
    complete: Callable | None = None
    given: str = ""
    keeps_pixels: bool = False
    interpolate: Callable | None = None
    log_prob: Callable | None = None
    evidence: Callable | None = None
    conditionals: Callable | None = None
    density: Callable | None = None
    from_noise: Callable | None = None
    predict: Callable | None = None
    codec: Callable | None = None
    teacher: Callable | None = None
    recover: Callable | None = None
    accumulates: bool = True
