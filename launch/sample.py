"""python -m launch.sample --workdir=runs/vae --seeds=0-63 --out=grid.png

Writes images of a trained model. Image i depends on seed i only: not on the other seeds,
nor on their number. With --condition the images are made from given ones, and with --mask
from a part of these; with --interpolate they lead from each seed to the next.
"""

import argparse
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from launch import cli, distributed
from launch.config.errors import UserError
from launch.data import batches, cache
from launch.engine import trained_runs
from launch.inference import averages, conditioning, flags, sampling
from launch.reporting import image_files
from launch.storage import atomic

logger = logging.getLogger("segen")

SEEDS, STRIP_SEEDS = range(64), range(9)  # the defaults, of images and with --interpolate
MOST_COLUMNS = 40  # classes up to which a grid has a column for each
MOST_PIXELS = 2**26  # of all images of a picture, before they are enlarged


def main(argv: list[str]) -> None:
    """Writes images of a trained run.

    Args:
      argv: arguments of the command line, without the command's own name.

    Raises:
      UserError: options that cannot work together or with this run.
    """
    options, overrides = cli.parse(_arguments(), argv)
    _check_options(options)
    with cli.together(options) as group:
        restored = trained_runs.restore(
            *(options.workdir, overrides, options.step, None, flags.sampling(options)),
            group=group,
        )
        flags.check_interval(options.interval, restored.config.task)
        restored = averages.restored(restored, options.workdir, options.ema)
        sample(averages.guided(restored, options.weaker), options)


def sample(restored: trained_runs.Restored, options: argparse.Namespace) -> None:
    """Writes images of a run; of several processes, process 0 writes.

    Raises:
      UserError: options that cannot work with this run.
    """
    completes_no_rows = options.interpolate or options.condition or _makes_samples(restored)
    if options.split and completes_no_rows:
        raise UserError(
            "--split has no effect here: no row of a split is completed; it is for a model that "
            "only completes, without --condition or --interpolate"
        )
    if options.interpolate:
        images = _interpolate(restored, options)
    elif options.condition or not _makes_samples(restored):
        images = _complete(restored, options)
    else:
        images = _sample(restored, options)
    kind = "strips" if options.interpolate else "images"
    logger.info(f"{len(images)} {kind} of step {restored.step:,} in {options.out}")


def _arguments() -> argparse.ArgumentParser:
    arguments = cli.parser("sample", "Writes images by seed; image i depends on seed i only.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--seeds", type=flags.seed_range, help="7, 0-63 or 0-3,8 (default: 0-63)")
    add(
        "--out",
        type=Path,
        default=Path("samples.png"),
        help="a .png grid, or .npy float images; a .gif or .webp with --interpolate",
    )
    add("--class", type=int, dest="label", help="of a class-conditional model; default: by turns")
    add(
        "--condition",
        default="",
        help="images, or masks, to start from: a file, a folder, or a pattern in quotes; one for "
        "each seed, or one for all",
    )
    add(
        "--start",
        type=float,
        help="of a flow, with --condition: how much of the images is kept, "
        "0 to 1; they are remade from their noisy selves at this time",
    )
    add(
        "--mask",
        default="",
        help="of a flow, with --condition: what is white in this picture is made anew, what is "
        "black stays; a file for all images, or a folder with one for each, named as the image is",
    )
    add("--interpolate", action="store_true", help="strips from each seed to the next")
    flags.add_step(add)
    flags.add_sampling(add)
    add(
        "--split",
        default="",
        help="the split whose rows are completed, for a model that only completes and without "
        "--condition (default: config.eval.split)",
    )
    add("--batch_size", type=int, default=64, help="images at a time (default: 64)")
    distributed.add_arguments(arguments)
    return arguments


