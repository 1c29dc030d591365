"""Reads every file of a folder once and keeps what decides how the folder is read."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from launch.data import images, mask_files
from launch.data.bad_file import BadFile
from launch.data.folders import masks
from launch.data.folders.pairs import Pair
from launch.storage import atomic

logger = logging.getLogger("segen")

SAID = 500  # items from which on reading them is announced
MANY = 2000  # ids in a mask from which on its objects are not looked at


@dataclasses.dataclass
class Contents:
    """The content of one example's files.

    Attributes:
      size: (height, width) of the image as stored, in pixels; None if it cannot be read.
      dtype: of its values, such as "uint8".
      channels: of the image, transparency left out; 1 for grey.
      alpha: "" without transparency, "opaque" where it is the same everywhere, else "varies".
      ranges: what most values lie between, (low, high) of each channel and of alpha.
      orientation: of the image by EXIF, 1 to 8.
      digest: a hash of the image's values.
      counts: {id: pixels} of the mask; empty if it cannot be read.
      marked: {class: pixels} of masks that mark one class each, where a pixel counts for every
        class that marks it; empty for other masks.
      mask_size: (height, width) of the mask as stored.
      mask_orientation: of the mask by EXIF.
      objects: whether each id of the mask but 0 is a connected region; None for fewer than
        three ids.
      alpha_labels: whether the mask holds its labels in the transparency.
      depth: smallest and largest depth in metres, and share of unknown pixels; None
        without depth.
      errors: what is wrong with the files.
    """

    size: tuple[int, int] | None = None
    dtype: str = ""
    channels: int = 0
    alpha: str = ""
    ranges: tuple[tuple[float, float], ...] = ()
    orientation: int = 1
    digest: str = ""
    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    marked: dict[int, int] = dataclasses.field(default_factory=dict)
    mask_size: tuple[int, int] | None = None
    mask_orientation: int = 1
    objects: bool | None = None
    alpha_labels: bool = False
    depth: tuple[float, float, float] | None = None
    errors: list[BadFile] = dataclasses.field(default_factory=list)

    def pixels(self, target: str) -> dict[int, int]:
        """{id: pixels} of the mask; with the target "labels" a pixel counts for all its classes.

        Args:
          target: what is learnt, see `Reading`.
        """
        if target != "labels" or not self.marked:
            return self.counts
        return {0: self.counts.get(0, 0)} | self.marked


def survey(pairs: Sequence[Pair], how: masks.MaskRule, cache: Path, stamp: str) -> list[Contents]:
    """Reads the files of all pairs, on all cores.

    The result is kept in a file, and read from there as long as no file changes.

    Args:
      pairs: the pairs.
      how: how masks are read.
      cache: the folder for the file.
      stamp: a hash of the files' names, sizes and times.

    Returns:
      The contents of each pair.
    """
    fields = [field.name for field in dataclasses.fields(Contents)]
    key = hashlib.sha256(repr((stamp, how, len(pairs), fields)).encode()).hexdigest()[:16]
    return read_all(pairs, lambda pair: read(pair, how), cache / f"survey-{key}.json", "pairs")


def read_all(
    items: Sequence[Any], read_one: Callable[[Any], Contents], path: Path, noun: str
) -> list[Contents]:
    """Reads items on all cores, or takes what an earlier run kept of them.

    Args:
      items: what is read.
      read_one: item -> contents.
      path: the file that keeps the contents, unless some have errors.
      noun: what many items are called, for the announcement.

    Returns:
      The contents of each item.
    """
    if (kept := _kept(path, len(items))) is not None:
        return kept
    if len(items) >= SAID:
        logger.info(f"reading {len(items):,} {noun} once, to see what they hold")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without Python's lock
        contents = list(pool.map(read_one, items))
    if not any(one.errors for one in contents):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(path) as working:
                working.write_text(json.dumps([dataclasses.asdict(one) for one in contents]))
        except OSError as error:
            logger.info(f"cannot keep what was read in {path.parent}: {error.strerror}")
    return contents


def read(pair: Pair, how: masks.MaskRule) -> Contents:
    """Reads the files of one example, each on its own.

    Args:
      pair: the files.
      how: how masks are read.

    Returns:
      The contents, with an error for each file that cannot be used.
    """
    contents = Contents()
    for part in (_read_image, _read_mask, _read_depth):
        try:
            part(pair, contents, how)
        except BadFile as bad:
            contents.errors.append(bad)
    return contents


def _read_image(pair, contents, how):
    del how
    pixels = images.read_pixels(pair.image, stored=True)
    values, alpha, contents.orientation = pixels.values, pixels.alpha, pixels.orientation
    contents.size, contents.dtype = values.shape[:2], str(values.dtype)
    contents.channels = values.shape[-1] - alpha
    contents.ranges = images.ranges_of(pixels)
    if alpha:
        transparency = values[..., -1]
        whole = transparency.min() == transparency.max()
        contents.alpha = "opaque" if whole else "varies"
    digest = hashlib.blake2b(values.data, digest_size=16)
    digest.update(f"{values.dtype}{values.shape}{contents.orientation}".encode())
    contents.digest = digest.hexdigest()


def _read_mask(pair, contents, how):
    if pair.outlines is None and not pair.ids:
        contents.alpha_labels = how.values == "" and mask_files.has_alpha_labels(pair.mask)
    ids, contents.mask_orientation = masks.read(pair, how, contents.size)
    contents.mask_size = ids.shape
    if ids.dtype == np.uint8:  # counting is many times as quick as sorting
        counts = images.count_bytes(ids)
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(ids, return_counts=True)
    contents.counts = dict(zip(values.tolist(), counts.tolist(), strict=True))
    if len(set(pair.ids or ())) > 1:
        contents.marked = masks.marked(pair, how)
    if 2 < len(values[values > 0]) <= MANY and values[0] >= 0:
        contents.objects = _are_objects(ids)


def _are_objects(ids):
    """Whether nearly every id but 0 is one connected region."""
    dense = np.searchsorted(np.unique(ids), ids)
    boxes = [(number, box) for number, box in enumerate(ndimage.find_objects(dense), 1) if box]
    eight = np.ones((3, 3))
    connected = [ndimage.label(dense[box] == number, eight)[1] == 1 for number, box in boxes]
    return sum(connected) >= 0.9 * len(connected)


def _read_depth(pair, contents, how):
    if pair.depth is None:
        return
    array = images.read_depth(pair.depth, stored=True)
    known = array[array > 0] if np.any(array) else np.zeros(1)
    unknown = float(np.mean(array == 0))
    contents.depth = float(known.min()), float(known.max()), unknown
    if contents.size and array.shape[:2] != contents.size:
        contents.errors.append(
            images.wrong_size(pair.depth, array.shape, pair.image, contents.size)
        )


def _kept(path, number):
    """The contents that an earlier run kept; None if there are none, or not these."""
    try:
        kept = [Contents(**one) for one in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return None
    for one in kept:
        one.counts = {int(value): many for value, many in one.counts.items()}
        one.marked = {int(value): many for value, many in one.marked.items()}
        one.size, one.mask_size = tuple(one.size), one.mask_size and tuple(one.mask_size)
        one.ranges = tuple(map(tuple, one.ranges))
        one.depth = tuple(one.depth) if one.depth else None
    return kept if len(kept) == number else None
