"""python -m launch.benchmarks.outex --data=DIR

Scores the segmentation of texture mosaics without training, on Outex_US_00000: grey
images of five textures with one ground truth for all (Ojala et al. 2002). DIR holds
mosaics/000.png, 001.png, ..., and gt.png. Prints a line for each image to stderr, and one
line of JSON to stdout: the region criteria of the Prague benchmark (Haindl and Mikes
2008), averaged over the images.

The constants of jaxseg/unsupervised/texture_regions.py were tuned on mosaics 000 to 009;
--images=10-49 scores the others.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.metrics import region_scores
from jaxseg.unsupervised import texture_regions
from launch import cli
from launch.config.errors import UserError
from launch.data import images
from launch.data.bad_file import BadFile
from launch.engine import experiments, sharding
from launch.inference import flags

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Parses the command line, segments and scores.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments or in the data.
    """
    arguments = cli.parser("benchmarks.outex", "Unsupervised segmentation of texture mosaics.")
    add = arguments.add_argument
    add("--data", type=Path, required=True, help="folder with mosaics/*.png and gt.png")
    add("--textures", type=int, default=5, help="their number; 0 estimates it (default: 5)")
    add("--images", type=flags.seed_range, help="which mosaics: 7, 0-49 or 0-3,8 (default: all)")
    add(
        "--out", type=flags.out_folder, help="folder for the labels, as .png, a grey for each label"
    )
    options = cli.parse_alone(arguments, argv)
    if options.textures < 0:
        raise UserError(f"--textures must be 0 (estimated) or more, got {options.textures}")
    sharding.set_up_jax()
    print(json.dumps(experiments.for_json(measure(options))))


def measure(options: argparse.Namespace) -> dict:
    """Segments and scores.

    Args:
      options: the parsed arguments of the command.

    Returns:
      {metric: mean}, with the number of images and the seconds.

    Raises:
      UserError: an image is missing, cannot be read, or has another size than the truth.
    """
    start = time.perf_counter()
    truth = _read(options.data / "gt.png")
    paths = _mosaics(options.data / "mosaics", options.images)
    scores = []
    for path in paths:
        image = _read(path)
        if image.shape != truth.shape:
            raise UserError(f"{path} is {image.shape}, but the truth is {truth.shape} pixels")
        labels = texture_regions.segment(
            image[..., None].astype(np.float32) / 255, options.textures or None
        )
        scores.append(region_scores.region_scores(labels, truth) | {"textures": labels.max() + 1})
        line = "  ".join(f"{name} {value:.3f}" for name, value in scores[-1].items())
        logger.info(f"{path.stem}  {line}")
        if options.out:
            _write(options.out / path.name, labels)
    means = {name: round(float(np.mean([s[name] for s in scores])), 4) for name in scores[0]}
    return means | {"images": len(paths), "seconds": round(time.perf_counter() - start, 1)}


def _mosaics(folder, numbers):
    """The files of some mosaics; of all where `numbers` is None."""
    if numbers is None:
        paths = sorted(folder.glob("*.png"))
    else:
        paths = [folder / f"{number:03d}.png" for number in numbers]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise UserError(f"{folder} has no {', '.join(missing) or '*.png'}; is --data right?")
    return paths


def _read(path):
    try:
        return np.asarray(Image.fromarray(images.read_image(path)).convert("L"))
    except BadFile as bad:
        raise UserError(str(bad))


def _write(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    greys = labels * (255 // max(labels.max(), 1))
    Image.fromarray(greys.astype(np.uint8)).save(path)


if __name__ == "__main__":
    cli.run(main)
