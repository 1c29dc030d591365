"""Draws samples of several runs in one frame, real images above them.

python -m tests.tools.families --out=docs/images/families.png --count=24 \\
    'VAE=runs/vae.npy' 'GAN=runs/gan.npy' ...

The files are those of `launch.sample --out=NAME.npy --seeds=0-23`; the real images are the first of
the digits' test split.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from launch.config import schema
from launch.data import batches
from launch.reporting import sheets

SIDE = 40  # pixels of an image


def strip(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] beside each other, each enlarged to `SIDE`: uint8 [SIDE, W', 3]."""
    gap = np.full((SIDE, 4, 3), 255, np.uint8)
    parts = [part for image in images for part in (sheets.as_rgb(enlarged(image)), gap)]
    return np.concatenate(parts[:-1], 1)


def enlarged(image: np.ndarray) -> np.ndarray:
    """uint8 of an image in [0, 1], by a whole factor."""
    return sheets.scaled(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), (SIDE, SIDE))


def main() -> None:
    """Draws the frame."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--count", type=int, default=24)
    arguments.add_argument("rows", nargs="+", help="TITLE=FILE.npy")
    options = arguments.parse_args()
    real = batches.open_data(schema.defaults().data, "test").arrays["image"]
    rows = [("real digits", real[: options.count] / 255.0)]
    for given in options.rows:
        title, _, path = given.rpartition("=")
        rows.append((title, np.load(path)[: options.count]))
    drawn = [
        sheets.Row((bold, plain), (strip(images),))
        for title, images in rows
        for bold, _, plain in [title.partition(": ")]
    ]
    heading = "The first images that each family draws, none chosen"
    Image.fromarray(sheets.draw(heading, ("",), drawn)).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
