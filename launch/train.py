"""python -m launch.train --config=configs/vae.py --workdir=runs/vae

Trains what a config describes. Given a workdir that holds a run, continues from its
newest whole checkpoint and ends with the same parameters as a run that never stopped.
"""

import time

BEGAN = time.perf_counter()  # before the imports, for which the user waits too

from functools import partial

from launch import cli, distributed
from launch.config import loading
from launch.engine.training import train


def main(argv: list[str]) -> None:
    """Parses the command line and trains."""
    arguments = cli.parser("train", "Trains what a config describes, or continues a run.")
    arguments.add_argument("--config", required=True, help="FILE.py or FILE.py:VARIANT")
    help_ = "the run's folder (default: runs/NAME of the config)"
    arguments.add_argument("--workdir", type=cli.workdir, help=help_)
    distributed.add_arguments(arguments)
    options, overrides = cli.parse(arguments, argv)
    config = loading.override(loading.load(options.config), overrides)
    workdir = options.workdir or cli.workdir(f"runs/{loading.default_name(options.config)}")
    with cli.together(options, saves=True) as group:
        extra = {}
        if config.score.samples:
            from launch.scoring import sample_metrics  # few runs score samples while they train

            make = partial(sample_metrics.training_monitor, config.score.features, config.data)
            sizes = {"batch_size": config.eval.batch_size, "count": config.score.samples}
            extra["make_monitor"] = partial(make, config.eval.split, **sizes, group=group)
        if config.encoder.weights:
            from launch.weights import encoders  # few runs start from pretrained weights

            extra["load_encoder"] = encoders.loader(config.encoder.weights, config.model)
        train(config, workdir, group=group, began=BEGAN, **extra)


if __name__ == "__main__":
    cli.run(main)
