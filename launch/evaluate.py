"""python -m launch.evaluate --workdir=runs/vae

Exact metrics of a whole split, as JSON on stdout. With --samples, --completions, --floor
or --segmenter: scores of images instead, with a card of all that the scores depend on.
"""

import argparse
import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from launch import cli, distributed
from launch.config.errors import UserError
from launch.engine import experiments, trained_runs
from launch.inference import averages, flags
from launch.scoring import reals, score_card
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

KINDS = ("samples", "completions", "floor", "segmenter")  # options that ask for scores
NEIGHBOURS = 16  # samples in the figure of --samples


def main(argv: list[str]) -> None:
    """Evaluates a run.

    Args:
      argv: arguments of the command line, without the command's own name.

    Raises:
      UserError: an option that cannot work with this run.
    """
    options, overrides = cli.parse(_arguments(), argv)
    _check_numbers(options)
    _check_effects(options)
    if options.neighbours is None:
        options.neighbours = NEIGHBOURS
    said = set()
    with cli.together(options) as group:
        if len(options.guidance or ()) > 1:  # a mistake in one is found before the first is scored
            for _ in _grid(options, overrides, group, said):
                pass
        measured = None  # the real images, by the first point of the grid for all
        for restored, asked in _grid(options, overrides, group, said):
            measured = evaluate(restored, options, asked, measured)


def _grid(
    options: argparse.Namespace, overrides: list[str], group: distributed.Group, said: set[str]
) -> Iterator[tuple[trained_runs.Restored, dict]]:
    """The run with each guidance and each average that the options name, and these names."""
    for guidance in options.guidance or [None]:
        leads = guidance != 1.0 or len(options.guidance) == 1  # in a grid 1 is for comparison
        more = {name: getattr(options, name) if leads else None for name in ("interval", "weaker")}
        point = argparse.Namespace(**vars(options) | more | {"guidance": guidance})
        arguments = options.workdir, overrides, options.step, options.split, flags.sampling(point)
        with _each_once(said):
            restored = trained_runs.restore(*arguments, group=group)
        flags.check_interval(point.interval, restored.config.task)
        for ema in averages.chosen(restored.config.optimizer, options.ema):
            with _each_once(said):
                one = averages.restored(restored, options.workdir, ema)
                one = averages.guided(one, point.weaker)
            asked = {"sampler": options.sampler, "steps": options.steps, "guidance": guidance}
            asked |= {"interval": point.interval, "weaker": one.weaker, "ema": ema or None}
            asked = {key: value for key, value in asked.items() if value is not None}
            yield one, asked


@contextlib.contextmanager
def _each_once(said: set[str]) -> Iterator[None]:
    """Leaves out messages that were said before: all points of a grid open the same runs."""

    def is_new(record):
        message = record.getMessage()
        return not (message in said or said.add(message))

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def evaluate(
    restored: trained_runs.Restored,
    options: argparse.Namespace,
    asked: dict[str, float | str | tuple],
    measured: reals.Reals | None = None,
) -> reals.Reals | None:
    """Evaluates a run; of several processes, process 0 prints and writes the results.

    Args:
      restored: the run.
      options: of the command.
      asked: the sampler, its steps, the guidance, its interval, the weaker run and the moving
        average that were asked for, for the results.
      measured: what an earlier call with the same data returned; None for the first call.

    Returns:
      What scores by features compare with, for the next call; None where there are none.
    """
    more = {"batch_size": options.batch_size or restored.config.eval.batch_size}
    more["stem"] = f"{restored.step:08d}{flags.asked_for(asked)}"  # of the names of files
    options = argparse.Namespace(**vars(options) | more)
    split = restored.data.split
    header = {"step": restored.step, "split": split.title, **asked}
    scored, draw = any(getattr(options, kind) for kind in KINDS), None
    if scored:
        results, draw, measured = score_card.scores(restored, options, measured)
    else:
        experiment = restored.experiment
        metrics = experiments.evaluate(
            experiment,
            restored.state,
            restored.data,
            options.batch_size,
            experiment.compiled.score_step,
        )
        results = experiments.for_json(metrics)
    if restored.group.is_process_zero:
        # First of all: they took long, and a disk may be full.
        print(json.dumps(header | {"examples": split.size} | results), flush=True)
        if scored:
            _write(options, header | results)
    if draw:
        draw()
    return measured


def _arguments() -> argparse.ArgumentParser:
    arguments = cli.parser(
        "evaluate",
        "Exact metrics of a whole split, as JSON on stdout; or scores of the images that a "
        "model makes.",
    )
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    flags.add_step(add)
    add("--split", default="", help="split (default: config.eval.split)")
    add("--batch_size", type=int, help="does not change the result")
    distributed.add_arguments(arguments)
    add = arguments.add_argument_group("scores of images").add_argument
    add("--samples", type=int, help="score the images of seeds 0 to N - 1 against the split")
    add(
        "--completions",
        action="store_true",
        help="score the images made from the split's examples: reconstructions, completions",
    )
    add(
        "--floor",
        action="store_true",
        help="score real images of the training split: no model can be expected to score better",
    )
    add(
        "--segmenter",
        type=cli.workdir,
        help="a run whose net labels the images that are made from the split's masks",
    )
    add("--reals", type=int, help="take the first N images of the split (default: all)")
    add("--inception", type=Path, help="compare features of InceptionV3, with this weights file")
    add(
        "--neighbours",
        type=int,
        help="samples shown beside their nearest training images (default: 16; 0: none)",
    )
    flags.add_sampling(add, several=True)
    add("--force", action="store_true", help="use a classifier even if its accuracy is too low")
    return arguments


def _check_effects(options: argparse.Namespace) -> None:
    """Refuses an option that acts only beside others which are not given."""
    by_features = KINDS[:3]
    needs = {"reals": KINDS, "inception": by_features, "force": by_features}
    drawn = ("samples", "completions")
    needs |= {"neighbours": ("samples",), "weaker": ("samples",)}
    needs |= dict.fromkeys(("sampler", "steps", "guidance", "interval"), drawn)
    for name, kinds in needs.items():
        value = getattr(options, name)
        given = value is not None and value is not False  # 0 is a value too
        if given and not any(getattr(options, kind) for kind in kinds):
            beside = " or ".join(f"--{kind}" for kind in kinds)
            raise UserError(f"--{name} has no effect without {beside}")
    if options.force and options.inception:
        raise UserError("--force has no effect with --inception, which trains no classifier")


def _check_numbers(options: argparse.Namespace) -> None:
    for name, least in {"batch_size": 1, "samples": 1, "reals": 1, "neighbours": 0}.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be at least {least}, got {value}")


def _write(options: argparse.Namespace, results: dict) -> None:
    """Writes scores/KINDS-STEP.json into the workdir, with what was asked for in its name."""
    name = "+".join(kind for kind in KINDS if getattr(options, kind))
    with replacing(options.workdir / "scores" / f"{name}-{options.stem}.json") as working:
        working.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
