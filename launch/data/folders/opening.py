"""Opens a folder of images and masks: what it holds, and how it is read."""

import contextlib
import dataclasses
import hashlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from launch import storage
from launch.config import fold
from launch.data import classes as labels
from launch.data.bad_file import BadFile
from launch.data.folders import layouts, masks, reading, survey
from launch.data.folders.options import Options
from launch.data.folders.pairs import Pair
from launch.data.folders.reading import Reading


@dataclasses.dataclass(frozen=True)
class OpenedFolder:
    """A folder and everything that is known of it.

    Attributes:
      root: the folder.
      layout: its pairs.
      table: its class list, or None.
      rule: how its masks are read.
      contents: of each pair.
      reading: how its files become examples; None where nothing can be read.
      problems: what stops a training.
      cache: where decoded examples may be kept; outside of the user's folder.
    """

    root: Path
    layout: layouts.Layout
    table: labels.Table | None
    rule: masks.MaskRule
    contents: list[survey.Contents]
    reading: Reading | None
    problems: list[BadFile]
    cache: Path


def open_folder(root: Path, options: Options) -> OpenedFolder:
    """Recognises and surveys a folder, and decides how it is read.

    Args:
      root: the folder.
      options: what the user says of it.

    Returns:
      Everything that is known of the folder, with all its problems.

    Raises:
      ValueError: an option out of range.
    """
    options.check()
    if options.target == "objects":
        options = dataclasses.replace(options, values="instances")
    cache = storage.cache_dir() / "folders" / f"{root.name}-{hash_of(root.absolute())}"
    chosen = tuple(filter(None, options.masks.split(",")))
    drawing = options.val, fold.parse(options.fold), options.group
    layout = layouts.recognise(root, options.seed, options.layout, chosen, *drawing)
    problems, table = [], None
    try:
        table = labels.read_table(root)
    except BadFile as bad:
        problems.append(bad)
    colours = tuple(table.colours.items()) if table else ()
    rule = masks.MaskRule(options.values, colours, tuple(layout.ids.items()))
    try:
        pairs = sorted(layout.pairs, key=lambda pair: pair.image)  # in one order for all folds
        surveyed = survey.survey(pairs, rule, cache, stamp(pairs, root))
        by_pair = dict(zip(pairs, surveyed, strict=True))
        contents = [by_pair[pair] for pair in layout.pairs]
    except BadFile as bad:  # a link to a file that does not exist
        return OpenedFolder(root, layout, table, rule, [], None, [*layout.problems, bad], cache)
    read, more = reading.decide(root, layout, table, contents, options, rule)
    if read is not None:
        rule = dataclasses.replace(rule, values=read.values)
    return OpenedFolder(root, layout, table, rule, contents, read, problems + more, cache)


def usable(opened: OpenedFolder) -> OpenedFolder:
    """The folder, if nothing stops a training.

    Raises:
      BadFile: the first of its problems, and how many more there are.
    """
    if opened.problems or opened.reading is None:
        raise _first_of(opened.problems, opened.root)
    return opened


def select(splits: dict[str, list[Pair]], expression: str, root) -> tuple[Pair, ...]:
    """Picks the pairs that a split expression names.

    Args:
      splits: {split: pairs}.
      expression: such as "train[:100]+val".
      root: the folder, for messages.

    Returns:
      The pairs, in the order of the expression.

    Raises:
      BadFile: an unknown split, or no pair.
    """
    chosen = []
    for part in expression.split("+"):
        match = re.fullmatch(r"\s*(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*", part)
        if not match or match[1] not in splits:
            fix = f"It has {', '.join(splits)}; parts are written train[:100] or train[90%:]."
            raise BadFile(root, f"has no split {part!r}", fix)
        whole = splits[match[1]]
        ends = [
            round(len(whole) * int(end[:-1]) / 100)
            if end and end.endswith("%")
            else end and int(end)
            for end in match.groups()[1:]
        ]
        chosen += whole[slice(*ends)]
    if not chosen:
        total = sum(map(len, splits.values()))
        fix = "Give it more, or make the folders train, val and test yourself."
        raise BadFile(root, f"no example of {total} is in {expression!r}", fix)
    return tuple(chosen)


def stamp(chosen: Sequence[Pair], root: Path) -> str:
    """A hash of the names, sizes and times of files.

    Args:
      chosen: the pairs.
      root: the folder.

    Raises:
      BadFile: a link to a file that does not exist.
    """
    try:
        stats = [(path, path.stat()) for pair in chosen for path in pair.files]
    except OSError as error:
        fix = "Copy it again, or correct the link."
        raise BadFile(error.filename, f"cannot be read ({error.strerror})", fix)
    return hash_of(*((path.relative_to(root), it.st_size, it.st_mtime_ns) for path, it in stats))


def _first_of(problems, root):
    """The first problem as an error that says how many more there are."""
    first, *others = problems
    more = f" ({len(others)} more)" if others else ""
    return BadFile(first.path, first.problem + more, f"{first.fix} {_advice(root)}", first.place)


@contextlib.contextmanager
def mention_check(root: Path):
    """Adds to a BadFile the command that lists all problems.

    Raises:
      BadFile: that of the block.
    """
    try:
        yield
    except BadFile as bad:
        raise BadFile(bad.path, bad.problem, f"{bad.fix} {_advice(root)}", bad.place)


def _advice(root):
    command = f"python -m launch.check {shlex.quote(str(root))}"
    return f"`{command}` lists all problems; arguments are --config.data.kwargs.NAME=VALUE here."


def hash_of(*parts) -> str:
    """Sixteen hexadecimal digits of the `repr` of some values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
