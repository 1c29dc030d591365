"""Data sets of TensorFlow Datasets, read from array_record without TensorFlow."""

import contextlib
import io
import re
import sys
from pathlib import Path

from launch.config import by_name
from launch.config.errors import UserError
from launch.data.sources import Split, first_line, hash_of, local_folder

# Our own data sets: TFDS knows them once their module is imported.
BUILTIN = {"digits": "launch.data.builtin.digits", "scenes": "launch.data.builtin.scenes"}


def builder(name: str, data_dir: str = ""):
    """The TFDS builder of a data set, our own included.

    Args:
      name: the TFDS name, such as "mnist:3.0.1".
      data_dir: the folder of TFDS data; "" for the default of TFDS.

    Raises:
      UserError: TFDS knows no such data set, or takes the name of the folder for a pattern.
    """
    if "://" not in data_dir and re.search(r"[*?[]", data_dir):
        raise UserError(
            f"config.data.data_dir={data_dir}: TFDS takes *, ? and [ for patterns; rename the "
            "folder, or give a link to it"
        )
    import tensorflow_datasets as tfds  # 0.3 s that a cached run does without

    named, _, version = name.partition(":")
    plain = named.partition("/")[0]
    parts = (plain, version) if version and "*" not in version else (plain,)
    folder = local_folder(data_dir, *parts) if data_dir else None
    if plain in BUILTIN:
        by_name.resolve(f"{BUILTIN[plain]}:Builder", "config.data.name")
    try:
        return tfds.builder(name, data_dir=folder)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        if folder and not Path(folder).expanduser().is_dir():
            raise UserError(f"config.data.data_dir: no such directory: {data_dir}")
        raise UserError(f"config.data.name: {name!r}: {first_line(error)}")


def open_tfds(data, split: str) -> Split:
    """Opens one split of a TFDS data set; prepares it if it is one of ours.

    Args:
      data: `config.data`.
      split: a TFDS split expression.

    Raises:
      UserError: unknown or unprepared data set, or an unknown split.
    """
    made = builder(data.name, data.data_dir)
    plain = made.name
    if not made.is_prepared() and plain in BUILTIN:
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
        raise UserError(f"split {split!r} of {plain}: {first_line(error)} (it has {known})")
    folder = Path(made.data_dir)
    described = [(folder / name).read_bytes() for name in ("dataset_info.json", "features.json")]
    classes = tuple((made.info.metadata or {}).get("classes", ()))
    return Split(records, len(records), title, hash_of(*described, split), folder, classes)


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
    """Prepares a TFDS data set as array_record; several processes may do so at once.

    TFDS writes into a temporary folder and renames it, so no process reads half a data set.

    Args:
      made: what `builder` returned.
    """
    import tensorflow_datasets as tfds

    if made.name in BUILTIN:  # nothing is downloaded, and it takes seconds
        tfds.disable_progress_bar()
    chatter = io.StringIO() if made.name in BUILTIN else sys.stderr
    try:
        with contextlib.redirect_stdout(chatter):  # stdout is for results
            made.download_and_prepare(file_format="array_record")
    except OSError:
        if not made.is_prepared():  # another process was quicker, or a real fault
            raise
