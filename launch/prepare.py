"""python -m launch.prepare mnist --data_dir=DIR

Downloads a TFDS data set as array_record, or converts one that is there as TFRecord.
Training reads array_record without TensorFlow.
"""

import importlib.util
import logging
from pathlib import Path

from launch import cli
from launch.config.errors import UserError
from launch.data import tfds_sets

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Prepares a data set.

    Args:
      argv: arguments of the command line, without the command's own name.

    Raises:
      UserError: there is no such data set, a bucket is named, or TensorFlow is missing.
    """
    arguments = cli.parser("prepare", "Prepares a TFDS data set as array_record.")
    arguments.add_argument("name", help='a TFDS name, e.g. mnist or "cifar10:3.0.2"')
    arguments.add_argument("--data_dir", default="", help="default: ~/tensorflow_datasets")
    options = cli.parse_alone(arguments, argv)
    if "://" in options.data_dir:
        raise UserError(
            f"--data_dir={options.data_dir}: prepare into a folder, and copy that into the bucket "
            "(gcloud storage cp --recursive)"
        )
    builder = tfds_sets.builder(options.name, options.data_dir)
    if not tfds_sets.has_array_record(builder):
        _check_tensorflow(builder, options.name)
        if builder.is_prepared():
            convert(builder)
        else:
            tfds_sets.prepare(builder)
    logger.info(f"{builder.info.full_name} is prepared in {builder.data_dir}")


def _check_tensorflow(builder, name: str) -> None:
    """Refuses to download or to convert without TensorFlow; embedded data need no download."""
    embedded = builder.name in tfds_sets.BUILTIN and not builder.is_prepared()
    if not embedded and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"preparing {name} needs TensorFlow, which training does not: "
            'pip install "segen[prepare]", or prepare it on another machine and copy the folder '
            f"to {builder.data_dir}"
        )


def convert(builder) -> None:
    """Copies the TFRecord files of a data set to array_record files beside them.

    The records stay byte for byte the same; both formats can be read afterwards.

    Args:
      builder: a TFDS builder whose data set is prepared as TFRecord.
    """
    import tensorflow as tf
    from array_record.python.array_record_module import ArrayRecordWriter

    folder = Path(builder.data_dir)
    for split in builder.info.splits.values():
        for old in map(Path, split.filepaths):
            new = folder / old.name.replace("tfrecord", "array_record")
            working = new.with_name(f"incomplete.{new.name}")
            # One record in a group, because random access reads whole groups.
            writer = ArrayRecordWriter(str(working), "group_size:1")
            for record in tf.data.TFRecordDataset(str(old)).as_numpy_iterator():
                writer.write(record)
            writer.close()
            working.rename(new)
            logger.info(f"{new}: {split.num_examples:,} examples in {split.name}")


if __name__ == "__main__":
    cli.run(main)
