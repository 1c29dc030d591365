"""Reads every image of a folder once and keeps what decides how the folder is read."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from launch.data import images
from launch.data.bad_file import BadFile
from launch.data.folders.pairs import Pair
from launch.data.folders.survey import Contents, read_all


def survey(found: Sequence[Pair], cache: Path, stamp: str) -> dict[Pair, Contents]:
    """Reads every image once, on all cores.

    The result is kept in a file, and read from there as long as no image changes.

    Args:
      found: the images.
      cache: the folder for the file.
      stamp: a hash of the images' names, sizes and times.

    Returns:
      The size, dtype, channels, ranges and digest of each image; `alpha` is "varies" where some
      pixels are not opaque.

    Raises:
      BadFile: the first image that cannot be read; it names others.
    """
    contents = read_all(found, _read, cache / f"survey-{stamp}.json", "images")
    bad = [error for one in contents for error in one.errors]
    if bad:
        listed = ", ".join(Path(error.path).name for error in bad[1:5])
        more = f"; {len(bad) - 1:,} more cannot be used: {listed}" if len(bad) > 1 else ""
        more += ", ..." * (len(bad) > 5)
        raise BadFile(bad[0].path, bad[0].problem + more, bad[0].fix, bad[0].place)
    return dict(zip(found, contents, strict=True))


def opaque(values: np.ndarray) -> float:
    """The transparency value of an opaque pixel: the largest of the dtype, or 1 of floats."""
    return 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)


def _read(pair):
    """The contents of an image, with an error if it cannot be read."""
    contents = Contents()
    try:
        pixels = images.read_pixels(pair.image)
    except BadFile as bad:
        contents.errors.append(bad)
        return contents
    values, alpha, contents.orientation = pixels.values, pixels.alpha, pixels.orientation
    contents.size, contents.dtype = values.shape[:2], str(values.dtype)
    contents.channels = values.shape[-1] - alpha
    if alpha:
        whole = (values[..., -1] == opaque(values)).all()
        contents.alpha = "opaque" if whole else "varies"
    contents.ranges = images.ranges_of(pixels)[: contents.channels]
    contents.digest = hashlib.blake2b(values.data, digest_size=16).hexdigest()
    return contents
