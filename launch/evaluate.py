"""python -m launch.evaluate --workdir=runs/vae

Exact metrics of a whole split, as JSON on stdout. With --samples, --completions, --floor
or --segmenter: scores of images instead, with a card of all that the scores depend on.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from jaxgen.metrics import kernel_distance, neighbours, ssim
from launch import cli, distributed
from launch.config.errors import UserError
from launch.engine import experiments, trained_runs
from launch.inference import averages, flags
from launch.reporting import image_files
from launch.scoring import image_sets, nearest, reals, sample_metrics, segmenter_metrics
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
    with cli.together(options) as group:
        measured = None  # the real images, by the first point of the grid for all
        for restored, asked in _grid(options, overrides, group):
            measured = evaluate(restored, options, asked, measured)


def _grid(
    options: argparse.Namespace, overrides: list[str], group: distributed.Group
) -> Iterator[tuple[trained_runs.Restored, dict]]:
    """The run with each guidance and each average that the options name, and these names."""
    for guidance in options.guidance or [None]:
        leads = guidance != 1.0 or len(options.guidance) == 1  # in a grid 1 is for comparison
        more = {name: getattr(options, name) if leads else None for name in ("interval", "weaker")}
        point = argparse.Namespace(**vars(options) | more | {"guidance": guidance})
        arguments = options.workdir, overrides, options.step, options.split, flags.sampling(point)
        restored = trained_runs.restore(*arguments, group=group)
        flags.check_interval(point.interval, restored.config.task)
        for ema in averages.chosen(restored.config.optimizer, options.ema):
            one = averages.restored(restored, options.workdir, ema)
            asked = {"sampler": options.sampler, "steps": options.steps, "guidance": guidance}
            asked |= {"interval": point.interval, "weaker": point.weaker, "ema": ema or None}
            asked = {key: value for key, value in asked.items() if value is not None}
            yield averages.guided(one, point.weaker), asked


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
        results, draw, measured = _scores(restored, options, measured)
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


def _scores(
    restored: trained_runs.Restored, options: argparse.Namespace, measured: reals.Reals | None
) -> tuple[dict, Callable[[], None] | None, reals.Reals | None]:
    """All scores that the options ask for, with their card; what draws a figure of them; and what
    they were compared with."""
    _check_task(restored, options)
    count = min(options.reals or restored.data.split.size, restored.data.split.size)
    results, card, draw = {}, {}, None
    if options.segmenter:
        results, card["segmenter"] = _segmenter_scores(restored, options, count)
    if options.samples or options.completions or options.floor:
        measured = measured or reals.measure_reals(
            restored,
            _feature_net(options, restored.config.score.features),
            batch_size=options.batch_size,
            count=count,
            samples=options.samples,
            floor=options.floor,
            neighbours=bool(options.samples and options.neighbours),
            force=options.force,
        )
        feature_results, draw = _feature_scores(restored, options, count, measured)
        results |= feature_results
        card |= measured.net.card | _card(restored, options, count, measured.floor)
    # A device that rounds products (TF32 of NVIDIA GPUs) rounds the features too.
    card["device"] = restored.experiment.mesh.devices.flat[0].device_kind
    return experiments.for_json(results) | {"card": card}, draw, measured


def _check_task(restored: trained_runs.Restored, options: argparse.Namespace) -> None:
    compiled, name = restored.experiment.compiled, restored.config.task.name
    if options.samples and compiled.sample is None:
        raise UserError(f"--samples: {name} has no sample()")
    if (options.completions or options.segmenter) and compiled.complete is None:
        flag = "--completions" if options.completions else "--segmenter"
        raise UserError(f"{flag}: {name} has no complete()")
    given = restored.experiment.task.given if options.segmenter else ""
    if options.segmenter and given != "segmentation":
        raise UserError(f"--segmenter: {name} makes images from `{given}`, not from `segmentation`")


def _segmenter_scores(
    restored: trained_runs.Restored, options: argparse.Namespace, count: int
) -> tuple[dict, dict]:
    """Metrics of a trained segmenter, and their card."""
    segmenter = trained_runs.restore(options.segmenter, [], None, None, group=restored.group)
    segmenter_metrics.check_segmenter(restored, segmenter, options.segmenter)
    results = segmenter_metrics.segmenter_metrics(restored, segmenter, options.batch_size, count)
    return results, segmenter_metrics.segmenter_card(segmenter, options.segmenter, count)


def _feature_scores(
    restored: trained_runs.Restored, options: argparse.Namespace, count: int, real: reals.Reals
) -> tuple[dict, Callable[[], None] | None]:
    """Scores by features against the split's images, and what draws a figure."""
    results, draw, classes = dict(real.results), None, real.net.classes
    for name, images, number in _image_sets(restored, options, count):
        measured = sample_metrics.measure(real.extract, images, number, name)
        scores = sample_metrics.compare(real.measured, measured, classes)
        prefix = "" if name == "samples" else f"{name}/"
        results |= {prefix + key: value for key, value in scores.items()}
        if name == "samples":
            results |= _class_agreement(measured, classes, restored.config.task.get("classes", 0))
            if options.neighbours:
                searched = _neighbours(options, measured, real)
                results |= searched[0]
                draw = partial(_show_neighbours, restored, options, searched[1])
    return results, draw


