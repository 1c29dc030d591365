"""Opens what config.data.name says: a TFDS data set or a user's own function."""

import contextlib
import dataclasses
import hashlib
import inspect
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch import storage
from launch.config import by_name
from launch.config.errors import UserError
from launch.data.bad_file import BadFile

# Builders of ours, importable by TFDS once their module is loaded.
EMBEDDED = {"digits": "launch.data.builtin.digits", "scenes": "launch.data.builtin.scenes"}


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
        except UserError:  # of the split that this one preprocesses
            raise
        except BadFile as bad:  # its message says what to do
            raise UserError(str(bad))
        except Exception as error:  # riegeli, protobuf and PIL each raise their own
            raise UserError(
                f"{self.title}: example {index} cannot be read ({_first_line(error)}). "
                f"{'Files: ' + str(self.folder) + '. ' if self.folder else ''}"
                "Prepare the data set again, or leave the example out by the split expression."
            )
        return canonical(example)


def canonical(example: Mapping) -> dict[str, np.ndarray]:
    """Numeric arrays of an example, integers as int32 and floats as float32.

    uint8 and bool stay as they are; strings and nested features are left out (a
    `config.data.preprocess` can turn them into arrays).
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
    name, attribute = data.name, data.name.partition(":")[2]
    own = attribute.isidentifier()
    opened = _open_function(data, split, where) if own else _open_tfds(data, split)
    if opened.size == 0:
        raise UserError(f"{where}.split: {opened.title} is empty")
    if not data.preprocess:
        return opened
    function = by_name.resolve(data.preprocess["name"], f"{where}.preprocess")
    fingerprint = opened.fingerprint  # of unknown content there is none, preprocessed or not
    if fingerprint:
        fingerprint = _hash(fingerprint, data.preprocess.to_dict(), _source_code(function))
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
        return self.function(self.split[index])


def _open_function(data, split, where):
    place = {"path": local_folder(data.path)} if data.path else {}
    wanted = by_name.required(data.name, f"{where}.name")
    if "path" in wanted and "path" not in {**place, **data.kwargs}:
        raise UserError(
            f"config.data.path: {data.name} reads a folder; give --config.data.path=DIR"
        )
    spec = {"name": data.name, "split": split, **place, **data.kwargs}
    records = by_name.instantiate(spec, where)
    title = f"{data.name} {split}"
    if not isinstance(records, Mapping):
        if not isinstance(records, Sequence) and not hasattr(records, "__getitem__"):
            raise UserError(f"{where}.name: {data.name} must return a dict of arrays or a sequence")
        # What launch.data.folders says of its records, and any other may say.
        facts = ("fingerprint", ""), ("folder", None), ("classes", ())
        said = {key: getattr(records, key, default) for key, default in facts}
        return Split(records, len(records), title, **said)
    records = canonical(records)
    sizes = {key: len(array) for key, array in records.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"{where}.name: arrays of {data.name} differ in length: {sizes}")
    return Split(records, next(iter(sizes.values()), 0), title)


def builder(name: str, data_dir: str = ""):
    """The TFDS builder of a data set, embedded ones included.

    Raises:
      UserError: TFDS knows no such data set.
    """
    import tensorflow_datasets as tfds  # 0.3 s that a cached run does without

    named, _, version = name.partition(":")
    plain = named.partition("/")[0]
    parts = (plain, version) if version and "*" not in version else (plain,)
    folder = local_folder(data_dir, *parts) if data_dir else None
    if plain in EMBEDDED:
        by_name.resolve(f"{EMBEDDED[plain]}:Builder", "config.data.name")
    try:
        return tfds.builder(name, data_dir=folder)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        if folder and not Path(folder).expanduser().is_dir():
            raise UserError(f"config.data.data_dir: no such directory: {data_dir}")
        raise UserError(f"config.data.name: {name!r}: {_first_line(error)}")


def _open_tfds(data, split):
    made = builder(data.name, data.data_dir)
    plain = made.name
    if not made.is_prepared() and plain in EMBEDDED:
        prepare(made)
    if not has_array_record(made):
        if "://" in data.data_dir:
            raise UserError(
                f"config.data.data_dir={data.data_dir} has no {data.name} as array_record. Prepare "
                f"it into a folder (python -m launch.prepare {data.name} --data_dir=DIR) and copy "
                "that there (gcloud storage cp --recursive)"
            )
        where = f" --data_dir={data.data_dir}" if data.data_dir else ""
        state = "is prepared, but as TFRecord," if made.is_prepared() else "is not prepared"
        raise UserError(
            f"{data.name} {state} in {made.data_dir}. Run:\n"
            f"  python -m launch.prepare {data.name}{where}"
        )
    variant = f"/{made.builder_config.name}" if made.builder_config else ""
    title = f"{plain}{variant}:{made.version} {split}"
    try:
        if not made.info.splits[split].num_examples:
            return Split((), 0, title)
        records = made.as_data_source(split=split)
    except Exception as error:  # TFDS raises ValueError, KeyError, AssertionError...
        known = ", ".join(sorted(made.info.splits))
        raise UserError(f"split {split!r} of {plain}: {_first_line(error)} (it has {known})")
    folder = Path(made.data_dir)
    described = [(folder / name).read_bytes() for name in ("dataset_info.json", "features.json")]
    classes = tuple((made.info.metadata or {}).get("classes", ()))
    return Split(records, len(records), title, _hash(*described, split), folder, classes)


def has_array_record(made) -> bool:
    """Whether a builder's data set is prepared in the format that we read."""
    if not made.is_prepared():
        return False
    if made.info.file_format.value != "array_record" and _converted(made):
        made.info.set_file_format("array_record", override=True, override_if_initialized=True)
    return made.info.file_format.value == "array_record"


def _converted(made) -> bool:
    """Whether `launch.prepare` wrote every TFRecord file as array_record beside it."""
    files = [Path(path) for split in made.info.splits.values() for path in split.filepaths]
    return all(
        path.with_name(path.name.replace("tfrecord", "array_record")).is_file() for path in files
    )


def prepare(made) -> None:
    """Prepares a TFDS data set as array_record; safe if several processes do so.

    TFDS writes into a temporary folder and renames it, so the last one wins and
    none sees half a data set.
    """
    import tensorflow_datasets as tfds

    if made.name in EMBEDDED:  # nothing is downloaded, and it takes seconds
        tfds.disable_progress_bar()
    chatter = io.StringIO() if made.name in EMBEDDED else sys.stderr
    try:
        with contextlib.redirect_stdout(chatter):  # stdout is for results
            made.download_and_prepare(file_format="array_record")
    except OSError:
        if not made.is_prepared():  # another process was quicker, or a real fault
            raise


def _source_code(function) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def _hash(*parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _first_line(error: BaseException) -> str:
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
    return str(storage.fetch(folder, cache_home() / "buckets", parts))


def cache_home() -> Path:
    """Where things are kept that can be made again: $XDG_CACHE_HOME/segen."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "segen"
