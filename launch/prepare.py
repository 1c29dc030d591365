"""python -m launch.prepare mnist --data_dir=DIR

Downloads a TFDS data set, or converts one that another tool prepared as TFRecord,
to array_record, which training reads without TensorFlow.
"""

import importlib.util
import logging
from pathlib import Path

from launch import cli
from launch.config.errors import UserError
from launch.data import tfds_sets

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Parses the command line and prepares."""
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
    embedded = builder.name in tfds_sets.BUILTIN
    if tfds_sets.has_array_record(builder):
        return logger.info(f"{builder.info.full_name} is prepared in {builder.data_dir}")
    if importlib.util.find_spec("tensorflow") is None and (not embedded or builder.is_prepared()):
        raise UserError(
            f"preparing {options.name} needs TensorFlow, which training does not: "
            'pip install "segen[prepare]", or prepare it on another machine and copy the folder '
            f"to {builder.data_dir}"
        )
    if builder.is_prepared():
        convert(builder)
    else:
        tfds_sets.prepare(builder)
    logger.info(f"{builder.info.full_name} is prepared in {builder.data_dir}")


def convert(builder) -> None:
    """Writes a TFRecord preparation as array_record too, beside it.

    The records are copied byte for byte; both formats can be read afterwards.
    """
    import tensorflow as tf
    from array_record.python.array_record_module import ArrayRecordWriter

    folder = Path(builder.data_dir)
    for split in builder.info.splits.values():
        for old in map(Path, split.filepaths):
            new = folder / old.name.replace("tfrecord", "array_record")
            working = new.with_name(f"incomplete.{new.name}")
            # One record a group: random access reads a group whole.
            writer = ArrayRecordWriter(str(working), "group_size:1")
            for record in tf.data.TFRecordDataset(str(old)).as_numpy_iterator():
                writer.write(record)
            writer.close()
            working.rename(new)
            logger.info(f"{new}: {split.num_examples:,} examples in {split.name}")


if __name__ == "__main__":
    cli.run(main)
