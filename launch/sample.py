"""python -m launch.sample --workdir=runs/vae --seeds=0-63 --out=grid.png

Images from a trained model. Image i depends on seed i only: not on the other
seeds, nor on their number. With --condition, what the model makes of given images;
with --interpolate, the way from each seed to the next.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from launch import cli
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import sharding, trained_runs
from launch.inference import conditioning
from launch.reporting import image_files

logger = logging.getLogger("segen")

SEEDS, STRIPS = range(64), range(9)  # drawn, or led through, where none are asked for
MOST_COLUMNS = 40  # classes that a grid has a column for


def main(argv: list[str]) -> None:
    """Parses the command line and samples."""
    arguments = cli.parser("sample", "Draws images by seed; image i depends on seed i only.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--seeds", type=cli.seed_range, help="7, 0-63 or 0-3,8 (default: 0-63)")
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
        help="images, or masks, to start from: a file, a folder, or a "
        "pattern in quotes; one for each seed, or one for all",
    )
    add("--interpolate", action="store_true", help="strips from each seed to the next")
    add("--step", type=int, help="which checkpoint (default: the newest)")
    add(
        "--split",
        default="",
        help="whose rows are completed where a model only completes and "
        "there is no --condition (default: config.eval.split)",
    )
    add("--batch_size", type=int, default=64, help="images at a time (default: 64)")
    options, overrides = cli.parse(arguments, argv)
    _check(options)
    sharding.set_up_jax()
    restored = trained_runs.restore(options.workdir, overrides, options.step, None)
    if options.interpolate:
        images = _interpolate(restored, options)
    elif options.condition or restored.experiment.compiled.sample is None:
        images = _complete(restored, options)
    else:
        images = _draw(restored, options)
    logger.info(
        f"{len(images)} {'strips' if options.interpolate else 'images'} of step "
        f"{restored.step:,} in {options.out}"
    )


def draw(
    restored: trained_runs.Restored, seeds: list[int], label: int | None, batch_size: int
) -> np.ndarray:
    """Images [N, H, W, C] by seed, float in [0, 1].

    Args:
      restored: a trained run.
      seeds: which images.
      label: the class of all of them; None for seed modulo the number of classes.
      batch_size: see `by_seed`.

    Raises:
      UserError: the task cannot sample, or has no such class.
    """
    if restored.experiment.compiled.sample is None:
        raise UserError(f"{restored.config.task.name} has no sample()")
    columns = {"label": _labels(restored, seeds, label)}
    return by_seed(restored, restored.experiment.compiled.sample, seeds, columns, batch_size)


def by_seed(
    restored: trained_runs.Restored,
    function: Callable,
    seeds: list[int],
    columns: dict[str, np.ndarray],
    batch_size: int,
) -> np.ndarray:
    """What a compiled function makes of rows that belong to seeds: [N, ...].

    Rows are computed in blocks aligned to multiples of the batch size, so that a seed
    is always the same row of the same compiled program: its image is the same to the
    bit whatever else is asked for, and to rounding for another batch size.

    Args:
      restored: a trained run.
      function: `compiled.sample`, `complete` or `interpolate`.
      seeds: which images; one that comes twice is computed twice.
      columns: what the batch holds beside `index`, a row for each seed.
      batch_size: block size, rounded up to a multiple of the devices.
    """
    size = -(-batch_size // restored.experiment.mesh.size) * restored.experiment.mesh.size
    seeds = np.asarray(seeds)
    again = np.array([np.sum(seeds[:place] == seed) for place, seed in enumerate(seeds)])
    found = [None] * len(seeds)
    for block, turn in sorted(set(zip(seeds // size, again, strict=True))):
        mine = np.flatnonzero((seeds // size == block) & (again == turn))
        rows = seeds[mine] % size
        batch = {"index": np.arange(block * size, (block + 1) * size, dtype=np.int32)}
        for key, column in columns.items():
            batch[key] = np.zeros((size, *column.shape[1:]), column.dtype)
            batch[key][rows] = column[mine]
        images = jax.device_get(
            function(restored.state, restored.experiment.compiled.put_batch(batch))
        )
        for place, row in zip(mine, rows, strict=True):
            found[place] = images[row]
    return np.stack(found)


def _check(options: argparse.Namespace) -> None:
    """Refuses what cannot be meant, before anything is opened."""
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
    if options.interpolate and len(options.seeds or STRIPS) < 2:
        raise UserError("--interpolate needs at least two --seeds")


def _classes(restored):
    """Number of classes that images can be asked of; those of masks are another matter."""
    return restored.config.task.get("classes", 0) if "label" in restored.experiment.example else 0


def _labels(restored, seeds, label):
    """The class of each seed: the one asked for, or by turns."""
    classes = _classes(restored)
    if label is not None and not 0 <= label < classes:
        raise UserError(f"--class={label}: the model has {_told(classes)}")
    turns = np.asarray(seeds) % max(classes, 1)
    return (turns if label is None else np.full(len(seeds), label)).astype(np.int32)


def _told(classes):
    return f"{classes} classes, 0 to {classes - 1}" if classes else "no classes"


def _draw(restored, options):
    seeds = list(options.seeds or SEEDS)
    images = draw(restored, seeds, options.label, options.batch_size)
    by_class = 1 < _classes(restored) <= MOST_COLUMNS and options.label is None
    labels = _labels(restored, seeds, None)
    _save(
        options.out, images, in_columns(images, labels, _classes(restored)) if by_class else images
    )
    return images


def in_columns(images: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Images [N, H, W, C] as [rows, classes, H, W, C]: a column a class, blank where short."""
    counts = np.bincount(labels, minlength=classes)
    table = np.zeros((counts.max(), classes, *images.shape[1:]), images.dtype)
    for label in range(classes):
        table[: counts[label], label] = images[labels == label]
    return table


