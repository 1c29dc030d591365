"""python -m launch.benchmarks.bayes --data=DIR

What the MAP rule alone scores, without a network: colour likelihoods of each pixel
times a prior of each place, fitted to DIR/train and scored on DIR/test. One line of
JSON on stdout. The defaults are CamVid's: 11 classes, id 11 is void.
"""

import functools
import json
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from jaxseg import bayes, labels, likelihoods, metrics
from launch import cli, devices
from launch.errors import Mistake

LIKELIHOODS = ("histogram", "gaussian", "mixture", "none")
GRID = {"global": (1, 1), "spatial": (90, 120)}
# EM passes over the data often, and every 16th pixel tells it as much about colours.
STRIDE = {"mixture": 4}


def main(argv: list[str]) -> None:
    """Parses the command line, fits and scores."""
    arguments = cli.parser("benchmarks.bayes", "The score of the MAP rule without a network.")
    add = arguments.add_argument
    add("--data", type=Path, required=True, help="folder with SPLIT/images and SPLIT/masks")
    add("--likelihood", choices=LIKELIHOODS, default="histogram", help="of a pixel's colour")
    add("--prior", choices=tuple(GRID), default="spatial", help="P(C), or P(C) of each place")
    add("--bins", type=int, default=8, help="of the histogram along each channel (default: 8)")
    add("--components", type=int, default=4, help="of the mixture of each class (default: 4)")
    add("--train", default="train", help="the split to fit to")
    add("--test", default="test", help="the split to score")
    add("--classes", type=int, default=11, help="number of classes (default: 11)")
    add("--ignore", type=int, default=11, help="id of pixels that do not count (default: 11)")
    options, _ = cli.parse(arguments, argv)
    devices.setup()
    try:
        print(json.dumps(measure(options)))
    except ValueError as error:
        raise Mistake(f"{options.data}: {error}")


def measure(options) -> dict:
    """Fits and scores: {metric: value}, with the number of images and the seconds."""
    begin = time.perf_counter()
    train, test = (pairs(options.data / split) for split in (options.train, options.test))
    classes, ignore = options.classes, options.ignore
    likelihood = build(options)
    stride = STRIDE.get(options.likelihood, 1)
    params = likelihood and likelihoods.fit(
        likelihood,
        lambda: ((image[::stride, ::stride], mask[::stride, ::stride]) for image, mask in
                 map(read, train)),
    )  # fmt: skip
    grid = GRID[options.prior]
    count = jax.jit(lambda mask: bayes.prior_sums(mask, classes, grid, ignore))
    prior = sum(np.float64(count(read_mask(mask))) for _, mask in train)
    log_prior = functools.cache(lambda size: bayes.log_prior(prior, size))

    @jax.jit
    def confusion(image, mask, log_prior):
        evidence = likelihood.log_prob(params, image) if likelihood else 0.0
        decision = bayes.map_decision(evidence, log_prior)
        return metrics.confusion(decision, labels.truth(mask, classes, ignore))

    counts = sum(
        np.float64(confusion(image, mask, log_prior(mask.shape))) for image, mask in map(read, test)
    )
    return metrics.scores(counts) | {
        "train_images": len(train),
        "test_images": len(test),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def build(options) -> likelihoods.Likelihood | None:
    """The likelihood that the options name; None lets the prior decide alone."""
    classes, ignore = options.classes, options.ignore
    if options.likelihood == "histogram":
        return likelihoods.histogram(classes, options.bins, ignore=ignore)
    if options.likelihood == "mixture":
        return likelihoods.mixture(classes, options.components, ignore=ignore)
    return likelihoods.gaussian(classes, ignore=ignore) if options.likelihood != "none" else None


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """(image, mask) files of folder/images and folder/masks with the same stem.

    Raises:
      Mistake: a folder is missing or empty, or a file has no partner.
    """
    found = []
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise Mistake(f"{folder / name} is not a folder; --data needs SPLIT/images and /masks")
        found.append({path.stem: path for path in (folder / name).iterdir()})
    alone = found[0].keys() ^ found[1].keys()
    if alone or not found[0]:
        example = f"; {min(alone)!r} has no partner" if alone else ""
        raise Mistake(f"{folder}: images and masks must match by stem{example}")
    return [(found[0][stem], found[1][stem]) for stem in sorted(found[0])]


def read(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
    """Image float32 [H, W, 3] in [0, 1] and mask int32 [H, W] of a pair of files."""
    image, mask = np.asarray(Image.open(pair[0]).convert("RGB")), read_mask(pair[1])
    if image.shape[:2] != mask.shape:
        raise Mistake(f"{pair[1]} is {mask.shape} and its image {image.shape[:2]}")
    return np.float32(image) / 255.0, mask


def read_mask(path: Path) -> np.ndarray:
    """The ids of a mask file, int32 [H, W]."""
    return np.asarray(Image.open(path), np.int32)


if __name__ == "__main__":
    cli.run(main)
