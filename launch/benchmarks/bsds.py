"""python -m launch.benchmarks.bsds --data=DIR --method=classical

Scores boundary maps by the protocol of BSDS500 (99 thresholds, one-to-one matching to
every annotator): prints ODS, OIS and AP as one line of JSON to stdout. The maps come from
a method without training, from a trained run, or from a folder of files.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import io

from jaxseg.cues import boundary
from jaxseg.metrics import edge_scores
from jaxseg.unsupervised import regions
from launch import cli
from launch.config.errors import UserError
from launch.data import bsds
from launch.data.images import read_image, read_pixels
from launch.engine import sharding, trained_runs
from launch.inference import flags

METHODS = {
    "classical": boundary.strength,
    "canny": boundary.step_height,
    "ucm": lambda image: jnp.stack([boundary.strength(image, thinned) for thinned in (0, 1)], -1),
}
SUFFIXES = (".npy", ".mat", ".png")


def main(argv: list[str]) -> None:
    """Parses the command line, makes the maps and scores them.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments or in the data.
    """
    options, overrides = _parse(argv)
    sharding.set_up_jax()
    try:
        print(json.dumps(measure(options, overrides)))
    except ValueError as error:
        raise UserError(str(error))


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    arguments = cli.parser("benchmarks.bsds", "ODS, OIS and AP of boundary maps on BSDS500.")
    add = arguments.add_argument
    add("--data", type=Path, required=True, help="folder with images/ and groundTruth/")
    add("--split", default="val", help="train, val or test (default: val)")
    add("--method", choices=tuple(METHODS), help="without training (default: classical)")
    add("--workdir", type=cli.workdir, help="a trained run, instead of a method")
    flags.add_step(add)
    add("--maps", type=Path, help="folder of STEM.npy, .mat or .png, instead of a method")
    add("--thresholds", type=int, default=99, help="99 by the protocol; fewer are faster")
    add("--limit", type=int, help="score only this many images, spread evenly")
    add("--processes", type=int, default=os.cpu_count(), help="for scoring (default: all cores)")
    options, overrides = cli.parse(arguments, argv)
    given = [name for name in ("method", "workdir", "maps") if getattr(options, name)]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]}: give one of them")
    if (overrides or options.step is not None) and not options.workdir:
        raise UserError("--step and --config.KEY are for a trained run; give --workdir")
    limit = 1 if options.limit is None else options.limit
    if min(options.thresholds, options.processes, limit) < 1:
        raise UserError("--thresholds, --processes and --limit must be at least 1")
    return options, overrides


def measure(options: argparse.Namespace, overrides: list[str]) -> dict:
    """Makes the maps and scores them.

    Args:
      options: the parsed arguments of the command.
      overrides: `--config.KEY=VALUE` arguments, for a trained run.

    Returns:
      {metric: value}, with the thresholds, the number of images and the seconds.

    Raises:
      UserError: a file is missing, or the run cannot predict boundaries.
      ValueError: a file cannot be used.
    """
    start = time.perf_counter()
    files = bsds.pairs(options.data, options.split)
    files = files[:: max(1, len(files) // (options.limit or len(files)))][: options.limit]
    strength, name = source(options, overrides)
    # Spawned, because forked workers would inherit the threads of JAX.
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        jobs = [
            pool.submit(score, strength(image), truth, options.thresholds) for image, truth in files
        ]
        counts = []
        for number, job in enumerate(jobs, 1):
            counts.append(job.result())
            print(f"\r{number} of {len(files)} images", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    scores = {key: round(value, 4) for key, value in edge_scores.summarise(counts).items()}
    return scores | {
        "maps": name,
        "split": options.split,
        "thresholds": options.thresholds,
        "images": len(files),
        "seconds": round(time.perf_counter() - start, 1),
    }


def source(options: argparse.Namespace, overrides: list[str]) -> tuple[Callable, str]:
    """Chooses where the maps come from.

    Args:
      options: the parsed arguments of the command.
      overrides: `--config.KEY=VALUE` arguments, for a trained run.

    Returns:
      A function: path of an image -> boundary map [H, W]; and its name.

    Raises:
      UserError: the run cannot predict.
    """
    if options.maps:
        return lambda path: read_map(options.maps, path.stem), str(options.maps)
    if options.workdir:
        return trained(options, overrides), str(options.workdir)
    method = options.method or "classical"
    compiled = jax.jit(METHODS[method])

    def strength(path):
        image = np.float32(read_image(path)) / 255.0
        maps = np.asarray(as_landscape(compiled, image), np.float64)
        return regions.ucm(maps[..., 0], maps[..., 1]) if method == "ucm" else maps

    return strength, method


def trained(options: argparse.Namespace, overrides: list[str]) -> Callable:
    """Makes a function that predicts boundaries with a trained run.

    Args:
      options: the parsed arguments of the command.
      overrides: `--config.KEY=VALUE` arguments.

    Returns:
      A function: path of an image -> the ridges of the prediction, float [H, W].

    Raises:
      UserError: the run cannot predict.
    """
    restored = trained_runs.restore(options.workdir, overrides, options.step, None)
    task, state = restored.experiment.task, restored.state
    if task.predict is None:
        raise UserError(f"{restored.config.task.name} has no predict()")

    @jax.jit
    def one(image):
        batch = {"image": image[None], "index": np.zeros(1, np.int32), "mask": np.ones(1, bool)}
        prediction = task.predict(state, batch, jax.random.key(0))
        if "strength" not in prediction:
            raise UserError(
                f"{restored.config.task.name} predicts {', '.join(prediction)}, not `strength`"
            )
        return boundary.ridges(prediction["strength"][0])

    return lambda path: np.asarray(as_landscape(one, read_image(path)), np.float64)


def as_landscape(function: Callable, image: np.ndarray) -> np.ndarray:
    """Applies a function to a landscape image, so that it compiles for one shape only.

    Args:
      function: [H, W, C] -> [H, W, ...].
      image: [H, W, C]; a portrait is rotated by 90 degrees, and the result is rotated back.

    Returns:
      [H, W, ...].
    """
    if image.shape[0] <= image.shape[1]:
        return np.asarray(function(image))
    return np.rot90(np.asarray(function(np.ascontiguousarray(np.rot90(image)))), -1)


def read_map(folder: Path, stem: str) -> np.ndarray:
    """Reads a boundary map from a file.

    A .mat file holds one array, or `ucm2` on the doubled grid of gPb-owt-ucm. The grey
    levels of a .png file are divided by the largest possible.

    Args:
      folder: the folder.
      stem: the name of the image without suffix.

    Returns:
      [H, W].

    Raises:
      UserError: there is no such file.
      ValueError: the file does not hold a map.
    """
    paths = [path for path in (folder / f"{stem}{suffix}" for suffix in SUFFIXES) if path.is_file()]
    if not paths:
        raise UserError(f"{folder} has no {stem}.npy, .mat or .png")
    path = paths[0]
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".png":
        grey = read_pixels(path).values[..., 0]
        return grey / (65535.0 if grey.dtype.itemsize > 1 else 255.0)
    arrays = {key: value for key, value in io.loadmat(path).items() if not key.startswith("__")}
    if "ucm2" in arrays:
        return arrays["ucm2"][2::2, 2::2]
    if len(arrays) != 1:
        raise ValueError(f"{path} holds {len(arrays)} arrays; it must hold one map, or ucm2")
    return next(iter(arrays.values()))


def score(strength: np.ndarray, truth: Path, thresholds: int) -> edge_scores.Counts:
    """Compares a map with the boundaries of every annotator.

    Args:
      strength: the map, float [H, W].
      truth: the ground-truth file.
      thresholds: their number.

    Returns:
      Counts at each threshold.

    Raises:
      ValueError: the file cannot be used, or the sizes differ; names the file.
    """
    try:
        return edge_scores.score(strength, bsds.read_annotations(truth), thresholds)
    except ValueError as error:
        raise ValueError(f"{truth.stem}: {error}")


if __name__ == "__main__":
    cli.run(main)
