"""Splits that text files list, as ImageSets/Segmentation/train.txt of Pascal VOC does."""

from pathlib import Path, PurePosixPath

from launch.data.bad_file import BadFile
from launch.data.folders.listing import SPLITS, files

VOC = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


def find(root: Path) -> dict[str, Path]:
    """Finds files such as train.txt and val.txt below a folder.

    Args:
      root: the folder.

    Returns:
      {split: file}; of several files for a split, those for segmentation are taken, and
      else those nearest to the folder.
    """
    found = {}
    names = {f"{name}.txt": split for name, split in SPLITS.items()}
    of_segmentation = lambda path: "segmentation" in path.relative_to(root).as_posix().lower()
    rank = lambda path: (not of_segmentation(path), len(path.parts), path)
    for path in sorted(files(root, (".txt",)), key=rank):
        if path.name.lower() in names:
            found.setdefault(names[path.name.lower()], path)
    return found


def divide(lists: dict[str, Path], pairs: list, layout) -> dict[str, list]:
    """Divides pairs by lists of names.

    A line holds a name or a path; its first word counts, and its suffix and letter case do
    not.

    Args:
      lists: {split: file}.
      pairs: all pairs.
      layout: a `Layout`, whose `notes` and `problems` are added to.

    Returns:
      {split: pairs}, in the order of the lists.
    """
    by_name = {pair.name: pair for pair in pairs}
    by_last = {pair.name.rpartition("/")[2]: pair for pair in pairs}
    splits, places = {}, {}
    for split, path in sorted(lists.items(), key=lambda item: list(SPLITS.values()).index(item[0])):
        splits[split] = []
        for number, line in enumerate(_lines(path, layout), 1):
            if not line.split():
                continue
            text = line.split()[0].casefold().lstrip("./")
            stem = PurePosixPath(text).with_suffix("").as_posix()
            keys = [by_name.get(text), by_name.get(stem)]
            keys += [by_last.get(name.rpartition("/")[2]) for name in (text, stem)]
            pair = next(filter(None, keys), None)
            if pair is None:
                fix = "Add the image and its mask, or remove the line."
                problem = f"no image with a mask is called {line.split()[0]!r}"
                layout.problems.append(BadFile(path, problem, fix, f"line {number}"))
            elif pair.image in places:
                fix = "Keep it in one place; otherwise the scores are too good."
                problem = f"{line.split()[0]!r} is also in {places[pair.image]}"
                layout.problems.append(BadFile(path, problem, fix, f"line {number}"))
            else:
                places[pair.image] = f"{path.name}, line {number}"
                splits[split].append(pair)
    names = ", ".join(str(path.name) for path in lists.values())
    layout.title += f", splits by {names}"
    if rest := len(pairs) - len(places):
        layout.notes.append(f"{rest:,} images are in none of {names} and are not used")
    return splits


def voc_names(root: Path) -> dict[int, str]:
    """The names of Pascal VOC's classes, of a folder that bears its name; else {}.

    Args:
      root: the folder.
    """
    return dict(enumerate(VOC)) if root.resolve().name.lower().startswith("voc") else {}


def _lines(path, layout):
    try:
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        layout.problems.append(BadFile(path, f"cannot be read ({reason})", "Save it as UTF-8."))
        return []
