"""python -m launch.predict --workdir=runs/unet --images='photos/*.jpg' --out=DIR

Predicts label maps with a trained segmenter, or with several, for images of any size: writes
masks/, overlays/ and report.json. With --masks, adds exact scores at full size.
"""

import argparse
import hashlib
import json
import logging
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from launch import cli, distributed
from launch.config.errors import UserError
from launch.data.bad_file import BadFile
from launch.distributed import shares
from launch.engine import experiments, trained_runs
from launch.inference import ensembles, flags, input_files, results, true_masks
from launch.inference.decisions.prediction import Settings
from launch.inference.members import Files
from launch.inference.segmenter import Segmenter
from launch.reporting import label_files
from launch.storage import atomic

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Parses the command line and predicts.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments, or images that could not be predicted.
    """
    options, overrides = _parse(argv)
    workdirs = vars(options).pop("workdir")  # paths may differ between hosts
    with cli.together(options) as group:
        _predict_files(workdirs, options, overrides, group)


def _predict_files(workdirs, options, overrides, group):
    """Predicts what --images names; several processes share the images out."""
    items = _items(options)
    names = "\n".join(item.title for item in items)
    digest = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()
    group.check_same("--images", {"number of images": len(items), "hash of their names": digest})
    runs = group.on_all("--workdir", partial(_runs, workdirs))
    group.check_same("--workdir", {"number of runs": len(runs)})
    task = {"flips": options.flips, "passes": options.passes}
    task = {key: value for key, value in task.items() if value}
    arguments = overrides, options.step, None, task
    restored = [trained_runs.restore(run, *arguments, group=group, local=True) for run in runs]
    settings = Settings(
        threshold=options.threshold,
        crf=options.crf,
        min_size=options.min_size,
        fill_holes=options.fill_holes,
        maps=bool(options.probabilities),
    )
    segmenter = Segmenter(restored, options.batch_size, options.depth is not None, settings)
    items = _with_masks(segmenter, items, options)
    for line in segmenter.reading.lines if segmenter.reading else ():
        logger.info(f"trained on {line}")
    prior = segmenter.prior(options.prior, items)
    failed = predict(segmenter, items, options.out, prior, options.probabilities, runs)
    if failed:
        rest = f"; the others are in {options.out}" if len(failed) < len(items) else ""
        raise UserError(
            f"{len(failed)} of {len(items)} images could not be predicted{rest}:\n  "
            + "\n  ".join(failed)
        )


def _items(options):
    """The files of each image, without its mask."""
    named = input_files.find_named(options.images, partial(results.is_result, options.out))
    depths = input_files.partners(named, options.depth)
    items = [
        Files(image.path, None, depth, image.name)
        for image, depth in zip(named, depths, strict=True)
    ]
    results.check_apart(options.out, items)
    return items


def _with_masks(segmenter, items, options):
    """The same files with their masks, which the decision finds as its classes need it."""
    named = [input_files.Named(item.image, item.title) for item in items]
    masks = segmenter.decision.masks(named, options.masks)
    items = [item._replace(mask=mask) for item, mask in zip(items, masks, strict=True)]
    results.check_apart(options.out, items)
    return items


def _runs(workdirs):
    """The folders of the runs, which can be averaged if they are several."""
    runs = ensembles.find_runs(workdirs)
    if len(runs) > 1:
        ensembles.check_alike(runs)
    return runs


def predict(
    segmenter: Segmenter,
    items: list[Files],
    out: Path,
    prior: Any,
    probabilities: str = "",
    runs: list[Path] = (),
) -> list[str]:
    """Predicts every image, and writes masks/, overlays/ and report.json.

    Of several processes each predicts and writes its share, and process 0 the report of all.

    Args:
      segmenter: the trained nets.
      items: the files of each image.
      out: the folder.
      prior: the result of `segmenter.prior`.
      probabilities: the form of probabilities/, one of `results.FORMS`; "" for none.
      runs: the folders of the nets.

    Returns:
      A line for each image that could not be predicted; the others are written.
    """
    group = segmenter.restored.group
    group.on_process_zero("--out", lambda: out.mkdir(parents=True, exist_ok=True))
    group.check_shared(out, "--out")
    own, done, sums, start = shares.own(group, items), [], {}, time.perf_counter()
    binary = true_masks.is_binary(segmenter, items)
    for number, item in enumerate(own, 1):
        try:
            entry, more = predict_one(segmenter, item, out, prior, binary, probabilities)
        except ValueError as error:  # a problem of this image; the others are not affected
            names_file = isinstance(error, BadFile) or str(item.image) in str(error)
            done.append(str(error) if names_file else f"{item.image}: {error}")
            logger.info(f"{number}/{len(own)} {done[-1]}")
            continue
        done.append(entry)
        sums = _added([sums, more])
        left = (time.perf_counter() - start) / number * (len(own) - number)
        logger.info(
            f"{number}/{len(own)} {item.title}{item.image.suffix}: {entry['width']} x "
            f"{entry['height']}, {entry['seconds']:.2f} s, ETA {left:.0f} s"
        )
    sums = {key: np.asarray(value).tolist() for key, value in sums.items()}
    sums = _added(group.all_gather("the scores", sums, distributed.WORK_SECONDS))
    done = shares.in_order(group, "the report", done, len(items))
    failed = [line for line in done if isinstance(line, str)]
    entries = [entry for entry in done if not isinstance(entry, str)]
    if group.is_process_zero:
        scores = segmenter.decision.scores(sums) if any(map(np.any, sums.values())) else {}
        _report(segmenter, runs, out, entries, failed, scores)
        folders = [*segmenter.decision.folders, *["probabilities"] * bool(probabilities)]
        written = "".join(f"{folder}/, " for folder in folders)
        logger.info(f"{len(entries)} images in {out} ({written}report.json)")
    return failed


def _added(parts):
    """Adds sums of the same keys; {} where there are none."""
    parts = [part for part in parts if part]
    return {key: sum(np.asarray(part[key]) for part in parts) for key in parts[0]} if parts else {}


def _report(segmenter, runs, out, entries, failed, scores):
    """Prints the scores of all images, and writes report.json."""
    report = {"step": segmenter.restored.step, "classes": list(segmenter.names)}
    if len(runs) > 1:
        steps = [member.restored.step for member in segmenter.members]
        members = zip(map(str, runs), steps, strict=True)
        report["members"] = [{"workdir": run, "step": step} for run, step in members]
        del report["step"]
    if scores:
        report["scores"] = experiments.for_json(scores)
        print(json.dumps(report["scores"]))
    report |= {"images": entries, "failed": failed}
    with atomic.replacing(out / "report.json") as working:
        working.write_text(json.dumps(report, indent=2) + "\n")


def predict_one(
    segmenter: Segmenter, item: Files, out: Path, prior: Any, binary: bool, probabilities: str = ""
) -> tuple[dict, dict]:
    """Predicts one image and writes its mask, its overlay and its maps.

    Args:
      segmenter: the trained nets.
      item: the files of the image.
      out: the folder.
      prior: the result of `segmenter.prior`.
      binary: whether 255 means class 1 in the true mask.
      probabilities: the form of probabilities/; "" for none.

    Returns:
      The image's entry in report.json, and the sums of its scores; {} where there is no
      true mask.

    Raises:
      ValueError: a file of this image cannot be used.
    """
    start, decision = time.perf_counter(), segmenter.decision
    examples = segmenter.read(item)
    image = examples[0]["image"]
    truth = decision.truth(segmenter, item, image.shape[:2], binary)
    place = results.place_of(item, out, bool(segmenter.reading and segmenter.reading.stored))
    prediction = segmenter.label(examples, prior)
    decision.save(place, image, prediction)
    if probabilities:
        results.save_probabilities(place, prediction.maps, decision.planes, probabilities)
    for key, values in prediction.uncertainty.items():
        label_files.save_heat(place.path(key), values)
    entry = {"image": str(item.image), "width": image.shape[1], "height": image.shape[0]}
    entry |= decision.summary(prediction, place)
    sums = {} if truth is None else decision.sums(prediction, truth, place)
    if sums:
        entry["scores"] = experiments.for_json(decision.scores(sums))
    return entry | {"seconds": round(time.perf_counter() - start, 3)}, sums


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    arguments = cli.parser("predict", "Masks, overlays and a report; images of any size.")
    add = arguments.add_argument
    add(
        "--workdir",
        type=cli.workdir,
        required=True,
        nargs="+",
        action="extend",
        help="a run; of several runs, or a folder of fold1, fold2, ..., the mean is predicted",
    )
    add("--images", required=True, help="a file, a folder, or a pattern in quotes")
    add("--out", type=flags.out_folder, required=True, help="the folder for the results")
    add("--masks", type=Path, help="folder of true masks, matched by name: adds exact scores")
    add("--depth", type=Path, help="folder of depth maps, matched by name")
    add("--probabilities", default="", choices=results.FORMS, help="also write probabilities/")
    add("--threshold", type=float, help="least probability of class 1 of two (default: 0.5)")
    add("--prior", default="", help='class shares of these images, "0.7,0.2,0.1", or "estimate"')
    add("--flips", action="store_true", help="average over the image and its mirror image")
    add("--passes", type=int, default=0, help="average dropout samples, and map how they differ")
    add("--crf", action="store_true", help="refine with a fully connected CRF")
    add("--min_size", type=int, default=0, help="remove regions of fewer pixels")
    add("--fill_holes", type=_class_ids, default=(), help="classes whose holes are filled, as 1,2")
    flags.add_step(add)
    add("--batch_size", type=int, default=1, help="windows at a time (default: 1)")
    distributed.add_arguments(arguments)
    options, overrides = cli.parse(arguments, argv)
    if options.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, got {options.batch_size}")
    if options.min_size < 0 or options.passes < 0:
        raise UserError("--min_size and --passes must not be negative")
    if options.threshold is not None and not 0 < options.threshold < 1:
        raise UserError(f"--threshold must be between 0 and 1, got {options.threshold}")
    return options, overrides


def _class_ids(text):
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of class ids; write 1 or 1,2")
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    cli.run(main)
