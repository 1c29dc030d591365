"""Task: one training problem as a NamedTuple of pure functions.

The engine drives every task by these functions alone. A segmenter provides the five
required ones, `score_step` (adds scores of contours, too slow for every evaluation
during training) and `predict`; the fields that make images are None.
"""

from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """Pure functions that define one training problem.

    A `batch` is a dict of arrays with a leading batch axis: `image` uint8
    [B, H, W, C]; `segmentation` integer ids [B, H, W, 1], or `edges` uint8
    [B, H, W, 1], or `label` integers [B]; `depth` [B, H, W, 1] where a task uses it;
    `index` int32 [B], the example's number in its split; and `mask` bool [B], False
    for rows that only fill up the batch. An `rng` is a typed key. In training it depends
    on (seed, step); in evaluations and figures on the seed alone. Noise is drawn per
    example from (rng, index), so neither the batch size nor the number of devices
    changes it.

    `sums` is a dict of arrays that are added over micro-batches, batches, devices and
    hosts. Ratios are taken once, in `finish`.

    Attributes:
      init: (rng, batch) -> state, any pytree of arrays.
      train_step: (state, batch, rng) -> (state, sums).
      eval_step: (state, batch, rng) -> sums; cheap, runs during training. The sum
        `example_scores`, {name: [N, 2]}, may hold at the row of each example its score,
        larger is better, and 1; figures then show the worst, typical and best examples.
      finish: (sums as numpy float64) -> {name: float}, with a "loss".
      figures: (state, batch, rng) -> {name: images}, images [N, H, W, C], or
        [rows, columns, H, W, C] for a fixed layout; uint8, or float in [0, 1]. Images by
        the names "NAME/COLUMN" become one picture with titles. Three sets of columns are
        drawn as labels over the column "image", with their errors: truth and prediction,
        ids [N, H, W, 1], K where void; "true classes" and "predicted classes" that may
        overlap, [N, K, H, W, 1] of 0, 1, and 2 where void; "true objects" and "predicted
        objects", numbers [N, H, W, 1], 0 for background, 65535 where void.

    Optional; None where a task does not have the function:
      score_step: like eval_step but thorough, for the evaluation of a finished run;
        where it is None, eval_step serves.
      sample: (state, batch, rng) -> images [B, H, W, C] in [0, 1], new ones. No task of
        this package samples.
      complete: (state, batch, rng) -> images [B, H, W, C] made from the batch's array
        `given`. No task of this package completes images.
      given: name of the array that `complete` starts from.
      keeps_pixels: whether `complete` can keep chosen pixels of it.
      interpolate: (state, batch, rng) -> [B, steps, H, W, C], images between two
        samples. No task of this package interpolates.
      log_prob, evidence: (state, batch, rng) -> [B], log p(image) in nats, exact or estimated.
        No task of this package has a density of images.
      conditionals: (state, x, batch) -> [B, H, W, C, K], parameters of p(x_i | x_<i).
        No task of this package is autoregressive.
      density: (state, x, batch, rng, probes, last) -> log p(x) [B], and noise [B, H, W, C].
      from_noise: (state, noise, batch, last) -> x [B, H, W, C]. No task here is a flow.
      predict: (state, batch, rng) -> {name: [B, H, W, ...]}; needs no labels. A
        segmenter gives `probability` [B, H, W, K], an edge detector `strength`
        [B, H, W].
      codec: (state) -> latents for another model; no task here has any.
      teacher: (state) -> a trained flow for another one; no task here is one.
      recover: (state) -> the state with which training goes on after it returns to a
        good checkpoint; where it is None, the checkpoint's own state.
      accumulates: whether adding the gradients of micro-batches gives the step of the
        whole batch; if not, training refuses `train.accumulate` > 1.
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