def _feature_net(options: argparse.Namespace, spec: dict) -> dict:
    """What names the feature net: --inception, else config.score.features."""
    if not options.inception:
        return spec
    return {"name": "launch.scoring.features:inception", "weights": str(options.inception)}


def _image_sets(
    restored: trained_runs.Restored, options: argparse.Namespace, count: int
) -> Iterator[tuple]:
    """The sets of images to score: name, (images, mask) batch by batch, number of images."""
    experiment, size = restored.experiment, options.batch_size
    if options.samples:
        classes = restored.config.task.get("classes", 0)
        arguments = experiment, restored.state, classes, size, options.samples
        yield "samples", image_sets.sampled_images(*arguments), options.samples
    if options.completions:
        arguments = experiment, restored.state, restored.data, size, count
        completed = image_sets.completed_images(*arguments)
        put = experiment.compiled.put_batch
        yield "completions", ((images, put(batch["mask"])) for images, batch in completed), count


def _class_agreement(
    samples: sample_metrics.ImageSet, known: int, classes: int
) -> dict[str, float]:
    """The share of samples whose most likely class is the class that was asked for."""
    if not classes or classes != known:
        return {}
    asked = np.arange(len(samples.classes)) % classes
    return {"class_agreement": float((samples.classes == asked).mean())}


def _neighbours(options, samples, real: reals.Reals) -> tuple[dict, np.ndarray]:
    """The share of samples that copy training images, and the nearest ones of a few samples."""
    logger.info("looking for the nearest training images")
    shown, sets = slice(options.neighbours), (samples.features, real.measured.features)
    few = samples.images[shown], samples.features[shown]
    figure, apart = nearest.nearest_training_images(*few, real.training, np.concatenate(sets))
    if real.is_training:
        return {}, figure
    generated, others = np.split(apart, [len(samples.features)])
    return {"copied": neighbours.copied(generated, others)}, figure


def _show_neighbours(restored, options, figure) -> None:
    """Writes a figure of samples and the training images nearest to them."""
    path = options.workdir / "figures" / f"neighbours-{options.stem}.png"
    if restored.group.is_process_zero:
        image_files.save(path, figure)
    logger.info(f"{path}: samples, the nearest by pixels, the nearest by features")


def _card(restored, options, count: int, floor: int | None) -> dict:
    """What scores by features depend on, beside the feature net."""
    task, experiment = restored.config.task.to_dict(), restored.experiment
    drawn = options.samples or options.completions
    by_steps = {"sampling": task["sampling"]} if drawn and "sampling" in task else {}
    return {
        **by_steps,
        "reals": count,
        "samples": options.samples,
        "seeds": f"0-{options.samples - 1}" if options.samples else None,
        "completions": count if options.completions else None,
        "floor": floor,
        "seed": 0,  # assigns images to the blocks of KID
        "k": neighbours.K,
        "kid_blocks": kernel_distance.BLOCKS,
        "ms_ssim_scales": ssim.scales(*experiment.example["image"].shape[:2]),
    }


def _write(options: argparse.Namespace, results: dict) -> None:
    """Writes scores/KINDS-STEP.json into the workdir, with what was asked for in its name."""
    name = "+".join(kind for kind in KINDS if getattr(options, kind))
    with replacing(options.workdir / "scores" / f"{name}-{options.stem}.json") as working:
        working.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
