"""python -m launch.check DIR [--classes=K] [--ignore=255]

Reads every file of a folder of images and masks (see launch.data.folders) and lists all
problems in one pass: file, place, problem, fix. Exits with 1 if there is an error;
otherwise with 0. Also says what the folder contains.
"""

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from launch import cli
from launch.config.errors import CommandExit, UserError
from launch.data import classes, folder_check
from launch.data.folder_check import Report

logger = logging.getLogger("segen")

SIZES_LISTED = 4  # the most frequent sizes of images, in the summary


def main(argv: list[str]) -> None:
    """Parses the command line, checks, and prints.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments.
      CommandExit: the folder has an error.
    """
    arguments = cli.parser("check", "Lists every problem of a folder of images and masks.")
    arguments.epilog = "Exit codes: 0 no errors, 1 there are errors, 2 your mistake."
    arguments.add_argument("folder", type=Path, metavar="DIR", help="the folder")
    arguments.add_argument("--classes", type=int, default=0, help="default: what the folder says")
    arguments.add_argument("--ignore", type=int, default=255, help="id of void (default: 255)")
    options = cli.parse_alone(arguments, argv)
    if not 0 <= options.classes <= classes.MOST:
        raise UserError(f"--classes must be 0 to {classes.MOST}, got {options.classes}")
    root = options.folder.expanduser()
    if not root.is_dir():
        raise UserError(f"no such directory: {root}")
    report = folder_check.check(root, options.classes, options.ignore)
    if text := "\n\n".join(filter(None, (table(report, root), summary(report)))):
        print(text)
    warnings = _count(report.warnings, "warning")
    if report.errors:
        raise CommandExit(f"{_count(report.errors, 'error')}, {warnings}")
    logger.info(f"{root}: no errors{f', {warnings}' if report.warnings else ''}")


def table(report: Report, root: Path) -> str:
    """Lists errors and warnings, a line each: kind, file, place, problem, fix.

    Args:
      report: of the folder.
      root: the folder, which is left out of the names of files.

    Returns:
      The lines under a line of titles; "" if there is no problem.
    """
    rows = [("", "file", "place", "problem", "fix")]
    for kind, problems in (("error", report.errors), ("warning", report.warnings)):
        for bad in sorted(problems, key=lambda bad: (bad.path, bad.place)):
            path = bad.path.removeprefix(f"{root}{os.sep}")
            problem = bad.problem.replace(f"{root}{os.sep}", "")
            rows.append((kind, path, bad.place, problem, bad.fix))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) if len(rows) > 1 else ""


def summary(report: Report) -> str:
    """Describes a folder: its pairs, sizes, depth, and the share of pixels of each class.

    Args:
      report: of the folder.

    Returns:
      Lines; "" if there is no example.
    """
    splits = {split: examples for split, examples in report.examples.items() if examples}
    if not splits:
        return ""
    examples = [contents for part in splits.values() for contents in part]
    parts = ", ".join(f"{split} {len(part):,}" for split, part in splits.items())
    lines = [f"{len(examples):,} pairs: {parts}"]
    sizes = Counter(contents.size for contents in examples if contents.size)
    common = [f"{w} x {h} ({many:,})" for (h, w), many in sizes.most_common(SIZES_LISTED)]
    more = f" and {len(sizes) - SIZES_LISTED} others" if len(sizes) > SIZES_LISTED else ""
    lines.append(f"sizes: {', '.join(common)}{more}")
    depths = [contents.depth for contents in examples if contents.depth]
    if depths:
        least, most, unknown = zip(*depths, strict=True)
        share = f"{100 * np.mean(unknown):.2f} % unknown"
        lines.append(f"depth: {min(least):.3g} to {max(most):.3g} m, {share}")
    return "\n".join([*lines, *(_class_shares(report, list(splits)) if report.classes else ())])


def _class_shares(report, splits):
    """A line of titles, and a line for each class with its share of each split."""
    width = max(map(len, ("name", "void", *report.classes)))
    lines = [f" id  {'name':{width}}" + "".join(f"  {split:>7}" for split in splits)]
    rows = [row for row in enumerate(report.classes) if row[0] != report.ignore]
    for number, name in [*rows, (report.ignore, "void")]:
        counts = [report.counts.get(split, Counter()) for split in splits]
        shares = [100 * part[number] / max(1, part.total()) for part in counts]
        if name != "void" or any(shares):
            cells = "".join(f"  {share:5.2f} %" for share in shares)
            lines.append(f"{number:3}  {name:{width}}{cells}")
    return lines


def _count(things, name):
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


if __name__ == "__main__":
    cli.run(main)
