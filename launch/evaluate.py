"""python -m launch.evaluate --workdir=runs/vae

Exact metrics of a whole split, as JSON on stdout.
"""

import json

from launch import cli, devices
from launch import run as runs
from launch.errors import Mistake


def main(argv: list[str]) -> None:
    """Parses the command line and evaluates."""
    arguments = cli.parser("evaluate", "Exact metrics of a whole split, as JSON on stdout.")
    arguments.add_argument("--workdir", type=cli.workdir, required=True, help="a run")
    arguments.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    arguments.add_argument("--split", default="", help="split (default: config.eval.split)")
    arguments.add_argument("--batch_size", type=int, help="does not change the result")
    options, overrides = cli.parse(arguments, argv)
    devices.setup()
    opened = runs.trained(options.workdir, overrides, options.step, options.split)
    batch_size = opened.config.eval.batch_size if options.batch_size is None else options.batch_size
    if batch_size < 1:
        raise Mistake(f"--batch_size must be at least 1, got {batch_size}")
    score = opened.run.program.score_step
    metrics = runs.evaluate(opened.run, opened.state, opened.data, batch_size, score)
    split = {
        "step": opened.step,
        "split": opened.data.split.title,
        "examples": opened.data.split.size,
    }
    print(json.dumps(split | runs.for_json(metrics)))


if __name__ == "__main__":
    cli.run(main)
