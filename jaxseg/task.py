"""What a trainable segmenter is: a NamedTuple of pure functions.

The same contract as every task of the engine, so that one loop drives them all;
`predict` is what a segmenter has beside it.
"""

from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """Pure functions that define one training problem.

    A `batch` is a dict of arrays with a leading batch axis: `image` uint8
    [B, H, W, C], `segmentation` ids [B, H, W, 1], perhaps `depth`; `index`
    int32 [B], an example's place in its split; and `mask` bool [B], False on
    rows that only fill up the batch. Noise is drawn per example from
    (rng, index). `sums` is a dict of arrays that are added over micro-batches,
    batches, devices and hosts; ratios are taken once, in `finish`.

    Attributes:
      init: (rng, batch) -> state, any pytree of arrays.
      train_step: (state, batch, rng) -> (state, sums).
      eval_step: (state, batch, rng) -> sums; cheap, run during training.
      finish: (sums as numpy float64) -> {name: float}, with a "loss".
      figures: (state, batch, rng) -> {name: images}, images [N, H, W, C] or
        [rows, columns, H, W, C], uint8 or float in [0, 1].
      predict: (state, batch, rng) -> {name: [B, H, W, ...]}; needs no truth.
      score_step: like eval_step, but thorough: what an evaluation of a finished
        run computes. Optional; eval_step serves where it is None.
      sample: None; segmenters draw nothing.
    """

    init: Callable
    train_step: Callable
    eval_step: Callable
    finish: Callable
    figures: Callable
    predict: Callable | None = None
    score_step: Callable | None = None
    sample: Callable | None = None
