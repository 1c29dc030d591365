"""python -m launch.check DIR [--classes=K] [--ignore=255]

Reads every file of a folder of images and masks (see launch.data.folders) and lists
all that is wrong with it in one pass: file, place, what, cure. Exits with 1 if there
is a fault; else with 0, and says what the folder holds.
"""

import dataclasses
import hashlib
import logging
import os
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from launch import cli
from launch.config.errors import CommandExit, UserError
from launch.data import classes as labels
from launch.data import images, pairs
from launch.data.images import BadFile
from launch.data.pairs import Pair

logger = logging.getLogger("segen")

IDS_NAMED = 5  # wrong ids of one mask that are listed one by one


@dataclasses.dataclass
class Found:
    """What one example's files hold.

    Attributes:
      counts: {id: pixels} of the mask; empty if it cannot be read.
      size: (height, width) of the image; None if it cannot be read.
      digest: of the image's pixels.
      depth: least and largest metres, and share of unknown pixels; None without depth.
    """

    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] | None = None
    digest: str = ""
    depth: tuple[float, float, float] | None = None


@dataclasses.dataclass
class Report:
    """What a folder holds, and what is wrong with it.

    Attributes:
      faults: what stops training.
      warnings: what is probably not meant.
      classes: names of the classes.
      ignore: the id of void.
      found: {split: what its examples hold}.
      counts: {split: {id: pixels}}.
    """

    faults: list[BadFile] = dataclasses.field(default_factory=list)
    warnings: list[BadFile] = dataclasses.field(default_factory=list)
    classes: tuple[str, ...] = ()
    ignore: int = 255
    found: dict[str, list[Found]] = dataclasses.field(default_factory=dict)
    counts: dict[str, Counter] = dataclasses.field(default_factory=dict)


def main(argv: list[str]) -> None:
    """Parses the command line, checks, and prints."""
    arguments = cli.parser("check", "Lists all that is wrong with a folder of images and masks.")
    arguments.epilog = "Exit codes: 0 sound, 1 there are faults, 2 your mistake."
    arguments.add_argument("folder", type=Path, metavar="DIR", help="the folder")
    arguments.add_argument("--classes", type=int, default=0, help="default: what the folder says")
    arguments.add_argument("--ignore", type=int, default=255, help="id of void (default: 255)")
    options = cli.parse_alone(arguments, argv)
    if not 0 <= options.classes <= labels.MOST:
        raise UserError(f"--classes must be 0 to {labels.MOST}, got {options.classes}")
    root = options.folder.expanduser()
    if not root.is_dir():
        raise UserError(f"no such directory: {root}")
    report = check(root, options.classes, options.ignore)
    text = "\n\n".join(filter(None, (table(report, root), summary(report))))
    _print(text)
    if report.faults:
        raise CommandExit(f"{_count(report.faults, 'fault')}, {_count(report.warnings, 'warning')}")
    warned = f", {_count(report.warnings, 'warning')}" if report.warnings else ""
    logger.info(f"{root} is sound{warned}")


def _print(text):
    try:
        print(*filter(None, [text]), flush=True)
    except BrokenPipeError:  # of `| head`; Python would complain once more when it leaves
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check(root: Path, classes: int = 0, ignore: int = 255) -> Report:
    """Reads every file of a folder and goes on after each fault.

    Args:
      root: the folder.
      classes: K; 0 for what the folder says.
      ignore: the id of void in the masks.
    """
    report = Report(ignore=ignore)
    parts, report.faults = pairs.find(root)
    _check_splits(report, root, parts)
    names = None
    try:
        names = labels.read_table(root)
    except BadFile as fault:
        report.faults.append(fault)
    colours = names.colours if names else {}
    pool = ThreadPoolExecutor()  # Pillow decodes outside the interpreter's lock
    with pool:
        for split, part in parts.items():
            jobs = pool.map(lambda pair: read(pair, colours), part)
            report.found[split] = []
            for found, faults in jobs:
                report.found[split].append(found)
                report.faults += faults
    seen = [found for part in report.found.values() for found in part]
    values = set().union(*(found.counts for found in seen))
    if not values:
        return report
    number, binary = _classes(report, root, names, classes, values)
    report.classes = labels.names(names, number, ignore)
    for split, part in parts.items():
        report.counts[split] = Counter()
        for pair, found in zip(part, report.found[split], strict=True):
            if binary:
                found.counts = {min(value, 1): many for value, many in found.counts.items()}
            _check_ids(report, pair, found, number, binary, colours)
            report.counts[split].update(found.counts)
    _check_presence(report, root)
    _check_leaks(report, parts)
    return report


def read(pair: Pair, colours: dict) -> tuple[Found, list[BadFile]]:
    """Reads the files of one example, each on its own, and compares their sizes."""
    found, faults, shapes = Found(), [], {}
    readers = images.read_image, lambda path: images.read_mask(path, colours), images.read_depth
    for path, reader in zip(pair.files, readers, strict=False):
        try:
            array = reader(path)
        except BadFile as fault:
            faults.append(fault)
            continue
        shapes[path] = array.shape[:2]
        if path == pair.image:
            found.size = array.shape[:2]
            found.digest = hashlib.blake2b(array.tobytes() + bytes(str(array.shape), "ascii"))
            found.digest = found.digest.hexdigest()
        elif path == pair.mask:
            values, counts = np.unique(array, return_counts=True)
            found.counts = dict(zip(values.tolist(), counts.tolist(), strict=True))
        else:
            known = array[array > 0] if np.any(array) else np.zeros(1)
            found.depth = float(known.min()), float(known.max()), float(np.mean(array == 0))
    for path, shape in shapes.items():
        if found.size and shape != found.size:
            faults.append(images.other_size(path, shape, pair.image, found.size))
    return found, faults


