"""python -m launch.check DIR [--classes=K] [--ignore=255] [--values=threshold ...]

Says how a folder of images and masks is read (see launch.data.folders), and lists all
problems in one pass: file, place, problem, fix. Exits with 1 if there is an error;
otherwise with 0, and `launch.train` reads the folder in the same way.
"""

import logging
import os
from pathlib import Path

import numpy as np

from launch import cli
from launch.config.errors import CommandExit, UserError
from launch.data.bad_file import BadFile
from launch.data.folders import open_folder, remarks
from launch.data.folders.masks import VALUES
from launch.data.folders.opening import OpenedFolder, select
from launch.data.folders.options import TARGETS, Options

logger = logging.getLogger("segen")


def main(argv: list[str]) -> None:
    """Parses the command line, checks, and prints.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments.
      CommandExit: the folder has an error.
    """
    arguments = cli.parser("check", "Says how a folder of images and masks is read; its problems.")
    arguments.epilog = (
        "Exit codes: 0 no errors, 1 there are errors, 2 your mistake. launch.train takes the same "
        "arguments as --config.data.kwargs.classes, --config.data.kwargs.values and so on, and "
        "--fold as --config.data.fold."
    )
    arguments.add_argument("folder", type=Path, metavar="DIR", help="the folder")
    add = arguments.add_argument
    add("--classes", type=int, default=0, help="default: what the folder says")
    add("--ignore", type=int, default=255, help="id of void (default: 255)")
    add("--layout", default="", help="the kind of layout to take where several fit")
    add("--masks", default="", help="endings or folders of the masks, as _1stHO or cell,nucleus")
    add("--values", default="", choices=("", *VALUES), help="the meaning of the masks' values")
    add("--orientation", default="", choices=("", "upright", "stored"), help="of EXIF")
    add("--channels", type=int, default=0, help="of the images (default: what they have)")
    add("--intensity", type=_pair, default=(), metavar="LOW,HIGH", help="values for 0 and 255")
    add("--target", default="", choices=TARGETS, help="objects, or labels that may overlap")
    add("--fold", default="", metavar="I/N", help="divide train and val anew, as launch.folds does")
    add("--group", default="", help="a pattern of what images that stay together share")
    add("--val", type=float, default=0.1, help="share of train for a missing val (default: 0.1)")
    add("--limit", type=int, default=512, help="longest side of an example (default: 512)")
    add("--scale", type=float, default=0.0, help="factor, then tiles; 0 (default): scale to fit")
    options = cli.parse_alone(arguments, argv)
    root = options.folder.expanduser()
    if not root.is_dir():
        raise UserError(f"no such directory: {root}")
    names = [key for key in vars(options) if key in Options.__dataclass_fields__]
    try:
        opened = open_folder(root, Options(**{key: getattr(options, key) for key in names}))
    except ValueError as error:
        raise UserError(str(error))
    wanted = ("train", "val") if options.val else ("train",)
    for split in wanted if opened.layout.splits else ():
        try:
            select(opened.layout.splits, split, root)
        except BadFile as bad:
            opened.problems.append(bad)
    warnings = [] if opened.reading is None else list(remarks.remarks(opened))
    if text := "\n\n".join(filter(None, (summary(opened), table(opened.problems, warnings, root)))):
        print(text)
    counted = _count(warnings, "warning")
    if opened.problems or opened.reading is None:
        raise CommandExit(f"{_count(opened.problems, 'error')}, {counted}")
    logger.info(f"{root}: no errors{f', {counted}' if warnings else ''}")


def table(errors: list[BadFile], warnings: list[BadFile], root: Path) -> str:
    """Lists errors and warnings, a line each: kind, file, place, problem, fix.

    Args:
      errors: of the folder.
      warnings: of the folder.
      root: the folder, which is left out of the names of files.

    Returns:
      The lines under a line of titles; "" if there is no problem.
    """
    rows = [("", "file", "place", "problem", "fix")]
    for kind, problems in (("error", errors), ("warning", warnings)):
        for bad in sorted(problems, key=lambda bad: (bad.path, bad.place)):
            path = bad.path.removeprefix(f"{root}{os.sep}")
            problem = bad.problem.replace(f"{root}{os.sep}", "")
            rows.append((kind, path, bad.place, problem, bad.fix))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) if len(rows) > 1 else ""


def summary(opened: OpenedFolder) -> str:
    """Describes a folder: how it is read, depth, and the share of pixels of each class.

    Args:
      opened: the folder.

    Returns:
      Lines; "" if nothing is recognised.
    """
    if opened.reading is None:
        return f"layout: {opened.layout.title}" if opened.layout.title else ""
    lines = list(opened.reading.lines)
    depths = [one.depth for one in opened.contents if one.depth]
    if depths:
        least, most, unknown = zip(*depths, strict=True)
        share = f"{100 * np.mean(unknown):.2f} % unknown"
        lines.append(f"depth: {min(least):.3g} to {max(most):.3g} m, {share}")
    return "\n".join([*lines, *(_class_shares(opened) if opened.reading.classes else ())])


def _class_shares(opened):
    """A line of titles, and a line for each class with its share of each split."""
    how, counts = opened.reading, remarks.class_counts(opened)
    counts = {split: part for split, part in counts.items() if part}
    width = max(map(len, ("name", "void", *how.classes)))
    lines = [f" id  {'name':{width}}" + "".join(f"  {split:>7}" for split in counts)]
    rows = [row for row in enumerate(how.classes) if row[0] != how.ignore]
    for number, name in [*rows, (how.ignore, "void")]:
        shares = [100 * part[number] / max(1, part.total()) for part in counts.values()]
        if name != "void" or any(shares):
            cells = "".join(f"  {share:5.2f} %" for share in shares)
            lines.append(f"{number:3}  {name:{width}}{cells}")
    return lines


def _pair(text):
    low, high = map(float, text.strip("()").split(","))
    return low, high


def _count(things, name):
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


if __name__ == "__main__":
    cli.run(main)
