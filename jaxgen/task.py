"""What a trainable thing is: a NamedTuple of pure functions.

The idea is optax's (`GradientTransformation`), carried from optimisers to
whole training problems. A task is closed over its nets and its optimiser and
knows nothing of files, devices, loops or clocks, so any loop can drive it.
"""

from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """Pure functions that define one training problem.

    A `batch` is a dict of arrays with a leading batch axis: the example's own
    keys (`image` uint8 [B, H, W, C], `label` int32 [B], ...), `index`
    int32 [B], the example's place in its split, and `mask` bool [B], False on
    rows that only pad the batch. An `rng` is a typed key that depends on
    (seed, step) alone; noise is drawn per example from (rng, index), so
    neither the batch size nor the device count changes it.

    `sums` is a dict of arrays that are *added*: over micro-batches, batches,
    devices and hosts. Ratios are taken once, in `finish`.

    Attributes:
      init: (rng, batch) -> state, any pytree of arrays.
      train_step: (state, batch, rng) -> (state, sums).
      eval_step: (state, batch, rng) -> sums; cheap, run during training.
      finish: (sums as numpy float64) -> {name: float}, with a "loss".
      figures: (state, batch, rng) -> {name: images}, images [N, H, W, C], or
        [rows, columns, H, W, C] for a fixed layout; uint8, or float in [0, 1].

    Optional, None where a task has none:
      sample: (state, batch, rng) -> images [B, H, W, C] in [0, 1]; the batch holds
        `index` and `label` alone. Row i depends on (rng, index[i]) and, for a
        class-conditional model, label[i].
      score_step: like eval_step, but thorough: what an evaluation of a finished
        run computes; eval_step serves where it is None.
      complete: (state, batch, rng) -> images [B, H, W, C] made from given ones: a
        reconstruction, the rest of an image, an image for a mask. The batch holds
        the example's key `given`, `index` and `label`.
      given: the key of the batch that `complete` starts from.
      interpolate: (state, batch, rng) -> strips [B, steps, H, W, C], from the sample
        of seed index[i] to that of seed end[i].
      log_prob: (state, batch, rng) -> [B], the exact log p(image) in nats.
      conditionals: (state, x, batch) -> [B, H, W, C, K], the parameters of
        p(x_i | all x before i) of an autoregressive model, differentiable in the
        observed variable x [B, H, W, C]; rows, then columns, then channels.
      recover: (state) -> state that training goes on with when it is taken back to
        a good checkpoint; the checkpoint's own state where it is None.
      accumulates: whether micro-batches whose gradients are added take the step of
        the whole batch; training refuses `train.accumulate` > 1 where not.
    """

    init: Callable
    train_step: Callable
    eval_step: Callable
    finish: Callable
    figures: Callable
    sample: Callable | None = None
    score_step: Callable | None = None
    complete: Callable | None = None
    given: str = ""
    interpolate: Callable | None = None
    log_prob: Callable | None = None
    conditionals: Callable | None = None
    recover: Callable | None = None
    accumulates: bool = True
