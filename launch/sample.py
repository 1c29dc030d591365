"""python -m launch.sample --workdir=runs/vae --seeds=0-63 --out=grid.png

Images from a trained model. Image i depends on seed i only: not on the other
seeds, nor on their number.
"""

from pathlib import Path

import jax
import numpy as np

from launch import cli, devices, pictures
from launch import run as runs
from launch.errors import Mistake


def main(argv: list[str]) -> None:
    """Parses the command line and samples."""
    arguments = cli.parser("sample", "Draws images by seed; image i depends on seed i only.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--seeds", type=cli.seed_range, default="0-63", help="7, 0-63 or 0-3,8 (default: 0-63)")
    add("--out", type=Path, default=Path("samples.png"), help="a .png grid, or .npy float images")
    add("--class", type=int, dest="label", help="of a class-conditional model; default: by turns")
    add("--step", type=int, help="which checkpoint (default: the newest)")
    add("--split", default="", help="the split that tells the images' shape")
    add("--batch_size", type=int, default=64, help="images at a time (default: 64)")
    options, overrides = cli.parse(arguments, argv)
    if options.out.suffix not in (".png", ".npy"):
        raise Mistake(f"--out={options.out}: write a .png or a .npy file")
    if options.batch_size < 1:
        raise Mistake(f"--batch_size must be at least 1, got {options.batch_size}")
    devices.setup()
    opened = runs.trained(options.workdir, overrides, options.step, options.split)
    images = draw(opened, options.seeds, options.label, options.batch_size)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix == ".npy":
        np.save(options.out, images)
    else:
        pictures.save(options.out, images)
    cli.say(f"{len(images)} images of step {opened.step:,} in {options.out}")


def draw(opened: runs.Opened, seeds: list[int], label: int | None, batch_size: int) -> np.ndarray:
    """Images [N, H, W, C] by seed, float in [0, 1].

    Seeds are drawn in blocks aligned to multiples of the batch size, so that a seed
    is always the same row of the same compiled program: the image is the same to
    the bit whatever else is asked for, and to rounding for another batch size.

    Args:
      opened: a trained run.
      seeds: which images.
      label: the class of all of them; None for seed modulo the number of classes.
      batch_size: block size, rounded up to a multiple of the devices.

    Raises:
      Mistake: the task cannot sample, or has no such class.
    """
    if opened.run.program.sample is None:
        raise Mistake(f"{opened.config.task.name} has no sample()")
    classes = opened.config.task.get("classes", 0)
    if label is not None and not 0 <= label < classes:
        raise Mistake(f"--class={label}: the model has {classes or 'no'} classes")
    size = -(-batch_size // opened.run.mesh.size) * opened.run.mesh.size
    blocks = {}
    for block in sorted({seed // size for seed in seeds}):
        index = np.arange(block * size, (block + 1) * size, dtype=np.int32)
        labels = index % max(classes, 1) if label is None else np.full(size, label, np.int32)
        batch = opened.run.program.put_batch({"index": index, "label": labels})
        blocks[block] = jax.device_get(opened.run.program.sample(opened.state, batch))
    return np.stack([blocks[seed // size][seed % size] for seed in seeds])


if __name__ == "__main__":
    cli.run(main)
