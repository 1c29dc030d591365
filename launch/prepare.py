"""python -m launch.prepare mnist --data_dir=DIR

Downloads a TFDS data set, or converts one that another tool prepared as TFRecord,
to array_record, which training reads without TensorFlow.
"""

import contextlib
import importlib.util
import sys

from launch import cli
from launch.data import sources
from launch.errors import Mistake


def main(argv: list[str]) -> None:
    """Parses the command line and prepares."""
    arguments = cli.parser("prepare", "Prepares a TFDS data set as array_record.")
    arguments.add_argument("name", help='a TFDS name, e.g. mnist or "cifar10:3.0.2"')
    arguments.add_argument("--data_dir", default="", help="default: ~/tensorflow_datasets")
    options, rest = cli.parse(arguments, argv)
    if rest:
        raise Mistake(f"prepare takes no config: {' '.join(rest)}")
    builder = sources.builder(options.name, options.data_dir)
    if builder.is_prepared():
        return cli.say(f"{builder.info.full_name} is prepared in {builder.data_dir}")
    embedded = builder.name in sources.EMBEDDED
    if not embedded and importlib.util.find_spec("tensorflow") is None:
        raise Mistake(
            f"preparing {options.name} needs TensorFlow, which training does not: "
            'pip install "segen[prepare]", or prepare it elsewhere and copy '
            f"{builder.data_dir} here"
        )
    if not embedded and _convert(builder):
        return cli.say(f"converted to array_record in {builder.data_dir}")
    with contextlib.redirect_stdout(sys.stderr):
        sources.prepare(builder)
    cli.say(f"{builder.info.full_name} is prepared in {builder.data_dir}")


def _convert(builder) -> bool:
    """Rewrites a TFRecord preparation as array_record, if there is one here."""
    import tensorflow_datasets as tfds

    try:
        old = tfds.builder(
            builder.info.full_name, data_dir=str(builder.data_dir_root), file_format="tfrecord"
        )
    except (AttributeError, ValueError, AssertionError, tfds.core.DatasetNotFoundError):
        return False
    if not old.is_prepared():
        return False
    from etils import epath
    from tensorflow_datasets.scripts.cli import convert_format_utils

    convert_format_utils.convert_dataset(
        dataset_dir=epath.Path(old.data_dir),
        out_dir=epath.Path(builder.data_dir),
        out_file_format="array_record",
        overwrite=False,
    )
    return True


if __name__ == "__main__":
    cli.run(main)
