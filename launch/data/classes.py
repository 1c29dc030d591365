"""Which ids a mask may hold: names and colours of classes, and the check of labels."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np

from launch.data.images import BadFile, pixel

IGNORED = 255  # how ignored pixels leave here, whatever they were in the file
MOST = 255  # classes, so that an id fits 8 bits beside IGNORED


@dataclasses.dataclass(frozen=True)
class Table:
    """What classes.csv or classes.txt says.

    Attributes:
      names: {id: name}.
      colours: {(red, green, blue): id}, empty where the file has none.
    """

    names: dict[int, str]
    colours: dict[tuple[int, int, int], int]


def read_table(root) -> Table | None:
    """Reads classes.csv or classes.txt of a folder; None where it has neither.

    A line of classes.csv is `id,name` or `id,name,red,green,blue`, split by commas,
    semicolons or tabs, under a line of titles (in any order, without `id` counting
    from 0) or without one. A line of classes.txt is a name, the first that of id 0.

    Raises:
      BadFile: a line that cannot be read, or an id or colour that comes twice.
    """
    path = Path(root) / "classes.csv"
    if not path.is_file():
        path = path.with_suffix(".txt")
        if not path.is_file():
            return None
        text = "\n".join(_lines(path)).rstrip()
        names = {number: line.strip() for number, line in enumerate(text.split("\n"))}
        _check_names(path, names)
        return Table(names, {})
    lines = _lines(path)
    rows = csv.reader(lines, delimiter=max(",;\t", key="".join(lines[:1]).count))
    rows = [(line, [cell.strip() for cell in row]) for line, row in enumerate(rows, 1) if any(row)]
    titles = ["id", "name", "red", "green", "blue"]
    if rows and not re.fullmatch(r"-?\d+", rows[0][1][0]):
        titles = [_title(cell) for cell in rows.pop(0)[1]]
    names, colours = {}, {}
    for place, (line, row) in enumerate(rows):
        _add(path, f"line {line}", dict(zip(titles, row, strict=False)), place, names, colours)
    if not names:
        raise BadFile(path, "names no class", "Write lines such as `0,background`.")
    _check_names(path, names)
    return Table(names, colours)


def _check_names(path, names):
    """Refuses lines without a name, and names that come twice."""
    for number, name in names.items():
        if not name:
            raise BadFile(
                path, "an empty line", "A line is a class: name it.", f"line {number + 1}"
            )
        if list(names.values()).count(name) > 1:
            raise BadFile(path, f"the name {name!r} comes twice", "Give each class its own.")


def _lines(path):
    try:
        return path.read_text("utf-8-sig").replace("\0", "").splitlines()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise BadFile(path, "is not UTF-8 text", "Save it as UTF-8.", f"line {line}")


def _title(cell):
    cell = cell.lower()
    known = {"r": "red", "g": "green", "b": "blue", "class": "name", "label": "name"}
    return known.get(cell, "id" if cell in ("index", "class_id", "label_id") else cell)


def _add(path, where, cells, place, names, colours):
    cure = "Write lines such as `0,background` or `0,background,128,64,128`."
    number, name = cells.get("id", str(place)), cells.get("name", "")
    if not re.fullmatch(r"\d+", number) or not name:
        raise BadFile(path, f"no id and name in {','.join(cells.values())!r}", cure, where)
    if int(number) in names:
        raise BadFile(path, f"id {number} comes twice", "Give each class one line.", where)
    names[int(number)] = name
    channels = [cells.get(key, "") for key in ("red", "green", "blue")]
    if not any(channels):
        return
    if not all(re.fullmatch(r"\d+", cell) and int(cell) < 256 for cell in channels):
        raise BadFile(path, f"no colour in {','.join(channels)!r}", cure, where)
    colour = tuple(map(int, channels))
    if colour in colours:
        raise BadFile(path, f"colour {colour} comes twice", "Give each class its own.", where)
    colours[colour] = int(number)


def checked(path, ids: np.ndarray, classes: int, ignore: int, binary: bool = False) -> np.ndarray:
    """The label contract: ids in [0, classes), or ignored.

    Args:
      path: the file of the mask, for the message.
      ids: integers [H, W].
      classes: K.
      ignore: the id that means "not labelled"; may be one of [0, K).
      binary: whether the mask says 255 for 1.

    Returns:
      uint8 [H, W]: ids, and 255 at ignored pixels.

    Raises:
      BadFile: any other id; names the first pixel that has it.
    """
    if binary:
        ids = np.where(ids == 255, 1, ids)
    ignored = ids == ignore
    if binary and ignore == 255:
        ignored = np.zeros_like(ignored)
    wrong = ((ids < 0) | (ids >= classes)) & ~ignored
    if wrong.any():
        place = wrong.argmax()
        what = f"id {ids.flat[place]}, but there are {classes} classes (ids 0 to {classes - 1})"
        cure = (
            f"If it means void, give ignore={ids.flat[place]} (ignore is {ignore}); "
            "if it is a class, more classes; else mend the mask."
        )
        raise BadFile(path, what, cure, pixel(place, ids))
    return np.where(ignored, IGNORED, ids).astype(np.uint8)


def count(
    root, table: Table | None, classes: int, ignore: int, values: set[int]
) -> tuple[int, bool]:
    """The number of classes, and whether the masks say 255 for 1.

    Args:
      root: the folder, for messages.
      table: what `read_table` returned.
      classes: what the user said; 0 for "find out".
      ignore: the ignored id.
      values: ids that occur in the masks; may be incomplete where it is clear that
        they are not binary, or where the number is known.

    Raises:
      BadFile: numbers that contradict each other, or that cannot be found out.
    """
    named = {number for number in (table.names if table else ()) if number != ignore}
    if classes and named and classes <= max(named):
        cure = "Leave classes out, or mend the file."
        raise BadFile(root, f"classes={classes}, but its class file names id {max(named)}", cure)
    known = classes or max(named, default=-1) + 1
    binary = known in (0, 2) and 255 in values and values <= {0, 255}
    if not known:
        present = values - {ignore}
        known = 2 if binary else max(present, default=-1) + 1
        if len(present) < known / 2 and not binary:
            some = ", ".join(map(str, sorted(present)[:8]))
            cure = (
                f"Say how many classes there are (classes={known} if these are ids) or name "
                "them in classes.txt; save two-valued masks as 0 and 255."
            )
            raise BadFile(root, f"its masks hold {some}, which may be no ids of classes", cure)
    if not 0 < known <= MOST:
        cure = f"Give masks of classes, at most {MOST}; numbers of instances are no classes."
        raise BadFile(root, f"{known} classes", cure)
    return known, binary


def names(table: Table | None, classes: int, ignore: int) -> tuple[str, ...]:
    """A name for each id in [0, classes), `class 7` where the table has none."""
    known = {k: name for k, name in (table.names if table else {}).items() if k != ignore}
    return tuple(known.get(number, f"class {number}") for number in range(classes))
