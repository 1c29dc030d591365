"""All scores of images that `launch.evaluate` gives, with a card of what they depend on."""

import argparse
import logging
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxgen.metrics import kernel_distance, neighbours, ssim
from launch.config.errors import UserError
from launch.engine import experiments, trained_runs
from launch.reporting import image_files
from launch.scoring import image_sets, nearest, reals, sample_metrics, segmenter_metrics

logger = logging.getLogger("segen")


def scores(
    restored: trained_runs.Restored, options: argparse.Namespace, measured: reals.Reals | None
) -> tuple[dict, Callable[[], None] | None, reals.Reals | None]:
    """Computes all scores that the options of `launch.evaluate` ask for.

    Args:
      restored: the run.
      options: of the command, with `stem`, a part of the names of files.
      measured: what an earlier call with the same data returned; None for the first call.

    Returns:
      The scores and their card; what draws a figure of them, or None; and what they were compared
      with, None without scores by features.

    Raises:
      UserError: images that the task does not make, too few of them, or a classifier or segmenter
        that does not suit the data.
    """
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
