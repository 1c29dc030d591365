"""The classes of a folder's masks: their names and colours, and the check of every id."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np

from launch.data.bad_file import BadFile, pixel

IGNORED = 255  # the id of ignored pixels in examples, whatever it is in the files
MOST = 255  # classes, so that every id and IGNORED fit into 8 bits
# Class lists: our own, Roboflow's, CamVid's, and CVAT's.
FILES = ("classes.csv", "classes.txt", "_classes.csv", "class_dict.csv", "labelmap.txt")
# The titles that a column may bear, in lower case, without spaces and underscores.
TITLES = {
    "id": ("id", "index", "value", "pixelvalue", "classid", "labelid", "classindex", "number"),
    "name": ("name", "class", "label", "classname", "labelname", "category", "title"),
    "red": ("red", "r"),
    "green": ("green", "g"),
    "blue": ("blue", "b"),
}


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of classes.csv or classes.txt.

    Attributes:
      names: {id: name}.
      colours: {(red, green, blue): id}, empty where the file has none.
      path: the file.
    """

    names: dict[int, str]
    colours: dict[tuple[int, int, int], int]
    path: str


def read_table(root) -> Table | None:
    """Reads the class list of a folder: the first of FILES, there or in the folder of a split.

    A line of a .csv file is `id,name` or `id,name,red,green,blue`, separated by commas,
    semicolons or tabs. The first line may hold the titles of the columns, in any order, see
    `TITLES`; without a column of ids, they count from 0. A line of classes.txt is a name; the
    first line is id 0. labelmap.txt is CVAT's: `name:red,green,blue::`.

    Args:
      root: the folder.

    Returns:
      The table; None where the folder has no such file.

    Raises:
      BadFile: a line or the titles cannot be read, or an id, a name or a colour occurs twice.
    """
    root = Path(root)
    for name in FILES:
        below = sorted(root.glob(f"*/{name}")) if root.is_dir() and name != "classes.txt" else []
        path = next((path for path in (root / name, *below) if path.is_file()), None)
        if path is None:
            continue
        if path.name == "labelmap.txt":
            table = _read_labelmap(path)
        elif path.suffix == ".csv":
            table = _read_csv(path)
        else:
            text = "\n".join(_lines(path)).rstrip()
            names = {k: line.strip() for k, line in enumerate(text.split("\n"))}
            table = Table(names, {}, str(path))
        _check_names(path, table.names)
        return table
    return None


def colours(table: Table | None, count: int) -> tuple[tuple[int, int, int], ...]:
    """The colours in which a class list shows its classes.

    Args:
      table: the list.
      count: K, the number of classes.

    Returns:
      (red, green, blue) of each class; () unless the list has one for each.
    """
    by_id = {number: colour for colour, number in table.colours.items()} if table else {}
    found = tuple(by_id[number] for number in range(count) if number in by_id)
    return found if len(found) == count else ()


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
    if ids.dtype == np.uint8 and not binary and ignore == IGNORED and ids.max(initial=0) < classes:
        return ids  # most masks; what follows looks at every pixel six times
    if binary:
        ids = np.where(ids == 255, 1, ids)
    ignored = np.False_ if binary and ignore == 255 else ids == ignore
    wrong = ids >= classes if ids.dtype.kind == "u" else (ids < 0) | (ids >= classes)
    wrong &= ~ignored
    if wrong.any():
        index = wrong.argmax()
        problem = f"id {ids.flat[index]}, but there are {classes} classes (ids 0 to {classes - 1})"
        fix = (
            f"If it means void, give ignore={ids.flat[index]} (ignore is {ignore}); "
            "if it is a class, give more classes; otherwise correct the mask."
        )
        raise BadFile(path, problem, fix, pixel(index, ids))
    ids = ids.astype(np.uint8, copy=False)
    return ids if ignore == IGNORED else np.where(ignored, np.uint8(IGNORED), ids)


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
    reader = csv.reader(lines, delimiter=max(",;\t", key="".join(lines[:1]).count))
    try:
        rows = [(n, [cell.strip() for cell in row]) for n, row in enumerate(reader, 1) if any(row)]
    except csv.Error as error:
        fix = "Write lines such as `0,background`."
        raise BadFile(path, f"cannot be read ({error})", fix, f"line {reader.line_num}")
    titles = ["id", "name", "red", "green", "blue"]
    if rows and not re.fullmatch(r"-?\d+", rows[0][1][0]):
        titles = _titles(path, rows.pop(0)[1], [row for _, row in rows])
    table = Table({}, {}, str(path))
    for number, (line, row) in enumerate(rows):
        _add(path, f"line {line}", dict(zip(titles, row, strict=False)), number, table)
    if not table.names:
        raise BadFile(path, "names no class", "Write lines such as `0,background`.")
    return table


def _titles(path, cells, rows):
    """The columns that titles mean; others keep their own names."""
    bare = [re.sub(r"[\s_-]", "", cell.lower()) for cell in cells]
    known = {word: column for column, words in TITLES.items() for word in words}
    titles = [known.get(word, word) for word in bare]
    fix = f"Call the columns {', '.join(TITLES)}."
    for column in TITLES:
        if titles.count(column) > 1 and column in bare:  # its own title counts, others do not
            titles = [
                t if t != column or b == column else f"({b})"
                for t, b in zip(titles, bare, strict=True)
            ]
        if titles.count(column) > 1:
            raise BadFile(
                path, f"two columns may be the {column}: {','.join(cells)}", fix, "line 1"
            )
    if "name" not in titles:
        raise BadFile(path, f"no column of names among {','.join(cells)}", fix, "line 1")
    whole = lambda at: all(len(row) > at and row[at].isdigit() for row in rows)
    unknown = [cells[at] for at, title in enumerate(titles) if title not in TITLES and whole(at)]
    if "id" not in titles and unknown:
        problem = f"the column {unknown[0]!r} may hold the ids"
        raise BadFile(path, problem, "Call it id if so; otherwise remove it.", "line 1")
    return titles


def _read_labelmap(path):
    table = Table({}, {}, str(path))
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = rest.partition(":")[0].split(",")
        cells = dict(zip(("red", "green", "blue"), (part.strip() for part in colour), strict=False))
        _add(path, f"line {number}", {"name": name.strip()} | cells, len(table.names), table)
    if not table.names:
        raise BadFile(path, "names no class", "Write lines such as `background:0,0,0::`.")
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
