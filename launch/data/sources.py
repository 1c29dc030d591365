"""Splits of data sets, opened by name: a TFDS data set or a user's own function."""

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from launch import storage
from launch.config import by_name
from launch.config.errors import UserError
from launch.data.bad_file import BadFile

DAMAGED = "damaged"  # key of an example: whether another stands in for it; see launch.data.damage


@dataclasses.dataclass(frozen=True)
class Split:
    """Random access to the examples of one split.

    Attributes:
      records: records[i] is a dict of numpy arrays; or, for arrays in memory, a
        dict of arrays with a leading example axis.
      size: number of examples.
      title: for messages, e.g. "mnist:3.0.1 test".
      fingerprint: changes whenever the decoded arrays would; "" if unknown.
      folder: where the data set lies, None if it lies nowhere.
      classes: names of the classes, in the order of their ids, where they are known.
    """

    records: Any
    size: int
    title: str
    fingerprint: str = ""
    folder: Path | None = None
    classes: tuple[str, ...] = ()

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """One example as numpy arrays of fixed dtypes.

        Raises:
          UserError: the record cannot be read or decoded; names it.
        """
        try:
            example = self.records[int(index)]
        except UserError:  # raised by the split that this one preprocesses
            raise
        except BadFile as error:  # its message says what to do
            raise UserError(str(error))
        except Exception as error:  # riegeli, protobuf and PIL each raise their own
            raise UserError(
                f"{self.title}: example {index} cannot be read ({first_line(error)}). "
                f"{'Files: ' + str(self.folder) + '. ' if self.folder else ''}"
                "Prepare the data set again, or leave the example out by the split expression."
            )
        return canonical(example)


def canonical(example: Mapping) -> dict[str, np.ndarray]:
    """Numeric arrays of an example, integers as int32 and floats as float32.

    uint8 and bool stay as they are; strings and nested features are left out (a
    `config.data.preprocess` can turn them into arrays).

    Raises:
      ValueError: an integer does not fit into 32 bits.
    """
    arrays = {}
    for key, value in example.items():
        array = np.asarray(value)
        if array.dtype == np.uint8 or array.dtype.kind == "b":
            arrays[key] = array
        elif array.dtype.kind in "iu":
            if array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
                raise ValueError(f"{key} holds {array.max()}, which 32 bits do not")
            arrays[key] = array.astype(np.int32)
        elif array.dtype.kind == "f":
            arrays[key] = array.astype(np.float32)
    return arrays


def open_split(data, split: str, where: str = "config.data") -> Split:
    """Opens one split.

    Args:
      data: `config.data`.
      split: a TFDS split expression, or what the user's function takes.
      where: the config section, for messages.

    Raises:
      UserError: unknown or unprepared data set, or an unknown or empty split.
    """
    name = data.name
    if by_name.is_name(name):
        from launch.data import functions

        opened = functions.open_function(data, split, where)
    else:
        from launch.data import tfds_sets

        opened = tfds_sets.open_tfds(data, split)
    if opened.size == 0:
        raise UserError(f"{where}.split: {opened.title} is empty")
    if not data.preprocess:
        return opened
    function = by_name.resolve(data.preprocess["name"], f"{where}.preprocess")
    fingerprint = opened.fingerprint  # of unknown content there is none, preprocessed or not
    if fingerprint:
        fingerprint = hash_of(fingerprint, data.preprocess.to_dict(), _source_code(function))
    return dataclasses.replace(
        opened,
        records=Preprocessed(opened, by_name.partial(data.preprocess, f"{where}.preprocess")),
        title=f"{name} {split}",
        fingerprint=fingerprint,
    )


@dataclasses.dataclass(frozen=True)
class Preprocessed:
    """Records with a function applied to each."""

    split: Split
    function: Any

    def __getitem__(self, index):
        # Copies, as the function may write into what it is given.
        return self.function({key: np.array(leaf) for key, leaf in self.split[index].items()})


def _source_code(function) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def hash_of(*parts) -> str:
    """Sixteen hexadecimal digits of bytes, or of the `repr` of other objects."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def first_line(error: BaseException) -> str:
    """The class and the first line of an error, for a message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip() if lines else 'no message'}"[:300]


def local_folder(folder: str, *parts: str) -> str:
    """The user's folder of data; of one in a bucket, a copy on this machine (array_record
    reads files only: https://github.com/google/array_record/issues/120).

    Args:
      folder: a path, or "gs://BUCKET/...".
      parts: copy only files below folders of these names.

    Raises:
      UserError: there is no way to the bucket.
    """
    if "://" not in folder:
        return folder
    from launch.storage import bucket

    return str(bucket.fetch(folder, storage.cache_dir() / "buckets", parts))
