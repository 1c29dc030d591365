"""python -m launch.predict --workdir=runs/unet --images='photos/*.jpg' --out=DIR

Predicts label maps with a trained segmenter, for images of any size: writes masks/,
overlays/ and report.json. With --masks, adds exact scores at full size.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.metrics import pixel_scores
from launch import cli, distributed
from launch.config.errors import UserError
from launch.data import classes, image_formats, images, sources
from launch.data.bad_file import BadFile
from launch.data.folders import examples
from launch.distributed import shares
from launch.engine import experiments, trained_runs
from launch.inference import flags, input_files
from launch.inference.segmenter import Files, Segmenter
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
    with cli.together(options) as group:
        _predict_files(options, overrides, group)


def _predict_files(options, overrides, group):
    """Predicts what --images names; several processes share the images out."""
    paths = input_files.find(options.images)
    masks = input_files.partners(paths, options.masks)
    items = list(map(Files, paths, masks, input_files.partners(paths, options.depth)))
    names = "\n".join(path.stem for path in paths)
    digest = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()
    group.check_same("--images", {"number of images": len(paths), "hash of their names": digest})
    task = {"flips": options.flips, "passes": options.passes}
    task = {key: value for key, value in task.items() if value}
    arguments = options.workdir, overrides, options.step, None, task
    restored = trained_runs.restore(*arguments, group=group, local=True)
    segmenter = Segmenter(
        restored,
        options.batch_size,
        options.depth is not None,
        refine=[{"name": "jaxseg.inference.crf:dense_crf"}] * options.crf,
        postprocess=cleaning(options.min_size, options.fill_holes),
    )
    if options.fill_holes and max(options.fill_holes) >= segmenter.classes:
        raise UserError(
            f"--fill_holes: there is no class {max(options.fill_holes)}; ids are 0 to "
            f"{segmenter.classes - 1}"
        )
    for line in segmenter.reading.lines if segmenter.reading else ():
        logger.info(f"trained on {line}")
    failed = predict(segmenter, items, options.out, segmenter.prior(options.prior, items))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(items)} images could not be predicted; the others are in "
            f"{options.out}:\n  " + "\n  ".join(failed)
        )


def cleaning(min_size: int, fill_holes: tuple[int, ...]) -> list[dict]:
    """Lists the post-processing that flags ask for, in the form of the config.

    Args:
      min_size: regions of fewer pixels are removed; 0 for none.
      fill_holes: the classes whose holes are filled.

    Returns:
      Entries for `config.predict.postprocess`.
    """
    steps = []
    if min_size > 0:
        steps.append({"name": "jaxseg.inference.postprocess:remove_small", "min_size": min_size})
    if fill_holes:
        steps.append({"name": "jaxseg.inference.postprocess:fill_holes", "classes": fill_holes})
    return steps


def predict(segmenter: Segmenter, items: list[Files], out: Path, prior: Any) -> list[str]:
    """Predicts every image, and writes masks/, overlays/ and report.json.

    Of several processes each predicts and writes its share, and process 0 the report of all.

    Args:
      segmenter: the trained net.
      items: the files of each image.
      out: the folder.
      prior: the result of `segmenter.prior`.

    Returns:
      A line for each image that could not be predicted; the others are written.
    """
    group = segmenter.restored.group
    group.on_process_zero("--out", lambda: out.mkdir(parents=True, exist_ok=True))
    group.check_shared(out, "--out")
    own, done, counts, start = shares.own(group, items), [], 0, time.perf_counter()
    binary = _is_binary(segmenter, items)
    for number, item in enumerate(own, 1):
        try:
            entry, confusion = predict_one(segmenter, item, out, prior, binary)
        except ValueError as error:  # a problem of this image; the others are not affected
            names_file = isinstance(error, BadFile) or str(item.image) in str(error)
            done.append(str(error) if names_file else f"{item.image}: {error}")
            logger.info(f"{number}/{len(own)} {done[-1]}")
            continue
        done.append(entry)
        counts = counts + confusion
        left = (time.perf_counter() - start) / number * (len(own) - number)
        logger.info(
            f"{number}/{len(own)} {item.image.name}: {entry['width']} x {entry['height']}, "
            f"{entry['seconds']:.2f} s, ETA {left:.0f} s"
        )
    counts = np.asarray(counts).tolist()
    gathered = group.all_gather("the scores", counts, distributed.WORK_SECONDS)
    counts = sum(map(np.array, gathered))
    done = shares.in_order(group, "the report", done, len(items))
    failed = [line for line in done if isinstance(line, str)]
    entries = [entry for entry in done if not isinstance(entry, str)]
    if group.is_process_zero:
        _report(segmenter, out, entries, failed, counts)
    return failed


def _report(segmenter, out, entries, failed, counts):
    """Prints the scores of all images, and writes report.json."""
    report = {"step": segmenter.restored.step, "classes": list(segmenter.names)}
    if np.any(counts):
        report["scores"] = experiments.for_json(pixel_scores.scores(counts, segmenter.names))
        print(json.dumps(report["scores"]))
    report |= {"images": entries, "failed": failed}
    with atomic.replacing(out / "report.json") as working:
        working.write_text(json.dumps(report, indent=2) + "\n")
    logger.info(f"{len(entries)} images in {out} (masks/, overlays/, report.json)")


def predict_one(
    segmenter: Segmenter, item: Files, out: Path, prior: Any, binary: bool
) -> tuple[dict, Any]:
    """Predicts one image and writes its mask, its overlay and its maps of uncertainty.

    Args:
      segmenter: the trained net.
      item: the files of the image.
      out: the folder.
      prior: the result of `segmenter.prior`.
      binary: whether 255 means class 1 in the true mask.

    Returns:
      The image's entry in report.json, and its confusion matrix: integers [K, K], truth
      by prediction; 0 where there is no true mask.

    Raises:
      ValueError: a file of this image cannot be used.
    """
    start, name = time.perf_counter(), f"{item.image.stem}.png"
    example = segmenter.read(item)
    truth = _truth(segmenter, item, example["image"].shape[:2], binary)
    prediction = segmenter.label(example, prior)
    labels, count = prediction.labels, segmenter.classes
    label_files.save_labels(out / "masks" / name, labels)
    label_files.save_overlay(out / "overlays" / name, example["image"], labels)
    for key, values in prediction.uncertainty.items():
        label_files.save_heat(out / key / name, values)
    shares = np.bincount(labels.ravel(), minlength=count) / labels.size
    entry = {
        "image": str(item.image),
        "width": labels.shape[1],
        "height": labels.shape[0],
        "shares": dict(zip(segmenter.names, shares.round(6).tolist(), strict=True)),
        "mean_entropy": round(prediction.entropy, 6),
    }
    confusion = 0
    if truth is not None:
        counted = truth < count
        cells = truth[counted].astype(np.int64) * count + labels[counted]
        confusion = np.bincount(cells, minlength=count**2).reshape(count, count)
        entry["scores"] = experiments.for_json(pixel_scores.scores(confusion, segmenter.names))
    return entry | {"seconds": round(time.perf_counter() - start, 3)}, confusion


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    arguments = cli.parser("predict", "Masks, overlays and a report; images of any size.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--images", required=True, help="a file, a folder, or a pattern in quotes")
    add("--out", type=flags.out_folder, required=True, help="the folder for the results")
    add("--masks", type=Path, help="folder of true masks, matched by name: adds exact scores")
    add("--depth", type=Path, help="folder of depth maps, matched by name")
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
    return options, overrides


def _truth(segmenter, item, shape, binary):
    """The true mask [H, W]: ids, and 255 where ignored; None where there is none."""
    if item.mask is None:
        return None
    table = _tables(segmenter, item.mask)[1]
    _check_names(segmenter, item.mask.parent.parent, table)
    ids = _ids(segmenter, item.mask)
    if ids.shape != shape:
        raise images.wrong_size(item.mask, ids.shape, item.image, shape)
    return classes.check_ids(item.mask, ids, segmenter.classes, _ignore(segmenter), binary)


def _tables(segmenter, mask):
    """Colours from the folder of the masks, or else of training; and the former's table."""
    roots = mask.parent.parent, sources.local_folder(segmenter.restored.config.data.path)
    tables = [classes.read_table(root) for root in roots if root]
    colours = next((table.colours for table in tables if table and table.colours), None)
    return colours, tables[0]


