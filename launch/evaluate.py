"""python -m launch.evaluate --workdir=runs/vae

Exact metrics of a whole split, as JSON on stdout. With --samples, --completions, --floor
or --segmenter: scores of images instead, with a card that says what they rest on.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.metrics import kernel_distance, ssim
from jaxgen.metrics import neighbours as k_nearest
from launch import cli
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import compiled_steps, experiments, sharding, trained_runs
from launch.reporting import image_files
from launch.scoring import features, nearest, sample_metrics

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Parses the command line and evaluates."""
    options, overrides = cli.parse(_arguments(), argv)
    sharding.set_up_jax()
    restored = trained_runs.restore(options.workdir, overrides, options.step, options.split)
    if options.batch_size is None:
        options.batch_size = restored.config.eval.batch_size
    for name in ("batch_size", "samples", "reals"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.neighbours < 0:
        raise UserError(f"--neighbours must be 0 or more, got {options.neighbours}")
    split = {
        "step": restored.step,
        "split": restored.data.split.title,
        "examples": restored.data.split.size,
    }
    if not (options.samples or options.completions or options.floor or options.segmenter):
        score = restored.experiment.compiled.score_step
        metrics = experiments.evaluate(
            restored.experiment, restored.state, restored.data, options.batch_size, score
        )
        return print(json.dumps(split | experiments.for_json(metrics)))
    results = split | _of_images(restored, options)
    print(json.dumps(results))


def _arguments() -> argparse.ArgumentParser:
    arguments = cli.parser(
        "evaluate",
        "Exact metrics of a whole split, as JSON on stdout; or "
        "scores of the images that a model makes.",
    )
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--step", type=int, help="which checkpoint (default: the newest)")
    add("--split", default="", help="split (default: config.eval.split)")
    add("--batch_size", type=int, help="does not change the result")
    group = arguments.add_argument_group("scores of images")
    add = group.add_argument
    add("--samples", type=int, help="score the images of seeds 0 to N - 1 against the split")
    add(
        "--completions",
        action="store_true",
        help="score what the model makes of the split's examples: reconstructions, completions",
    )
    add(
        "--floor",
        action="store_true",
        help="score real images of the training split: what no model can be expected to beat",
    )
    add(
        "--segmenter",
        type=cli.workdir,
        help="a run whose net labels the images that are made of the split's masks",
    )
    add("--reals", type=int, help="take the first N images of the split (default: all)")
    add("--inception", type=Path, help="compare features of InceptionV3 with this file of weights")
    add(
        "--neighbours",
        type=int,
        default=16,
        help="samples shown beside their nearest training images (default: 16; 0: none)",
    )
    add("--force", action="store_true", help="rest scores on a classifier below its least accuracy")
    return arguments


def _of_images(restored: trained_runs.Restored, options: argparse.Namespace) -> dict[str, Any]:
    """Scores images; writes scores/NAME-STEP.json and a figure of neighbours."""
    name = "+".join(
        key for key in ("samples", "completions", "floor", "segmenter") if getattr(options, key)
    )
    _check_task(restored, options)
    results, card = {}, {}
    if options.segmenter:
        results, card["segmenter"] = _labelled(restored, options)
    if options.samples or options.completions or options.floor:
        found, features_card = _compared(restored, options)
        results, card = results | found, card | features_card
    # Where products are rounded (TF32 on NVIDIA GPUs), so are the features.
    card["device"] = restored.experiment.mesh.devices.flat[0].device_kind
    results = experiments.for_json(results) | {"card": card}
    path = options.workdir / "scores" / f"{name}-{restored.step:08d}.json"
    path.parent.mkdir(exist_ok=True)
    told = {"step": restored.step, "split": restored.data.split.title}
    path.write_text(json.dumps(told | results, indent=2) + "\n")
    return results


def _check_task(restored, options):
    task, name = restored.experiment.task, restored.config.task.name
    if options.samples and restored.experiment.compiled.sample is None:
        raise UserError(f"--samples: {name} has no sample()")
    if (options.completions or options.segmenter) and restored.experiment.compiled.complete is None:
        flag = "--completions" if options.completions else "--segmenter"
        raise UserError(f"{flag}: {name} has no complete()")
    if options.segmenter and getattr(task, "given", "") != "segmentation":
        raise UserError(
            f"--segmenter: {name} makes images from `{task.given}`, not from `segmentation`"
        )


def _compared(restored: trained_runs.Restored, options: argparse.Namespace) -> tuple[dict, dict]:
    """Scores against the split's images, and what they rest on."""
    config, experiment, data, size = (
        restored.config,
        restored.experiment,
        restored.data,
        options.batch_size,
    )
    if options.inception:
        spec = {"name": "launch.scoring.features:inception", "weights": str(options.inception)}
        with config.unlocked():
            config.score.features = spec
    count = min(options.reals or data.split.size, data.split.size)
    if options.samples:
        sample_metrics.check_counts({"--samples": options.samples})
    net = features.build(config, options.force)
    training, floor = None, None
    if options.floor or (options.samples and options.neighbours):
        training = batches.open_data(config.data, config.data.split, "config.data")
    if options.floor:
        floor = _floor(options, data, training, count)
    sizes = {
        f"{data.split.title} (--reals, --split)": count,
        "--samples": options.samples,
        "--floor": floor,
    }
    sample_metrics.check_counts({what: n for what, n in sizes.items() if n is not None}, net.size)
    extract = sample_metrics.extractor(net, experiment.mesh)
    real = sample_metrics.real(experiment, data, size, count)
    reference = sample_metrics.measure(extract, real, count, "measuring real images")
    results = {"real/ms_ssim": sample_metrics.diversity(reference, net.classes)}
    for name, images, number in _sets(restored, options, training, count, floor):
        found = sample_metrics.measure(extract, images, number, name)
        values = sample_metrics.compare(net, reference, found)
        if name == "samples":
            values |= _of_samples(restored, options, net, extract, found, training)
        results |= {key if name == "samples" else f"{name}/{key}": v for key, v in values.items()}
    return (
        results,
        net.card
        | {
            "reals": count,
            "samples": options.samples,
            "seeds": f"0-{options.samples - 1}" if options.samples else None,
            "completions": count if options.completions else None,
            "floor": floor,
            "seed": 0,  # of the dealing into blocks
            "k": k_nearest.K,
            "kid_blocks": kernel_distance.BLOCKS,
            "ms_ssim_scales": ssim.scales(*experiment.example["image"].shape[:2]),
        },
    )


def _floor(options, data, training, count):
    """How many training images are scored as if they were samples."""
    if training.split.title == data.split.title:
        raise UserError(f"--floor: {data.split.title} is the training split; give another --split")
    return min(options.samples or count, training.split.size)


def _sets(restored, options, training, count, floor):
    """The sets of images to score: (name, batches of images and mask, their number)."""
    experiment, size = restored.experiment, options.batch_size
    if options.samples:
        classes = restored.config.task.get("classes", 0)
        drawn = sample_metrics.sampled(experiment, restored.state, classes, size, options.samples)
        yield "samples", drawn, options.samples
    if options.completions:
        made = sample_metrics.completed(restored, size, count)
        put = experiment.compiled.put_batch
        yield "completions", ((images, put(batch["mask"])) for images, batch in made), count
    if floor:
        yield "floor", sample_metrics.real(experiment, training, size, floor), floor


def _of_samples(restored, options, net, extract, found, training):
    """What is asked of samples alone: are they of their class, are they copies?"""
    results, classes = {}, restored.config.task.get("classes", 0)
    if classes and classes == net.classes:
        right = found.classes == np.arange(len(found.classes)) % classes
        results["class_agreement"] = float(right.mean())
    if options.neighbours:
        logger.info("looking for the nearest training images")
        shown = slice(options.neighbours)
        images = sample_metrics.real(
            restored.experiment, training, options.batch_size, training.split.size
        )
        figure = nearest.figure(extract, found.images[shown], found.features[shown], images)
        path = options.workdir / "figures" / f"neighbours-{restored.step:08d}.png"
        image_files.save(path, figure)
        logger.info(f"{path}: samples, the nearest by pixels, the nearest by features")
    return results


def _labelled(restored: trained_runs.Restored, options: argparse.Namespace) -> tuple[dict, dict]:
    """Scores of a trained segmenter on the images made of masks, and on the real ones.

    Its own exact metrics, mean_iou among them; and what they rest on.
    """
    segmenter = trained_runs.restore(options.segmenter, [], None, None)
    _check_segmenter(restored, segmenter, options.segmenter)
    count = min(options.reals or restored.data.split.size, restored.data.split.size)
    parts = {"segmenter": [], "segmenter/real": []}
    label = segmenter.experiment.compiled.eval_step
    for images, batch in sample_metrics.completed(restored, options.batch_size, count):
        batch = {key: batch[key] for key in (*segmenter.experiment.example, "index", "mask")}
        drawn = np.round(np.clip(jax.device_get(images), 0.0, 1.0) * 255.0).astype(np.uint8)
        for name, image in (("segmenter", drawn), ("segmenter/real", batch["image"])):
            put = segmenter.experiment.compiled.put_batch(batch | {"image": image})
            parts[name].append(jax.device_get(label(segmenter.state, put)))
    results = {}
    for name, sums in parts.items():
        values = segmenter.experiment.task.finish(compiled_steps.total(sums))
        results |= {f"{name}/{key}": float(value) for key, value in values.items()}
    weights = features.weights_hash(getattr(segmenter.state, "params", segmenter.state))
    card = {"workdir": str(options.segmenter), "step": segmenter.step, "weights": weights}
    return results, card | {"images": count}


def _check_segmenter(restored, segmenter, workdir):
    """Refuses a segmenter of other images, or of other classes, than the masks have."""
    if segmenter.experiment.compiled.predict is None:
        raise UserError(f"--segmenter: {workdir}: {segmenter.config.task.name} labels no images")
    made = restored.experiment.example
    for key, leaf in segmenter.experiment.example.items():
        if key not in made or made[key].shape != leaf.shape:
            found = list(made[key].shape) if key in made else "none"
            raise UserError(
                f"--segmenter: {workdir} was trained on `{key}` {list(leaf.shape)}; "
                f"{restored.data.split.title} has {found}"
            )
    classes = segmenter.data.split.classes
    if classes and restored.data.split.classes and classes != restored.data.split.classes:
        raise UserError(
            f"--segmenter: {workdir} knows the classes {', '.join(classes)}; the masks have "
            f"{', '.join(restored.data.split.classes)}"
        )


if __name__ == "__main__":
    cli.run(main)
