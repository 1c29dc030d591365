"""Reads every file of a folder of images and masks, and collects what is wrong with it."""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from launch.data import classes as labels
from launch.data import images, pairs
from launch.data.bad_file import BadFile
from launch.data.pairs import Pair

IDS_LISTED = 5  # wrong ids of one mask that are listed one by one


@dataclasses.dataclass
class Contents:
    """The content of one example's files.

    Attributes:
      counts: {id: pixels} of the mask; empty if it cannot be read.
      size: (height, width) of the image; None if it cannot be read.
      digest: a hash of the image's pixels; "" if it cannot be read.
      depth: the smallest and the largest depth in metres, and the share of unknown
        pixels; None without depth.
    """

    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] | None = None
    digest: str = ""
    depth: tuple[float, float, float] | None = None


@dataclasses.dataclass
class Report:
    """The content of a folder, and its problems.

    Attributes:
      errors: problems that stop training.
      warnings: problems that may be intended.
      classes: names of the classes.
      ignore: the id of ignored pixels.
      examples: {split: the contents of its examples}.
      counts: {split: {id: pixels}}.
    """

    errors: list[BadFile] = dataclasses.field(default_factory=list)
    warnings: list[BadFile] = dataclasses.field(default_factory=list)
    classes: tuple[str, ...] = ()
    ignore: int = 255
    examples: dict[str, list[Contents]] = dataclasses.field(default_factory=dict)
    counts: dict[str, Counter] = dataclasses.field(default_factory=dict)


def check(root: Path, classes: int = 0, ignore: int = 255) -> Report:
    """Reads every file of a folder and continues after each problem.

    Args:
      root: the folder; see `launch.data.folders`.
      classes: K; 0 takes the number from the folder.
      ignore: the id of ignored pixels in the masks.

    Returns:
      The report.
    """
    report = Report(ignore=ignore)
    splits, report.errors = pairs.find(root)
    _check_splits(report, root, splits)
    table = None
    try:
        table = labels.read_table(root)
    except BadFile as bad:
        report.errors.append(bad)
    colours = table.colours if table else {}
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        for split, part in splits.items():
            results = list(pool.map(lambda pair: read(pair, colours), part))
            report.examples[split] = [contents for contents, _ in results]
            report.errors += [bad for _, errors in results for bad in errors]
    examples = [contents for part in report.examples.values() for contents in part]
    values = set().union(*(contents.counts for contents in examples))
    if not values:
        return report
    number, binary = _count_classes(report, root, table, classes, values)
    report.classes = labels.names(table, number, ignore)
    for split, part in splits.items():
        report.counts[split] = Counter()
        for pair, contents in zip(part, report.examples[split], strict=True):
            if binary:
                contents.counts = {min(value, 1): many for value, many in contents.counts.items()}
            _check_mask(report, pair, contents, number, binary, colours)
            report.counts[split].update(contents.counts)
    _check_presence(report, root)
    _check_duplicates(report, splits)
    return report


def read(pair: Pair, colours: dict) -> tuple[Contents, list[BadFile]]:
    """Reads the files of one example, each on its own, and compares their sizes.

    Args:
      pair: the files.
      colours: {(red, green, blue): id} of masks in colour.

    Returns:
      The contents, and the problems.
    """
    contents, errors, shapes = Contents(), [], {}
    readers = images.read_image, lambda path: images.read_mask(path, colours), images.read_depth
    for path, reader in zip(pair.files, readers, strict=False):
        try:
            array = reader(path)
        except BadFile as bad:
            errors.append(bad)
            continue
        shapes[path] = array.shape[:2]
        if path == pair.image:
            contents.size = array.shape[:2]
            digest = hashlib.blake2b(array.tobytes() + bytes(str(array.shape), "ascii"))
            contents.digest = digest.hexdigest()
        elif path == pair.mask:
            values, counts = np.unique(array, return_counts=True)
            contents.counts = dict(zip(values.tolist(), counts.tolist(), strict=True))
        else:
            known = array[array > 0] if np.any(array) else np.zeros(1)
            contents.depth = float(known.min()), float(known.max()), float(np.mean(array == 0))
    for path, shape in shapes.items():
        if contents.size and shape != contents.size:
            errors.append(images.wrong_size(path, shape, pair.image, contents.size))
    return contents, errors