def _ids(segmenter, mask):
    return examples.read_ids(mask, segmenter.reading, _tables(segmenter, mask)[0])


def _ignore(segmenter):
    return segmenter.restored.config.data.kwargs.get("ignore", classes.IGNORED)


def _is_binary(segmenter, items):
    """Whether 255 means class 1 in the true masks: in training, or in their whole folder.

    One mask alone does not decide: with the classes 0, 1 and void (255) it may lack the 1.
    """
    if segmenter.reading and segmenter.reading.binary:
        return True
    if segmenter.classes != 2 or _ignore(segmenter) != 255:
        return False
    values = set()
    for folder in {item.mask.parent for item in items if item.mask}:
        for mask in sorted(folder.iterdir()):
            if mask.suffix.lower() in image_formats.SUFFIXES:
                with contextlib.suppress(ValueError):  # reported when its image is predicted
                    values |= set(np.unique(_ids(segmenter, mask)))
            if not values <= {0, 255}:
                return False
    return 255 in values


def _check_names(segmenter, folder, table):
    """Refuses masks whose classes have another order than those of training."""
    known = segmenter.restored.data.split.classes
    if table is None or not known:
        return
    for number, name in table.names.items():
        if number < len(known) and known[number] != name:
            raise ValueError(
                f"{folder}: id {number} is {name!r} there, but {known[number]!r} in the data "
                "of training; give masks with the ids of training"
            )


def _class_ids(text):
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of class ids; write 1 or 1,2")
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    cli.run(main)