def _check_options(options: argparse.Namespace) -> None:
    """Refuses options that contradict each other, before anything is opened."""
    animated = options.out.suffix in image_files.ANIMATIONS
    if options.out.suffix not in (".png", ".npy") and not (animated and options.interpolate):
        raise UserError(
            f"--out={options.out}: write a .png or a .npy file, or with --interpolate "
            "a .gif or a .webp file"
        )
    if options.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, got {options.batch_size}")
    if options.interpolate and options.condition:
        raise UserError("--interpolate leads from seed to seed; it takes no --condition")
    if options.start is not None and not 0.0 < options.start < 1.0:
        raise UserError(f"--start={options.start:g} must be above 0 and below 1")
    if options.start is not None and not options.condition:
        raise UserError("--start has no effect here: it is for the images of --condition")
    if options.mask and not options.condition:
        raise UserError("--mask has no effect here: it is for the images of --condition")
    if options.mask and options.start is not None:
        raise UserError("--mask keeps pixels as given, and --start keeps none; give one of them")
    if options.interpolate and len(options.seeds or STRIP_SEEDS) < 2:
        raise UserError("--interpolate needs at least two --seeds")


def _makes_samples(restored: trained_runs.Restored) -> bool:
    return restored.experiment.compiled.sample is not None


def _sample(restored: trained_runs.Restored, options: argparse.Namespace) -> np.ndarray:
    """Writes samples; in a grid a column for each class, unless one class is asked for."""
    seeds = list(options.seeds or SEEDS)
    arguments = restored, seeds, options.label, options.batch_size
    with _allocator(restored, options.out, len(seeds)) as allocate:
        images = sampling.sample_images(*arguments, allocate)
    if options.out.suffix == ".npy" or not restored.group.is_process_zero:
        return images
    classes, grid = sampling.class_count(restored), images
    if 1 < classes <= MOST_COLUMNS and options.label is None:
        labels = sampling.labels_by_seed(seeds, None, classes)
        grid = sampling.column_per_class(images, labels, classes)
    image_files.save(options.out, grid)
    return images


def _interpolate(restored: trained_runs.Restored, options: argparse.Namespace) -> np.ndarray:
    """Writes strips of images that lead from each seed to the next."""
    compiled, seeds = restored.experiment.compiled, np.array(options.seeds or STRIP_SEEDS)
    if compiled.interpolate is None:
        raise UserError(f"{restored.config.task.name} has no interpolate()")
    classes = sampling.class_count(restored)
    columns = {
        "end": seeds[1:].astype(np.int32),
        "label": sampling.labels_by_seed(seeds[:-1], options.label, classes),
    }
    arguments = restored, compiled.interpolate, seeds[:-1], columns, options.batch_size
    with _allocator(restored, options.out, len(seeds)) as allocate:
        strips = sampling.run_by_seed(*arguments, allocate)
    if not restored.group.is_process_zero:
        return strips
    if options.out.suffix in image_files.ANIMATIONS:
        # Forwards and backwards. At a seed two frames meet, the last of a strip and the first
        # of the next: the same image, unless classes come by turns.
        frames = strips.reshape(-1, *strips.shape[2:])
        image_files.animate(options.out, [*frames, *frames[-2:0:-1]])
    elif options.out.suffix != ".npy":
        image_files.save(options.out, strips)
    return strips


def _complete(restored: trained_runs.Restored, options: argparse.Namespace) -> np.ndarray:
    """Writes images made from those of --condition, or from rows of the evaluation split."""
    compiled = restored.experiment.compiled
    if options.mask and not restored.experiment.task.keeps_pixels:
        raise UserError(
            f"--mask: {restored.config.task.name} as this run has it cannot keep pixels as given; "
            "a flow of pixels can (configs/flow.py, without task.codec and task.sampling.start)"
        )
    if compiled.complete is None or not restored.experiment.task.given:
        lacking = "complete()" if options.condition else "sample()"
        task = restored.config.task
        of_latents = bool(options.condition and task.get("codec") and "sampling" in task)
        instead = "; a flow of latents remakes whole images, with --start" if of_latents else ""
        raise UserError(f"{task.name} has no {lacking}{instead}")
    key = restored.experiment.task.given
    read = _read_condition if options.condition else _read_rows
    seeds, given, labels = read(restored, options, key)
    columns, showing = {key: given, "label": labels}, conditioning.shown(key, given)
    if options.mask:
        keep = conditioning.read_keep(options.mask, options.condition, key, given.shape[1:])
        columns["keep"] = np.broadcast_to(keep, (len(seeds), *keep.shape[1:]))
        showing = conditioning.with_holes(showing, columns["keep"])
    arguments = restored, compiled.complete, seeds, columns, options.batch_size
    with _allocator(restored, options.out, len(seeds)) as allocate:
        images = sampling.run_by_seed(*arguments, allocate)
    if options.out.suffix != ".npy" and restored.group.is_process_zero:
        pairs = sampling.side_by_side(showing, images)
        image_files.save(options.out, pairs)
    return images


