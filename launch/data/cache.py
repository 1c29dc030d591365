"""Splits that fit in memory, decoded once into memory-mapped arrays.

Decoding an example costs 0.2 to 0.6 ms, gathering it from an array a thousandth
of that. A cache is one folder, `segen_cache/SPLIT-FINGERPRINT` beside the data set
(or in the user's cache folder where that one is read-only): one .npy file per
key and `manifest.json` with a checksum of each. It is written under another name and
renamed when it is complete, so any number of processes may build it at once.
"""

import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from launch import storage
from launch.config.errors import UserError
from launch.data.sources import Split, canonical
from launch.storage import checksums

logger = logging.getLogger("segen")


def arrays_of(split: Split, budget_mib: int) -> dict | None:
    """All examples of a split as arrays with a leading example axis.

    Args:
      split: what `open_split` returned.
      budget_mib: decoded size above which the split is not held in memory.

    Returns:
      {key: array}, memory-mapped where the data set has a fingerprint; None for a
      split above the budget.

    Raises:
      UserError: examples that differ in shape, or that cannot be read.
    """
    if isinstance(split.records, dict):
        return split.records
    first = split[0]
    needed = sum(array.nbytes for array in first.values()) * split.size / 2**20
    if needed > budget_mib:
        return None
    if not split.fingerprint or split.folder is None:
        return _decode(split, _allocate(first, split.size))
    name = f"{_slug(split.title)}-{split.fingerprint}"
    places = (split.folder / "segen_cache", storage.cache_dir() / "data" / split.folder.name)
    for folder in (place / name for place in places):
        if folder.is_dir():
            damage = checksums.find_damage(folder)
            if damage is None:
                try:
                    return _map(folder)
                except (OSError, ValueError) as error:  # as the manifest says, but no arrays
                    damage = str(error)
            logger.warning(f"cache {folder} is damaged ({damage}); decoding the split again")
            shutil.rmtree(folder, ignore_errors=True)
    for place in places:
        logger.info(f"decoding {split.title} once ({split.size:,} examples) into {place}")
        try:
            place.mkdir(parents=True, exist_ok=True)
            return _map(_build(split, first, place / name))
        except OSError as error:  # read-only or full: the next place, at last memory
            logger.info(f"cannot write there: {error.strerror}")
    return _decode(split, _allocate(first, split.size))


def _build(split, first, folder) -> Path:
    """Writes the cache under a temporary name, then renames it into place."""
    working = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        arrays = {}
        for key, value in first.items():
            shape = (split.size, *value.shape)
            arrays[key] = create(working / f"{key}.npy", shape, value.dtype)
        _decode(split, arrays)
        for array in arrays.values():
            array.flush()
        checksums.write(working)
        try:
            os.rename(working, folder)
        except OSError:  # if another process was quicker, use its cache
            if not folder.is_dir() or checksums.find_damage(folder):
                raise
        return folder
    finally:
        shutil.rmtree(working, ignore_errors=True)


def create(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """Makes an .npy file of zeros, and maps it into memory to be filled.

    The disk space is reserved now. Otherwise the system kills the process (SIGBUS) when it
    writes into the map of a file that the disk has no room for.

    Args:
      path: the file.
      shape: of the array.
      dtype: of the array.

    Returns:
      The array.

    Raises:
      OSError: the disk has no room for the array, or cannot be written.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def _allocate(first, size):
    return {key: np.empty((size, *value.shape), value.dtype) for key, value in first.items()}


def _decode(split, arrays):
    for index in range(split.size):
        fill(arrays, index, split[index], split.title, index)
    return arrays


def fill(arrays: dict, row: int, example: dict, title: str, index: int) -> None:
    """Writes one example into a row of arrays.

    Args:
      arrays: {key: [N, ...]}.
      row: the row to write.
      example: {key: [...]}.
      title: the name of the split, for messages.
      index: the example's place in its split, for messages.

    Raises:
      UserError: its keys, shape or dtype are not those of the arrays.
    """
    example = canonical(example)
    for key, array in arrays.items():
        value = example.get(key)
        if value is None or value.shape != array.shape[1:] or value.dtype != array.dtype:
            found = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            raise UserError(
                f"{title}: example {index} has {key} {found}, the first example "
                f"{array.dtype}{list(array.shape[1:])}. Examples of a batch must agree: set "
                "config.data.preprocess to a function that resizes or crops them."
            )
        array[row] = value


def read_rows(split: Split, index: np.ndarray, batch: dict | None = None) -> dict[str, np.ndarray]:
    """Reads examples of a split one by one.

    Args:
      split: the split.
      index: int [B], their places in the split.
      batch: {key: [B, ...]} to write them to; None to make one.

    Returns:
      {key: [B, ...]}.

    Raises:
      UserError: an example cannot be read, or differs in shape from the first.
    """
    first = split[index[0]]
    batch = batch or _allocate(first, len(index))
    for row, number in enumerate(index):
        example = first if row == 0 else split[number]
        fill(batch, row, example, split.title, int(number))
    return batch


def _map(folder: Path) -> dict[str, np.ndarray]:
    paths = sorted(folder.glob("*.npy"))
    return {path.stem: np.load(path, mmap_mode="r") for path in paths}


def _slug(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", title).strip("-")
