"""The classes of a folder's masks: their names and colours, and the check of every id."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np

from launch.data.bad_file import BadFile, pixel

IGNORED = 255  # the id of ignored pixels in examples, whatever it is in the files
MOST = 255  # classes, so that every id and IGNORED fit into 8 bits


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of classes.csv or classes.txt.

    Attributes:
      names: {id: name}.
      colours: {(red, green, blue): id}, empty where the file has none.
    """

    names: dict[int, str]
    colours: dict[tuple[int, int, int], int]


def read_table(root) -> Table | None:
    """Reads classes.csv or classes.txt of a folder.

    A line of classes.csv is `id,name` or `id,name,red,green,blue`, separated by commas,
    semicolons or tabs. The first line may hold the titles of the columns, in any order;
    without a column `id`, ids count from 0. A line of classes.txt is a name; the first
    line is id 0.

    Args:
      root: the folder.

    Returns:
      The table; None where the folder has neither file.

    Raises:
      BadFile: a line cannot be read, or an id, a name or a colour occurs twice.
    """
    path = Path(root) / "classes.csv"
    if path.is_file():
        table = _read_csv(path)
    elif path.with_suffix(".txt").is_file():
        path = path.with_suffix(".txt")
        text = "\n".join(_lines(path)).rstrip()
        table = Table({k: line.strip() for k, line in enumerate(text.split("\n"))}, {})
    else:
        return None
    _check_names(path, table.names)
    return table


def check_ids(path, ids: np.ndarray, classes: int, ignore: int, binary: bool = False) -> np.ndarray:
    """Checks that every id of a mask is a class or ignored.

    Args:
      path: the file of the mask, for the message.
      ids: integers [H, W].
      classes: K, the number of classes.
      ignore: the id of ignored pixels in the file; may be one of [0, K).
      binary: whether 255 means class 1 in the file.

    Returns:
      uint8 [H, W]: ids in [0, K), and 255 at ignored pixels.

    Raises:
      BadFile: another id; names the first pixel that has it.
    """
    if binary:
        ids = np.where(ids == 255, 1, ids)
    ignored = ids == ignore
    if binary and ignore == 255:
        ignored = np.zeros_like(ignored)
    wrong = ((ids < 0) | (ids >= classes)) & ~ignored
    if wrong.any():
        index = wrong.argmax()
        problem = f"id {ids.flat[index]}, but there are {classes} classes (ids 0 to {classes - 1})"
        fix = (
            f"If it means void, give ignore={ids.flat[index]} (ignore is {ignore}); "
            "if it is a class, give more classes; otherwise correct the mask."
        )
        raise BadFile(path, problem, fix, pixel(index, ids))
    return np.where(ignored, IGNORED, ids).astype(np.uint8)


def count(
    root, table: Table | None, classes: int, ignore: int, values: set[int]
) -> tuple[int, bool]:
    """Finds the number of classes.

    Args:
      root: the folder, for messages.
      table: the result of `read_table`.
      classes: the number that the user gave; 0 to find it out.
      ignore: the id of ignored pixels.
      values: the ids that occur in the masks; may be incomplete where they are clearly
        not binary, or where the number is known.

    Returns:
      The number of classes, and whether the masks are binary: 255 means class 1.

    Raises:
      BadFile: the numbers contradict each other, or do not tell the number of classes.
    """
    named = {number for number in (table.names if table else ()) if number != ignore}
    if classes and named and classes <= max(named):
        problem = f"classes={classes}, but its class file names id {max(named)}"
        raise BadFile(root, problem, "Leave classes out, or correct the file.")
    known = classes or max(named, default=-1) + 1
    binary = known in (0, 2) and 255 in values and values <= {0, 255}
    if not known:
        present = values - {ignore}
        known = 2 if binary else max(present, default=-1) + 1
        if len(present) < known / 2 and not binary:
            some = ", ".join(map(str, sorted(present)[:8]))
            fix = (
                f"Say how many classes there are (classes={known} if these are ids) or name "
                "them in classes.txt; save two-valued masks as 0 and 255."
            )
            raise BadFile(root, f"its masks hold {some}, which may not be ids of classes", fix)
    if not 0 < known <= MOST:
        fix = f"Masks hold at most {MOST} classes; numbers of instances are not classes."
        raise BadFile(root, f"{known} classes", fix)
    return known, binary


def names(table: Table | None, classes: int, ignore: int) -> tuple[str, ...]:
    """Names every class.

    Args:
      table: the result of `read_table`.
      classes: K, the number of classes.
      ignore: the id of ignored pixels, whose name is left out.

    Returns:
      K names in the order of their ids; `class 7` where the table has no name for 7.
    """
    known = {k: name for k, name in (table.names if table else {}).items() if k != ignore}
    return tuple(known.get(number, f"class {number}") for number in range(classes))


def _read_csv(path):
    lines = _lines(path)
    rows = csv.reader(lines, delimiter=max(",;\t", key="".join(lines[:1]).count))
    rows = [(line, [cell.strip() for cell in row]) for line, row in enumerate(rows, 1) if any(row)]
    titles = ["id", "name", "red", "green", "blue"]
    if rows and not re.fullmatch(r"-?\d+", rows[0][1][0]):
        titles = [_title(cell) for cell in rows.pop(0)[1]]
    table = Table({}, {})
    for number, (line, row) in enumerate(rows):
        _add(path, f"line {line}", dict(zip(titles, row, strict=False)), number, table)
    if not table.names:
        raise BadFile(path, "names no class", "Write lines such as `0,background`.")
    return table


def _check_names(path, names):
    """Refuses lines without a name, and names that occur twice."""
    for number, name in names.items():
        if not name:
            fix = "Each line names a class: write its name."
            raise BadFile(path, "an empty line", fix, f"line {number + 1}")
        if list(names.values()).count(name) > 1:
            fix = "Give each class a name of its own."
            raise BadFile(path, f"the name {name!r} occurs twice", fix)


def _lines(path):
    try:
        return path.read_text("utf-8-sig").replace("\0", "").splitlines()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise BadFile(path, "is not UTF-8 text", "Save it as UTF-8.", f"line {line}")


def _title(cell):
    """The column that a title means: id, name, red, green or blue."""
    cell = cell.lower()
    known = {"r": "red", "g": "green", "b": "blue", "class": "name", "label": "name"}
    return known.get(cell, "id" if cell in ("index", "class_id", "label_id") else cell)


def _add(path, place, cells, default, table):
    """Adds the class of one line, {title: cell}, to a table; without an id it gets `default`."""
    fix = "Write lines such as `0,background` or `0,background,128,64,128`."
    number, name = cells.get("id", str(default)), cells.get("name", "")
    if not re.fullmatch(r"\d+", number) or not name:
        raise BadFile(path, f"no id and name in {','.join(cells.values())!r}", fix, place)
    if int(number) in table.names:
        raise BadFile(path, f"id {number} occurs twice", "Give each class one line.", place)
    table.names[int(number)] = name
    channels = [cells.get(key, "") for key in ("red", "green", "blue")]
    if not any(channels):
        return
    if not all(re.fullmatch(r"\d+", cell) and int(cell) < 256 for cell in channels):
        raise BadFile(path, f"no colour in {','.join(channels)!r}", fix, place)
    colour = tuple(map(int, channels))
    if colour in table.colours:
        fix = "Give each class a colour of its own."
        raise BadFile(path, f"colour {colour} occurs twice", fix, place)
    table.colours[colour] = int(number)