def _read_condition(restored, options, key) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Seeds, the images of --condition for them [N, H, W, C], and labels [N]."""
    given = conditioning.read(options.condition, key, restored)
    restored.group.check_same("--condition", {"number of images": len(given)})
    seeds = list(options.seeds or range(len(given)))
    if len(given) not in (1, len(seeds)):
        raise UserError(
            f"--condition={options.condition}: {len(given)} images for {len(seeds)} seeds; "
            f"give one for each (--seeds=0-{len(given) - 1}), or one for all"
        )
    given = np.broadcast_to(given, (len(seeds), *given.shape[1:]))
    classes = sampling.class_count(restored)
    labels = sampling.labels_by_seed(seeds, options.label, classes)
    if classes and options.label is None:
        logger.info(
            f"made as classes {', '.join(map(str, labels[:10]))}{', ...' * (len(labels) > 10)}, by "
            "their seeds; --class=N makes all as one class"
        )
    return seeds, given, labels


def _read_rows(restored, options, key) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Seeds, what the rows of these numbers give [N, H, W, C], and their labels [N]."""
    split = options.split or restored.config.eval.split
    data = trained_runs.open_together(restored.group, restored.config.data, split, "config.eval")
    seeds = list(options.seeds or range(min(len(SEEDS), data.split.size)))
    if max(seeds) >= data.split.size:
        raise UserError(
            f"--seeds: {data.split.title} has {data.split.size:,} rows to complete, 0 to "
            f"{data.split.size - 1:,}; seed {max(seeds)} is beyond"
        )
    classes = sampling.class_count(restored)
    labels = sampling.labels_by_seed(seeds, options.label, classes)
    if options.label is None and classes:
        labels = _column(data, "label", seeds).astype(np.int32)
    return seeds, _column(data, key, seeds), labels


def _column(data: batches.Data, key: str, rows: list[int]) -> np.ndarray:
    """One array of some examples of a split, [N, ...]."""
    if data.arrays is not None:
        return data.arrays[key][rows]
    return np.stack([data.split[row][key] for row in rows])


@contextmanager
def _allocator(restored: trained_runs.Restored, path: Path, count: int) -> Iterator[Callable]:
    """Yields (shape, dtype) -> array: in a .npy file, which appears when the block ends, or
    in memory, for a picture. Processes that write nothing get an array without memory.

    Raises:
      UserError: the picture would be too large.
    """
    if path.suffix == ".npy" and not restored.group.is_process_zero:
        yield lambda shape, dtype: as_strided(np.zeros((), dtype), shape, (0,) * len(shape))
        return
    if path.suffix == ".npy":
        with atomic.replacing(path) as working:
            yield partial(cache.create, working)
        return
    shapes = [leaf.shape for leaf in restored.experiment.example.values()]
    pixels = count * max(math.prod(shape[:2]) for shape in shapes if len(shape) == 3)
    if pixels > MOST_PIXELS:
        raise UserError(
            f"--out={path}: {count:,} images have {pixels:,} pixels, and a picture takes "
            f"{MOST_PIXELS:,}; give fewer --seeds, or write a .npy file"
        )
    yield np.empty


if __name__ == "__main__":
    cli.run(main)
