"""python -m launch.benchmarks.bayes --data=DIR

What the MAP rule alone scores, without a network: a likelihood of each pixel's colour
times a prior of each place, fitted to one split of a folder and scored on another.
One line of JSON on stdout. The defaults are CamVid's: 11 classes, and id 11 is void.
"""

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from jaxseg import labels
from jaxseg.bayes import decision, likelihoods
from jaxseg.metrics import pixel_scores
from launch import cli
from launch.config.errors import UserError
from launch.data import classes, folders
from launch.data.images import BadFile
from launch.engine import experiments, sharding

LIKELIHOODS = ("histogram", "gaussian", "mixture", "none")
GRIDS = {"global": (1, 1), "spatial": (90, 120)}
# A mixture passes over the data often: over every 16th pixel, kept in memory.
MIXTURE_STRIDE = 4


def main(argv: list[str]) -> None:
    """Parses the command line, fits and scores."""
    arguments = cli.parser("benchmarks.bayes", "The score of the MAP rule without a network.")
    add = arguments.add_argument
    add("--data", type=Path, required=True, help="folder with SPLIT/images and SPLIT/masks")
    add("--likelihood", choices=LIKELIHOODS, default="histogram", help="of a pixel's colour")
    add("--prior", choices=tuple(GRIDS), default="spatial", help="P(C), or P(C) of each place")
    add("--bins", type=int, default=8, help="of the histogram along each channel (default: 8)")
    add("--components", type=int, default=4, help="of the mixture of each class (default: 4)")
    add("--train", default="train", help="the split to fit to (default: train)")
    add("--test", default="test", help="the split to score (default: test)")
    add("--classes", type=int, default=11, help="number of classes (default: 11)")
    add("--ignore", type=int, default=11, help="id of pixels that do not count (default: 11)")
    options = cli.parse_alone(arguments, argv)
    sharding.set_up_jax()
    try:
        print(json.dumps(experiments.for_json(measure(options))))
    except BadFile as fault:
        raise UserError(str(fault))
    except ValueError as error:
        raise UserError(f"{options.data}: {error}")


def measure(options) -> dict:
    """Fits and scores: {metric: value}, with the numbers of images and the seconds."""
    begin, number = time.perf_counter(), options.classes
    train, test = (
        folders.folder(split, str(options.data), number, options.ignore, size=1)
        for split in (options.train, options.test)
    )
    likelihood, params = build(options), None
    if likelihood:
        step = MIXTURE_STRIDE if likelihood.passes > 1 else 1
        pixels = ((x[::step, ::step].copy(), y[::step, ::step].copy()) for x, y in examples(train))
        again = list(pixels) if likelihood.passes > 1 else pixels
        params = likelihoods.fit(likelihood, lambda: again)
    count = jax.jit(lambda ids: decision.prior_sums(ids, number, GRIDS[options.prior]))
    prior = sum(np.float64(count(ids)) for _, ids in examples(train))
    log_prior = functools.cache(lambda size: decision.log_prior(prior, size))

    @jax.jit
    def confusion(image, ids, log_prior):
        evidence = likelihood.log_prob(params, image) if likelihood else 0.0
        decided = decision.map_decision(evidence, log_prior)
        return pixel_scores.confusion(decided, labels.truth(ids, number))

    counts = sum(np.float64(confusion(x, y, log_prior(y.shape))) for x, y in examples(test))
    return pixel_scores.scores(counts, test.classes) | {
        "train_images": len(train),
        "test_images": len(test),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def build(options) -> likelihoods.Likelihood | None:
    """The likelihood that the options name; None lets the prior decide alone."""
    if options.likelihood == "histogram":
        return likelihoods.histogram(options.classes, options.bins)
    if options.likelihood == "mixture":
        return likelihoods.mixture(options.classes, options.components)
    return likelihoods.gaussian(options.classes) if options.likelihood == "gaussian" else None


def examples(split: folders.Folder) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image float32 [H, W, 3] in [0, 1] and ids int32 [H, W], 255 ignored, of each pair."""
    for pair in split.pairs:
        arrays = folders.read_pair(pair, split.colours)
        ids = classes.checked(
            pair.mask, arrays["segmentation"], len(split.classes), split.ignore, split.binary
        )
        yield np.float32(arrays["image"]) / 255.0, np.int32(ids)


if __name__ == "__main__":
    cli.run(main)