def _classes(report, root, names, classes, values):
    """The number of classes and whether 255 means 1; where that fails, the best guess."""
    try:
        return labels.count(root, names, classes, report.ignore, values)
    except BadFile as fault:
        if names and classes:  # they contradict each other
            report.faults.append(fault)
            return _classes(report, root, names, 0, values)
        if names:
            report.faults.append(fault)
        # No number fits: what the ids are up to their first gap.
        gap = next(number for number in range(len(values) + 1) if number not in values)
        return max(1, min(gap, labels.MOST)), False


def _check_ids(report, pair, found, number, binary, colours):
    """Ids out of range, each with its first pixel; masks without any label."""
    known = {*range(number)} - {report.ignore}
    wrong = [value for value in found.counts if not (value in known or value == report.ignore)]
    if wrong:
        ids = images.read_mask(pair.mask, colours)
        for value in wrong[:IDS_NAMED]:
            only = np.where(ids == value, ids.astype(np.int64), report.ignore)
            try:
                labels.checked(pair.mask, only, number, report.ignore)
            except BadFile as fault:
                report.faults.append(fault)
        if len(wrong) > IDS_NAMED:
            what = f"{len(wrong) - IDS_NAMED} more ids out of range, up to {max(wrong)}"
            report.faults.append(BadFile(pair.mask, what, "Mend the mask."))
        return
    if found.counts.keys() == {report.ignore} and not binary:
        cure = "Leave the pair out, or label something."
        report.warnings.append(
            BadFile(pair.mask, f"all pixels are void (id {report.ignore})", cure)
        )
    elif number == 2 and not binary and 255 in found.counts and found.counts.keys() <= {0, 255}:
        cure = "If it means 1, save it as the other masks are: as 1."
        report.warnings.append(BadFile(pair.mask, "255 is void here, and nothing is 1", cure))


def _check_splits(report, root, parts):
    """Splits that training asks for by default and that are empty, or that lack depth."""
    held = [split for split in ("val", "test", "train") if parts.get(split)]
    for split, key in (("train", "data.split"), ("val", "eval.split")):
        if held and split not in held:
            cure = f"Add some, or train with --config.{key}={held[0]}."
            report.warnings.append(BadFile(root, "no examples", cure, split))
    with_depth = {split for split in held if any(pair.depth for pair in parts[split])}
    for split in held:
        if with_depth and split not in with_depth:
            cure = "Add it, or do without depth."
            report.warnings.append(
                BadFile(root, "no depth, though there is of others", cure, split)
            )


def _check_presence(report, root):
    for split, counts in report.counts.items():
        missing = [
            name
            for number, name in enumerate(report.classes)
            if not counts[number] and number != report.ignore
        ]
        if missing and counts:
            what = f"no pixel of {', '.join(missing)}"
            cure = "Its IoU cannot be told there; check the ids, or move examples."
            report.warnings.append(BadFile(root, what, cure, split))


def _check_leaks(report, parts):
    """The same picture in two splits."""
    places = defaultdict(dict)
    for split, part in parts.items():
        for pair, found in zip(part, report.found[split], strict=True):
            if found.digest:
                places[found.digest].setdefault(split, pair.image)
    for same in places.values():
        first, *others = same.values()
        for path in others:
            cure = "Keep it in one split, or the test tells too much."
            report.warnings.append(BadFile(path, f"the same picture as {first}", cure))


def table(report: Report, root: Path) -> str:
    """Faults and warnings, a line each: kind, file, place, what, cure."""
    rows = [("", "file", "place", "what", "cure")]
    for kind, found in (("fault", report.faults), ("warning", report.warnings)):
        for fault in sorted(found, key=lambda fault: (fault.path, fault.place)):
            path = fault.path.removeprefix(f"{root}{os.sep}")
            what = fault.what.replace(f"{root}{os.sep}", "")
            rows.append((kind, path, fault.place, what, fault.cure))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) if len(rows) > 1 else ""


def summary(report: Report) -> str:
    """Images and sizes, and the share of pixels of each class, by split."""
    splits = [split for split, found in report.found.items() if found]
    if not splits:
        return ""
    parts = ", ".join(f"{split} {len(report.found[split]):,}" for split in splits)
    sizes = Counter(found.size for split in splits for found in report.found[split] if found.size)
    lines = [f"{sum(map(len, report.found.values())):,} pairs: {parts}"]
    common = [f"{w} x {h} ({many:,})" for (h, w), many in sizes.most_common(4)]
    more = f" and {len(sizes) - 4} others" if len(sizes) > 4 else ""
    lines.append(f"sizes: {', '.join(common)}{more}")
    depths = [found.depth for split in splits for found in report.found[split] if found.depth]
    if depths:
        least, most, unknown = zip(*depths, strict=True)
        share = f"{100 * np.mean(unknown):.2f} % unknown"
        lines.append(f"depth: {min(least):.3g} to {max(most):.3g} m, {share}")
    if not report.classes:
        return "\n".join(lines)
    wide = max(map(len, ("name", "void", *report.classes)))
    lines.append(f" id  {'name':{wide}}" + "".join(f"  {split:>7}" for split in splits))
    rows = [row for row in enumerate(report.classes) if row[0] != report.ignore]
    for number, name in [*rows, (report.ignore, "void")]:
        counts = [report.counts.get(split, Counter()) for split in splits]
        shares = [100 * part[number] / max(1, part.total()) for part in counts]
        if name != "void" or any(shares):
            cells = "".join(f"  {share:5.2f} %" for share in shares)
            lines.append(f"{number:3}  {name:{wide}}{cells}")
    return "\n".join(lines)


def _count(things, name):
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


if __name__ == "__main__":
    cli.run(main)
