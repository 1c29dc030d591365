"""python -m launch.segment --cue=boundary|texture|depth --images='photos/*.jpg' --out=DIR

Segments images by one cue, without training. For --cue=depth the images are depth maps.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from jaxseg.cues import boundary, depth
from jaxseg.unsupervised import layers, regions, texture_regions
from launch import cli
from launch.config.errors import UserError
from launch.data import image_formats, images
from launch.engine import sharding
from launch.inference import flags, input_files
from launch.reporting import image_files, label_files
from launch.storage import atomic

logger = logging.getLogger("segen")

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
UNKNOWN = 255  # the label of pixels whose depth is unknown


def main(argv: list[str]) -> None:
    """Parses the command line and segments.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments, or images that could not be segmented.
    """
    options = _parse(argv)
    suffixes = DEPTH_SUFFIXES if options.cue == "depth" else image_formats.SUFFIXES
    paths = input_files.find(options.images, suffixes)
    sharding.set_up_jax()
    cues = {
        "boundary": lambda path: by_boundary(path, options.out, options.threshold),
        "texture": lambda path: by_texture(path, options.out, options.textures or None),
        "depth": lambda path: by_depth(path, options.out, options.layers or None),
    }
    failed = segment(cues[options.cue], paths, options.out)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(paths)} images could not be segmented:\n  "
            + "\n  ".join(failed)
        )


def segment(cue: Callable[[Path], np.ndarray], paths: list[Path], out: Path) -> list[str]:
    """Applies a cue to every image and writes report.json.

    Args:
      cue: path -> labels [H, W]; writes its own images.
      paths: the images.
      out: the folder.

    Returns:
      A line for each image that failed; the others are written.
    """
    entries, failed, start = [], [], time.perf_counter()
    for number, path in enumerate(paths, 1):
        begin = time.perf_counter()
        try:
            labels = cue(path)
        except ValueError as error:
            failed.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            logger.info(f"{number}/{len(paths)} {failed[-1]}")
            continue
        now = time.perf_counter()
        count, seconds = len(np.unique(labels)), round(now - begin, 3)
        entries.append({"image": str(path), "regions": count, "seconds": seconds})
        left = (now - start) / number * (len(paths) - number)
        logger.info(
            f"{number}/{len(paths)} {path.name}: {count} regions, {seconds:.2f} s, ETA {left:.0f} s"
        )
    with atomic.replacing(out / "report.json") as working:
        working.write_text(json.dumps({"images": entries, "failed": failed}, indent=2) + "\n")
    logger.info(f"{len(entries)} images in {out}")
    return failed


def by_boundary(path: Path, out: Path, threshold: float) -> np.ndarray:
    """Segments an image into regions between contours.

    Writes strength/ (thinned), canny/, contours/ (ultrametric), regions/ and overlays/.

    Args:
      path: the image.
      out: the folder.
      threshold: the strength of the weakest contour that separates regions, in [0, 1].

    Returns:
      Labels [H, W].
    """
    image = images.read_image(path, own_range=True)
    values = image.astype(np.float32) / 255
    soft = np.asarray(jax.jit(boundary.strength, static_argnums=1)(values, False))
    thin = np.asarray(jax.jit(boundary.strength)(values))
    labels = regions.regions_at(soft, threshold, thin)
    maps = {
        "strength": thin,
        "canny": jax.jit(boundary.canny)(values),
        "contours": regions.ucm(soft, thin),
    }
    for name, array in maps.items():
        label_files.save_grey(out / name / f"{path.stem}.png", np.asarray(array, np.float32))
    _save_regions(out, path.stem, image, labels)
    return labels


def by_texture(path: Path, out: Path, textures: int | None) -> np.ndarray:
    """Segments an image into textures; writes regions/ and overlays/.

    Args:
      path: the image.
      out: the folder.
      textures: their number; None to estimate it.

    Returns:
      Labels [H, W].
    """
    image = images.read_image(path, own_range=True)
    labels = texture_regions.segment(image.astype(np.float32) / 255, textures)
    _save_regions(out, path.stem, image, labels, first=1)
    return labels


def by_depth(path: Path, out: Path, count: int | None) -> np.ndarray:
    """Segments a depth map into layers of similar distance.

    Writes filled/ (depth without holes), normals/, edges/, regions/ (the layers),
    surfaces/ (regions between depth edges, 0 where unknown) and overlays/.

    Args:
      path: the depth map.
      out: the folder.
      count: the number of layers; None to estimate it.

    Returns:
      Labels [H, W], 255 where depth is unknown.
    """
    metres = images.read_depth(path)
    labels = layers.layers(metres, count)
    filled = np.asarray(jax.jit(depth.fill)(metres))
    known = metres[metres > 0]
    span = (known.min(), known.max()) if known.size else (0.0, 1.0)
    grey = (filled - span[0]) / max(float(span[1] - span[0]), 1e-6)
    facing = jax.jit(lambda d: depth.normals(d, focal=float(max(metres.shape))))(filled)
    name = f"{path.stem}.png"
    label_files.save_grey(out / "filled" / name, grey)
    label_files.save_grey(out / "edges" / name, np.asarray(jax.jit(depth.edges)(metres)))
    image_files.save(out / "normals" / name, normals_image(np.asarray(facing))[None])
    label_files.save_labels(out / "surfaces" / name, layers.surfaces(metres))
    image = np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)[..., None].repeat(3, -1)
    _save_regions(out, path.stem, image, labels, first=1)
    return labels


def normals_image(normals: np.ndarray) -> np.ndarray:
    """Maps unit normals to colours: each component from [-1, 1] to [0, 1].

    Args:
      normals: float [H, W, 3].

    Returns:
      float [H, W, 3].
    """
    return normals / 2 + 0.5


def _parse(argv: list[str]) -> argparse.Namespace:
    arguments = cli.parser("segment", "Segments images by one cue, without training.")
    add = arguments.add_argument
    add("--cue", required=True, choices=("boundary", "texture", "depth"), help="the cue")
    add(
        "--images",
        required=True,
        help="a file, a folder, or a pattern in quotes; depth maps "
        "(16-bit PNG in millimetres, float TIFF or .npy in metres) for --cue=depth",
    )
    add("--out", type=flags.out_folder, required=True, help="the folder for the results")
    add("--threshold", type=float, default=0.37, help="boundary: weakest contour (default: 0.37)")
    add("--textures", type=int, default=0, help="texture: their number (default: estimated)")
    add("--layers", type=int, default=0, help="depth: their number (default: estimated)")
    options = cli.parse_alone(arguments, argv)
    if not 0.0 <= options.threshold <= 1.0:
        raise UserError(f"--threshold must be in [0, 1], got {options.threshold}")
    for name in ("textures", "layers"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name} must not be negative, got {getattr(options, name)}")
    return options


def _save_regions(out, stem, image, labels, first=0):
    """Writes regions/ and overlays/; label 0 is drawn in colour number `first` (0: none)."""
    label_files.save_labels(out / "regions" / f"{stem}.png", labels)
    colours = np.where(labels == UNKNOWN, 0, labels + first) if first else labels
    label_files.save_overlay(out / "overlays" / f"{stem}.png", image, colours)


if __name__ == "__main__":
    cli.run(main)
