"""python -m launch.benchmarks.outex --data=DIR

How well texture mosaics are taken apart without training: Outex_US_00000, grey images
of five textures that share one truth (Ojala et al. 2002). DIR holds mosaics/000.png and
on, and gt.png. A line for each image on stderr, one line of JSON on stdout: means over
the images of the Prague benchmark's region criteria.

The constants of jaxseg/unsupervised/texture_regions.py were chosen with the truth of mosaics 000 to
009 in sight; --images=10-49 scores those that had no part in it.
"""

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
from launch.engine import experiments, sharding

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Parses the command line, segments and scores."""
    arguments = cli.parser("benchmarks.outex", "Unsupervised segmentation of texture mosaics.")
    add = arguments.add_argument
    add("--data", type=Path, required=True, help="folder with mosaics/*.png and gt.png")
    add("--textures", type=int, default=5, help="how many are given; 0: estimated (default: 5)")
    add("--images", type=cli.seed_range, help="which mosaics: 7, 0-49 or 0-3,8 (default: all)")
    add("--out", type=Path, help="folder for what was found, as .png, a grey for each label")
    options = cli.parse_alone(arguments, argv)
    if options.textures < 0:
        raise UserError(f"--textures must be 0 (estimated) or more, got {options.textures}")
    sharding.set_up_jax()
    print(json.dumps(experiments.for_json(measure(options))))


def measure(options) -> dict:
    """Segments and scores: {metric: mean}, with the number of images and the seconds.

    Raises:
      UserError: a picture is missing, is none, or is not of the truth's size.
    """
    begin = time.perf_counter()
    truth = _read(options.data / "gt.png")
    paths = _mosaics(options.data / "mosaics", options.images)
    scores = []
    for path in paths:
        image = _read(path)
        if image.shape != truth.shape:
            raise UserError(f"{path} is {image.shape}, but the truth is {truth.shape} pixels")
        found = texture_regions.segment(
            image[..., None].astype(np.float32) / 255, options.textures or None
        )
        scores.append(region_scores.region_scores(found, truth) | {"textures": found.max() + 1})
        line = "  ".join(f"{name} {value:.3f}" for name, value in scores[-1].items())
        logger.info(f"{path.stem}  {line}")
        if options.out:
            _write(options.out / path.name, found)
    means = {name: round(float(np.mean([s[name] for s in scores])), 4) for name in scores[0]}
    return means | {"images": len(paths), "seconds": round(time.perf_counter() - begin, 1)}


def _mosaics(folder, wanted):
    if wanted is None:
        paths = sorted(folder.glob("*.png"))
    else:
        paths = [folder / f"{number:03d}.png" for number in wanted]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise UserError(f"{folder} has no {', '.join(missing) or '*.png'}; is --data right?")
    return paths


def _read(path):
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}")


def _write(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    brightness = labels * (255 // max(labels.max(), 1))
    Image.fromarray(brightness.astype(np.uint8)).save(path)


if __name__ == "__main__":
    cli.run(main)