def _count_classes(report, root, table, classes, values):
    """The number of classes, and whether 255 means 1; after an error, the best guess."""
    try:
        return labels.count(root, table, classes, report.ignore, values)
    except BadFile as bad:
        if table and classes:  # they contradict each other
            report.errors.append(bad)
            return _count_classes(report, root, table, 0, values)
        if table:
            report.errors.append(bad)
        # No number fits: takes the ids up to the first that does not occur.
        gap = next(number for number in range(len(values) + 1) if number not in values)
        return max(1, min(gap, labels.MOST)), False


def _check_mask(report, pair, contents, number, binary, colours):
    """Ids out of range, each with its first pixel; masks without a label."""
    ids = contents.counts.keys()
    wrong = [value for value in ids if value not in range(number) and value != report.ignore]
    if wrong:
        _list_wrong_ids(report, pair, wrong, number, colours)
    elif ids == {report.ignore} and not binary:
        problem, fix = (
            f"all pixels are void (id {report.ignore})",
            "Leave the pair out, or label it.",
        )
        report.warnings.append(BadFile(pair.mask, problem, fix))
    elif number == 2 and not binary and 255 in ids and ids <= {0, 255}:
        fix = "If it means 1, save it as in the other masks: as 1."
        report.warnings.append(BadFile(pair.mask, "255 is void here, and nothing is 1", fix))


def _list_wrong_ids(report, pair, wrong, number, colours):
    ids = images.read_mask(pair.mask, colours)
    for value in wrong[:IDS_LISTED]:
        only = np.where(ids == value, ids.astype(np.int64), report.ignore)
        try:
            labels.check_ids(pair.mask, only, number, report.ignore)
        except BadFile as bad:
            report.errors.append(bad)
    if len(wrong) > IDS_LISTED:
        problem = f"{len(wrong) - IDS_LISTED} more ids out of range, up to {max(wrong)}"
        report.errors.append(BadFile(pair.mask, problem, "Correct the mask."))


def _check_splits(report, root, splits):
    """Splits that training needs by default but that are empty, and splits without depth."""
    present = [split for split in ("val", "test", "train") if splits.get(split)]
    for split, key in (("train", "data.split"), ("val", "eval.split")):
        if present and split not in present:
            fix = f"Add some, or train with --config.{key}={present[0]}."
            report.warnings.append(BadFile(root, "no examples", fix, split))
    with_depth = {split for split in present if any(pair.depth for pair in splits[split])}
    for split in present:
        if with_depth and split not in with_depth:
            fix = "Add it, or train without depth."
            report.warnings.append(BadFile(root, "no depth, but other splits have it", fix, split))


def _check_presence(report, root):
    """Classes that do not occur in a split."""
    for split, counts in report.counts.items():
        missing = [
            name
            for number, name in enumerate(report.classes)
            if not counts[number] and number != report.ignore
        ]
        if missing and counts:
            problem = f"no pixel of {', '.join(missing)}"
            fix = "Its IoU is not defined there; check the ids, or move examples."
            report.warnings.append(BadFile(root, problem, fix, split))


def _check_duplicates(report, splits):
    """Images that occur in two splits."""
    places = defaultdict(dict)
    for split, part in splits.items():
        for pair, contents in zip(part, report.examples[split], strict=True):
            if contents.digest:
                places[contents.digest].setdefault(split, pair.image)
    for same in places.values():
        first, *others = same.values()
        for path in others:
            fix = "Keep it in one split; otherwise the scores are too good."
            report.warnings.append(BadFile(path, f"the same image as {first}", fix))
