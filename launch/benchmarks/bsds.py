"""python -m launch.benchmarks.bsds --data=DIR --method=classical

Scores boundary maps by the BSDS500 protocol (99 thresholds, one-to-one matching to every
annotator): ODS, OIS and AP as one line of JSON on stdout. The maps come from a method
that needs no training, from a trained run, or from a folder of files.
"""

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
from PIL import Image
from scipy import io

from jaxseg.cues import boundary
from jaxseg.metrics import edge_scores
from jaxseg.unsupervised import regions
from launch import cli
from launch.config.errors import UserError
from launch.data import bsds
from launch.data.images import read_image
from launch.engine import sharding, trained_runs

METHODS = {
    "classical": boundary.strength,
    "canny": boundary.step_height,
    "ucm": lambda image: jnp.stack([boundary.strength(image, thinned) for thinned in (0, 1)], -1),
}
SUFFIXES = (".npy", ".mat", ".png")


def main(argv: list[str]) -> None:
    """Parses the command line, makes the maps and scores them."""
    arguments = cli.parser("benchmarks.bsds", "ODS, OIS and AP of boundary maps on BSDS500.")
    add = arguments.add_argument
    add("--data", type=Path, required=True, help="folder with images/ and groundTruth/")
    add("--split", default="val", help="train, val or test (default: val)")
    add("--method", choices=tuple(METHODS), help="without training (default: classical)")
    add("--workdir", type=cli.workdir, help="a trained run, in place of a method")
    add("--step", type=int, help="its checkpoint (default: the newest)")
    add("--maps", type=Path, help="folder of STEM.npy, .mat or .png, in place of a method")
    add("--thresholds", type=int, default=99, help="99 by the protocol; fewer are quicker")
    add("--limit", type=int, help="score so many images only, spread evenly")
    add("--processes", type=int, default=os.cpu_count(), help="that score (default: all cores)")
    options, overrides = cli.parse(arguments, argv)
    given = [name for name in ("method", "workdir", "maps") if getattr(options, name)]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]}: give one of them")
    if (
        min(options.thresholds, options.processes, 1 if options.limit is None else options.limit)
        < 1
    ):
        raise UserError("--thresholds, --processes and --limit must be at least 1")
    sharding.set_up_jax()
    try:
        print(json.dumps(measure(options, overrides)))
    except ValueError as error:
        raise UserError(str(error))


def measure(options, overrides: list[str]) -> dict:
    """Makes and scores the maps: {metric: value}, with thresholds, images and seconds."""
    begin = time.perf_counter()
    files = bsds.pairs(options.data, options.split)
    files = files[:: max(1, len(files) // (options.limit or len(files)))][: options.limit]
    strength, name = source(options, overrides)
    # The workers must not inherit the threads of JAX.
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        waiting = [
            pool.submit(score, strength(image), truth, options.thresholds) for image, truth in files
        ]
        counts = []
        for number, job in enumerate(waiting, 1):
            counts.append(job.result())
            print(f"\r{number} of {len(files)} images", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    found = {key: round(value, 4) for key, value in edge_scores.summarise(counts).items()}
    return found | {
        "maps": name,
        "split": options.split,
        "thresholds": options.thresholds,
        "images": len(files),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def source(options, overrides: list[str]) -> tuple[Callable, str]:
    """The function from an image's path to its boundary map [H, W]; and its name."""
    if options.maps:
        return lambda path: read_map(options.maps, path.stem), str(options.maps)
    if options.workdir:
        return trained(options, overrides), str(options.workdir)
    method = options.method or "classical"
    compiled = jax.jit(METHODS[method])

    def strength(path):
        found = np.asarray(sideways(compiled, np.float32(read_image(path)) / 255.0), np.float64)
        return regions.ucm(found[..., 0], found[..., 1]) if method == "ucm" else found

    return strength, method


def trained(options, overrides: list[str]) -> Callable:
    """The ridges of a trained run's prediction, as a function of an image's path."""
    restored = trained_runs.restore(options.workdir, overrides, options.step, None)
    task, state = restored.experiment.task, restored.state
    if getattr(task, "predict", None) is None:
        raise UserError(f"{restored.config.task.name} has no predict()")

    @jax.jit
    def one(image):
        batch = {"image": image[None], "index": np.zeros(1, np.int32), "mask": np.ones(1, bool)}
        found = task.predict(state, batch, jax.random.key(0))
        if "strength" not in found:
            raise UserError(
                f"{restored.config.task.name} predicts {', '.join(found)}, not `strength`"
            )
        return boundary.ridges(found["strength"][0])

    return lambda path: np.asarray(sideways(one, read_image(path)), np.float64)


def sideways(function: Callable, image: np.ndarray) -> np.ndarray:
    """function(image), a portrait turned by a quarter: so there is one shape to compile."""
    if image.shape[0] <= image.shape[1]:
        return np.asarray(function(image))
    return np.rot90(np.asarray(function(np.ascontiguousarray(np.rot90(image)))), -1)


def read_map(folder: Path, stem: str) -> np.ndarray:
    """A boundary map from a file: [H, W].

    A .mat holds one array, or a `ucm2` on the double grid of gPb-owt-ucm; the grey
    levels of a .png are taken as shares of the largest possible.

    Raises:
      UserError: no such file.
      ValueError: its contents are no map.
    """
    found = [path for path in (folder / f"{stem}{suffix}" for suffix in SUFFIXES) if path.is_file()]
    if not found:
        raise UserError(f"{folder} has no {stem}.npy, .mat or .png")
    path = found[0]
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".png":
        grey = np.asarray(Image.open(path))
        return grey / (65535.0 if grey.dtype.itemsize > 1 else 255.0)
    arrays = {key: value for key, value in io.loadmat(path).items() if not key.startswith("__")}
    if "ucm2" in arrays:
        return arrays["ucm2"][2::2, 2::2]
    if len(arrays) != 1:
        raise ValueError(f"{path} holds {len(arrays)} arrays; it must hold one map, or ucm2")
    return next(iter(arrays.values()))


def score(strength: np.ndarray, truth: Path, thresholds: int) -> edge_scores.Counts:
    """Compares one map with the annotators in a ground-truth file.

    Raises:
      ValueError: names the file.
    """
    try:
        return edge_scores.score(strength, bsds.read_annotations(truth), thresholds)
    except ValueError as error:
        raise ValueError(f"{truth.stem}: {error}")


if __name__ == "__main__":
    cli.run(main)