def _interpolate(restored, options):
    program, seeds = restored.experiment.compiled, np.array(options.seeds or STRIPS)
    if program.interpolate is None:
        raise UserError(f"{restored.config.task.name} has no interpolate()")
    columns = {
        "end": seeds[1:].astype(np.int32),
        "label": _labels(restored, seeds[:-1], options.label),
    }
    strips = by_seed(restored, program.interpolate, seeds[:-1], columns, options.batch_size)
    if options.out.suffix in image_files.ANIMATIONS:
        # There and back, and a rest at each seed: the last image of a strip is the first of
        # the next, but for the class where classes come by turns.
        frames = strips.reshape(-1, *strips.shape[2:])
        image_files.animate(options.out, [*frames, *frames[-2:0:-1]])
    else:
        _save(options.out, strips, strips)
    return strips


def _complete(restored, options):
    task, program = restored.experiment.task, restored.experiment.compiled
    name, key = restored.config.task.name, getattr(restored.experiment.task, "given", "")
    if program.complete is None or not task.given:
        wanted = "complete()" if options.condition else "sample()"
        raise UserError(f"{name} has no {wanted}")
    seeds = options.seeds
    if options.condition:
        given = conditioning.read(options.condition, key, restored)
        seeds = list(seeds or range(len(given)))
        if len(given) not in (1, len(seeds)):
            raise UserError(
                f"--condition={options.condition}: {len(given)} images for {len(seeds)} seeds; "
                f"give one for each (--seeds=0-{len(given) - 1}), or one for all"
            )
        given = np.repeat(given, len(seeds) // len(given), axis=0)
        labels = _labels(restored, seeds, options.label)
    else:
        seeds, given, labels = _rows(restored, options, key)
    columns = {key: given, "label": labels}
    images = by_seed(restored, program.complete, seeds, columns, options.batch_size)
    _save(options.out, images, beside(conditioning.shown(key, given), images))
    return images


def _rows(restored, options, key):
    """Seeds, and those rows of the evaluation split: what is given, and labels."""
    split = options.split or restored.config.eval.split
    data = batches.open_data(restored.config.data, split, "config.eval")
    seeds = list(options.seeds or range(min(len(SEEDS), data.split.size)))
    if max(seeds) >= data.split.size:
        raise UserError(
            f"--seeds: {data.split.title} has {data.split.size:,} rows to complete, 0 to "
            f"{data.split.size - 1:,}; seed {max(seeds)} is beyond"
        )
    rows = [data.split[seed] for seed in seeds]
    labels = _labels(restored, seeds, options.label)
    if options.label is None and _classes(restored):
        labels = np.array([row["label"] for row in rows], np.int32)
    return seeds, np.stack([row[key] for row in rows]), labels


def beside(given: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Pairs of what was given and what was made, [rows, 2 pairs, H, W, C] in [0, 1].

    Where the two differ in size, the images alone [N, H, W, C].
    """
    if given.shape[1:3] != images.shape[1:3]:
        return images
    if given.dtype == np.uint8:
        given = given / np.float32(255.0)
    channels = max(given.shape[-1], images.shape[-1])
    pairs = np.stack([np.broadcast_to(x, (*x.shape[:3], channels)) for x in (given, images)], 1)
    across = int(np.ceil(np.sqrt(len(pairs) / 2)))
    blank = np.zeros((-len(pairs) % across, *pairs.shape[1:]), pairs.dtype)
    return np.concatenate([pairs, blank]).reshape(-1, 2 * across, *pairs.shape[2:])


def _save(path, images, shown):
    """Writes floats, or a picture of what is to be shown of them."""
    if path.suffix != ".npy":
        image_files.save(path, shown)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, images)


if __name__ == "__main__":
    cli.run(main)
