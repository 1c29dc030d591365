"""python -m launch.benchmarks.bayes --data=DIR

Scores the MAP rule without a network: a likelihood of each pixel's colour times a prior
of each place, fitted to one split of a folder and scored on another. Prints one line of
JSON to stdout. The defaults are those of CamVid: 11 classes, and id 11 is void.
"""

import argparse
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
from launch.data import folders
from launch.data.bad_file import BadFile
from launch.data.folders.examples import read_pair
from launch.engine import experiments, sharding

LIKELIHOODS = ("histogram", "gaussian", "mixture", "none")
GRIDS = {"global": (1, 1), "spatial": (90, 120)}  # cells of the prior: (rows, columns)
# A mixture reads the data many times. So it gets every 4th row and column, kept in memory.
MIXTURE_STRIDE = 4


def main(argv: list[str]) -> None:
    """Parses the command line, fits and scores.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments or in the data.
    """
    arguments = cli.parser("benchmarks.bayes", "The score of the MAP rule without a network.")
    add = arguments.add_argument
    add("--data", type=Path, required=True, help="folder with SPLIT/images and SPLIT/masks")
    add("--likelihood", choices=LIKELIHOODS, default="histogram", help="P(colour | class)")
    add(
        "--prior",
        choices=tuple(GRIDS),
        default="spatial",
        help="P(class), the same everywhere or for each place",
    )
    add("--bins", type=int, default=8, help="histogram: bins of each channel (default: 8)")
    add("--components", type=int, default=4, help="mixture: components of each class (default: 4)")
    add("--train", default="train", help="the split to fit to (default: train)")
    add("--test", default="test", help="the split to score (default: test)")
    add("--classes", type=int, default=11, help="number of classes (default: 11)")
    add("--ignore", type=int, default=11, help="id of void (default: 11)")
    options = cli.parse_alone(arguments, argv)
    sharding.set_up_jax()
    try:
        print(json.dumps(experiments.for_json(measure(options))))
    except BadFile as bad:
        raise UserError(str(bad))
    except ValueError as error:
        raise UserError(f"{options.data}: {error}")


def measure(options: argparse.Namespace) -> dict:
    """Fits to one split and scores on another.

    Args:
      options: the parsed arguments of the command.

    Returns:
      {metric: value}, with the numbers of images and the seconds.

    Raises:
      BadFile: a file cannot be used.
      ValueError: an option out of range.
    """
    start, number = time.perf_counter(), options.classes
    train, test = (
        folders.folder(split, str(options.data), number, options.ignore, size=1, val=0)
        for split in (options.train, options.test)
    )
    likelihood, params = build(options), None
    if likelihood:
        step = MIXTURE_STRIDE if likelihood.passes > 1 else 1
        pixels = ((x[::step, ::step].copy(), y[::step, ::step].copy()) for x, y in examples(train))
        pixels = list(pixels) if likelihood.passes > 1 else pixels
        params = likelihoods.fit(likelihood, lambda: pixels)
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
        "seconds": round(time.perf_counter() - start, 1),
    }


def build(options: argparse.Namespace) -> likelihoods.Likelihood | None:
    """Builds the likelihood that the options name.

    Args:
      options: the parsed arguments of the command.

    Returns:
      The likelihood; None where the prior decides alone.

    Raises:
      ValueError: an option out of range.
    """
    if options.likelihood == "histogram":
        return likelihoods.histogram(options.classes, options.bins)
    if options.likelihood == "mixture":
        return likelihoods.mixture(options.classes, options.components)
    return likelihoods.gaussian(options.classes) if options.likelihood == "gaussian" else None


def examples(split: folders.Folder) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads the examples of a split at their own sizes.

    Args:
      split: the examples.

    Yields:
      (image, ids): float32 [H, W, 3] in [0, 1]; int32 [H, W], 255 where ignored.

    Raises:
      BadFile: a file cannot be used.
    """
    for pair in split.pairs:
        arrays = read_pair(pair, split.rule, split.reading)
        yield np.float32(arrays["image"]) / 255.0, np.int32(arrays["segmentation"])


if __name__ == "__main__":
    cli.run(main)
