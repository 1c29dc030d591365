"""python -m launch.predict --workdir=runs/unet --images='photos/*.jpg' --out=DIR

Label maps of images of any size from a trained segmenter: masks/, overlays/ and
report.json. With --masks, exact scores at full size.
"""

import argparse
import contextlib
import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.metrics import pixel_scores
from launch import cli
from launch.config.errors import UserError
from launch.data import classes, images, sources
from launch.engine import experiments, sharding, trained_runs
from launch.inference import input_files
from launch.inference.segmenter import Files, Segmenter
from launch.reporting import label_files

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Parses the command line and predicts."""
    arguments = cli.parser("predict", "Masks, overlays and a report; images of any size.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--images", required=True, help="a file, a folder, or a pattern in quotes")
    add("--out", type=Path, required=True, help="folder for what is written")
    add("--masks", type=Path, help="folder of true masks, matched by name: adds exact scores")
    add("--depth", type=Path, help="folder of depth, matched by name")
    add("--prior", default="", help='class shares of these images, "0.7,0.2,0.1", or "estimate"')
    add("--flips", action="store_true", help="average over the image and its mirror image")
    add("--passes", type=int, default=0, help="average dropout samples, and map how they differ")
    add("--crf", action="store_true", help="refine by a fully connected CRF")
    add("--min_size", type=int, default=0, help="remove regions of fewer pixels")
    add("--fill_holes", type=_ids, default=(), help="classes whose holes are filled, as 1,2")
    add("--step", type=int, help="which checkpoint (default: the newest)")
    add("--batch_size", type=int, default=1, help="windows at a time (default: 1)")
    options, overrides = cli.parse(arguments, argv)
    if options.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, got {options.batch_size}")
    if options.min_size < 0 or options.passes < 0:
        raise UserError("--min_size and --passes must not be negative")
    paths = input_files.find(options.images)
    belonging = (input_files.partners(paths, folder) for folder in (options.masks, options.depth))
    items = list(map(Files, paths, *belonging))
    sharding.set_up_jax()
    how = {"flips": options.flips, "passes": options.passes}
    how = {key: value for key, value in how.items() if value}
    restored = trained_runs.restore(options.workdir, overrides, options.step, None, how)
    restored.config.predict.refine += [{"name": "jaxseg.inference.crf:dense_crf"}] * options.crf
    restored.config.predict.postprocess += cleaning(options.min_size, options.fill_holes)
    segmenter = Segmenter(restored, options.batch_size, options.depth is not None)
    if max(options.fill_holes, default=0) >= segmenter.classes:
        raise UserError(
            f"--fill_holes: there is no class {max(options.fill_holes)}; ids are 0 to "
            f"{segmenter.classes - 1}"
        )
    failed = predict(segmenter, items, options.out, segmenter.prior(options.prior, items))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(items)} images could not be predicted; the others are in "
            f"{options.out}:\n  " + "\n  ".join(failed)
        )


def cleaning(min_size: int, fill_holes: tuple[int, ...]) -> list[dict]:
    """Post-processing that flags ask for, as the config names it."""
    wanted = []
    if min_size > 0:
        wanted.append({"name": "jaxseg.inference.postprocess:remove_small", "min_size": min_size})
    if fill_holes:
        wanted.append({"name": "jaxseg.inference.postprocess:fill_holes", "classes": fill_holes})
    return wanted


def predict(segmenter: Segmenter, items: list[Files], out: Path, prior: Any) -> list[str]:
    """Predicts every image, and writes masks/, overlays/, report.json.

    Args:
      segmenter: the trained net.
      items: the images.
      out: the folder.
      prior: what `segmenter.prior` returned.

    Returns:
      A line for each image that could not be predicted; the others are done.
    """
    out.mkdir(parents=True, exist_ok=True)
    entries, failed, counts, began = [], [], 0, time.perf_counter()
    binary = _is_binary(segmenter, items)
    for number, item in enumerate(items, 1):
        try:
            entry, confusion = predict_one(segmenter, item, out, prior, binary)
        except ValueError as error:  # of this file; the others can do without it
            named = isinstance(error, images.BadFile) or str(item.image) in str(error)
            failed.append(str(error) if named else f"{item.image}: {error}")
            logger.info(f"{number}/{len(items)} {failed[-1]}")
            continue
        entries.append(entry)
        counts = counts + confusion
        left = (time.perf_counter() - began) / number * (len(items) - number)
        size = f"{entry['width']} x {entry['height']}"
        seconds = entry["seconds"]
        logger.info(
            f"{number}/{len(items)} {item.image.name}: {size}, {seconds:.2f} s, ETA {left:.0f} s"
        )
    report = {"step": segmenter.restored.step, "classes": list(segmenter.names)}
    if np.any(counts):
        report["scores"] = experiments.for_json(pixel_scores.scores(counts, segmenter.names))
        print(json.dumps(report["scores"]))
    report |= {"images": entries, "failed": failed}
    working = out / "report.tmp"
    working.write_text(json.dumps(report, indent=2) + "\n")
    working.replace(out / "report.json")
    logger.info(f"{len(entries)} images in {out} (masks/, overlays/, report.json)")
    return failed


def predict_one(
    segmenter: Segmenter, item: Files, out: Path, prior: Any, binary: bool
) -> tuple[dict, Any]:
    """Predicts one image and writes its pictures; returns its report and confusion."""
    began, name = time.perf_counter(), f"{item.image.stem}.png"
    example = segmenter.read(item)
    truth = _truth(segmenter, item, example["image"].shape[:2], binary)
    found = segmenter.label(example, prior)
    label_files.save_labels(out / "masks" / name, found.labels)
    label_files.save_overlay(out / "overlays" / name, example["image"], found.labels)
    for key, values in found.uncertainty.items():
        label_files.save_heat(out / key / name, values)
    count, size = segmenter.classes, found.labels.size
    shares = np.bincount(found.labels.ravel(), minlength=count) / size
    entry = {
        "image": str(item.image),
        "width": found.labels.shape[1],
        "height": found.labels.shape[0],
        "shares": dict(zip(segmenter.names, shares.round(6).tolist(), strict=True)),
        "mean_entropy": round(found.entropy, 6),
    }
    confusion = 0
    if truth is not None:
        counted = truth < count
        pairs = truth[counted].astype(np.int64) * count + found.labels[counted]
        confusion = np.bincount(pairs, minlength=count**2).reshape(count, count)
        entry["scores"] = experiments.for_json(pixel_scores.scores(confusion, segmenter.names))
    return entry | {"seconds": round(time.perf_counter() - began, 3)}, confusion


def _truth(segmenter, item, shape, binary):
    """The true mask, ids and 255 where ignored; None where there is none."""
    if item.mask is None:
        return None
    colours, table = _tables(segmenter, item.mask)
    _check_names(segmenter, item.mask.parent.parent, table)
    ids = images.read_mask(item.mask, colours)
    if ids.shape != shape:
        raise images.other_size(item.mask, ids.shape, item.image, shape)
    return classes.checked(item.mask, ids, segmenter.classes, _ignore(segmenter), binary)


def _tables(segmenter, mask):
    """Colours of the masks' folder, or else of the training data; the folder's own table."""
    roots = mask.parent.parent, sources.local_folder(segmenter.restored.config.data.path)
    tables = [classes.read_table(root) for root in roots if root]
    colours = next((table.colours for table in tables if table and table.colours), None)
    return colours, tables[0]


def _ignore(segmenter):
    return segmenter.restored.config.data.kwargs.get("ignore", classes.IGNORED)


def _is_binary(segmenter, items):
    """Whether the true masks say 255 for class 1: in training, or all of their folder do.

    One mask alone does not tell: of classes 0, 1 and void (255) it may lack the 1.
    """
    if segmenter.restored.data.binary:
        return True
    if segmenter.classes != 2 or _ignore(segmenter) != 255:
        return False
    values = set()
    for folder in {item.mask.parent for item in items if item.mask}:
        for mask in sorted(folder.iterdir()):
            if mask.suffix.lower() in images.SUFFIXES:
                with contextlib.suppress(ValueError):  # it is named when it is its turn
                    values |= set(np.unique(images.read_mask(mask, _tables(segmenter, mask)[0])))
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


def _ids(text):
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} are no ids of classes; write 1 or 1,2")
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    cli.run(main)
