"""A folder of images and masks as a data set: `config.data.name = "launch.data.folders:folder"`.

    DIR/train/images/0001.jpg     DIR/train/masks/0001.png     (DIR/train/depth/0001.png)
    DIR/val/...                   DIR/test/...
    DIR/classes.csv               id,name or id,name,red,green,blue; or classes.txt

A folder with only DIR/images and DIR/masks is divided 80/10/10. `python -m launch.check
DIR` lists every problem of such a folder.
"""

import contextlib
import dataclasses
import functools
import hashlib
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from launch import storage
from launch.data import classes as labels
from launch.data import images, pairs
from launch.data.bad_file import BadFile
from launch.data.pairs import Pair


@dataclasses.dataclass(frozen=True)
class Folder:
    """The examples of one split; made by `folder`.

    Attributes:
      root: the folder.
      pairs: the files of each example.
      canvas: (height, width) of every example, in pixels.
      classes: names of the classes, in the order of their ids.
      ignore: the id of ignored pixels in the files.
      binary: whether 255 means class 1 in the masks.
      colours: {colour: id} of masks in colour.
      fingerprint: changes when the files change or are read in another way.
      folder: where decoded examples may be cached; outside of the user's folder.
    """

    root: Path
    pairs: tuple[Pair, ...]
    canvas: tuple[int, int]
    classes: tuple[str, ...]
    ignore: int
    binary: bool
    colours: dict
    fingerprint: str
    folder: Path

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the split reads."""
        return tuple(path for pair in self.pairs for path in pair.files)

    @property
    def scale(self) -> float:
        """The factor by which images were scaled to fit the canvas: the median, at most 1."""
        some = self.pairs[:: -(-len(self.pairs) // 100)]
        sizes = np.array([images.read_size(pair.image) for pair in some])
        return float(np.median(np.minimum(1.0, (np.array(self.canvas) / sizes).min(1))))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Reads one example.

        Args:
          index: its place in `pairs`.

        Returns:
          image uint8 [H, W, 3]; segmentation uint8 [H, W, 1], 255 where ignored; and,
          where the data set has depth, depth float32 [H, W, 1] in metres, 0 where unknown.

        Raises:
          BadFile: a file cannot be read, sizes differ, or an id is out of range.
        """
        pair = self.pairs[index]
        with _mention_check(self.root):
            arrays = read_pair(pair, self.colours)
            arrays["segmentation"] = labels.check_ids(
                pair.mask, arrays["segmentation"], len(self.classes), self.ignore, self.binary
            )
        outside = {"image": 0, "segmentation": labels.IGNORED, "depth": 0}
        fitted = {key: fit(array, self.canvas, outside[key]) for key, array in arrays.items()}
        return {key: array.reshape(*self.canvas, -1) for key, array in fitted.items()}


def folder(
    split: str,
    path: str,
    classes: int = 0,
    ignore: int = 255,
    size: int | tuple[int, int] = 0,
    limit: int = 512,
    seed: int = 0,
) -> Folder:
    """Opens one split of a folder of images and masks.

    Args:
      split: "train", "val" or "test"; parts such as "train[:100]" or "train[90%:]";
        several joined by "+".
      path: the folder.
      classes: K; 0 takes the number from classes.csv or classes.txt, or else from the
        masks: one more than their largest id, or 2 if they hold only 0 and 255.
      ignore: the id that means void in the files.
      size: (height, width) of the examples, or one number for both. Larger images are
        scaled down to fit, smaller ones are padded (image 0, mask ignored) below and at
        the right. 0 takes the largest height and the largest width of the folder.
      limit: the longest side that `size=0` gives, in pixels.
      seed: changes how a folder without splits is divided.

    Returns:
      The examples.

    Raises:
      BadFile: a problem of the folder, with the file and how to fix it.
      ValueError: an argument out of range.
    """
    canvas = _check_arguments(size, limit, classes)
    root = Path(path).expanduser()
    splits, problems = pairs.find(root, seed)
    if problems:
        raise _first_of(problems, root)
    chosen = select(splits, split, root)
    everything = tuple(pair for part in splits.values() for pair in part)
    with _mention_check(root):
        table = labels.read_table(root)
        colours = table.colours if table else {}
        stamp = _stamp(everything, root)
        values = set()
        if classes in (0, 2):
            known = bool(classes or table)
            masks = tuple(pair.mask for pair in everything)
            values = survey(masks, tuple(colours.items()), known, stamp)
        count, binary = labels.count(root, table, classes, ignore, values)
        if 0 in canvas:
            canvas = _canvas(tuple(pair.image for pair in everything), limit, stamp)
    names = labels.names(table, count, ignore)
    reading = (canvas, names, ignore, binary, sorted(colours.items()))
    fingerprint = _hash(_stamp(chosen, root), reading)
    cache = storage.cache_dir() / "folders" / f"{root.name}-{_hash(root.absolute())}"
    return Folder(root, chosen, canvas, names, ignore, binary, colours, fingerprint, cache)


def read_pair(pair: Pair, colours: dict) -> dict[str, np.ndarray]:
    """Reads the files of an example and compares their sizes.

    Args:
      pair: the files.
      colours: {(red, green, blue): id} of masks in colour.

    Returns:
      image uint8 [H, W, 3], segmentation integers [H, W] as in the file, and, where
      there is a depth map, depth float32 [H, W] in metres.

    Raises:
      BadFile: a file cannot be read, or sizes differ.
    """
    image = images.read_image(pair.image)
    arrays = {"image": image, "segmentation": images.read_mask(pair.mask, colours)}
    if pair.depth:
        arrays["depth"] = images.read_depth(pair.depth)
    for path, array in zip(pair.files, arrays.values(), strict=True):
        if array.shape[:2] != image.shape[:2]:
            raise images.wrong_size(path, array.shape, pair.image, image.shape)
    return arrays


def fit(array: np.ndarray, canvas: tuple[int, int], outside: int) -> np.ndarray:
    """Scales an array down until it fits a canvas, and pads it below and at the right.

    Args:
      array: an image [H, W, C], which is averaged, or ids or depth [H, W], which take
        the nearest pixel.
      canvas: (height, width).
      outside: the value of the padding.

    Returns:
      [height, width, ...] of the same dtype.
    """
    height, width = array.shape[:2]
    scale = min(canvas[0] / height, canvas[1] / width)
    if scale < 1:
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        filtering = Image.Resampling.BILINEAR if array.ndim == 3 else Image.Resampling.NEAREST
        array = np.asarray(Image.fromarray(array).resize(shape, filtering))
    padded = np.full((*canvas, *array.shape[2:]), outside, array.dtype)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded


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


@functools.lru_cache(maxsize=8)
def survey(masks: tuple[Path, ...], colours: tuple, known: bool, stamp: str) -> set[int]:
    """Collects the ids that occur in masks.

    Args:
      masks: the files.
      colours: items of {colour: id}.
      known: whether the number of classes is known; then the search stops at the first
        id other than 0 and 255, which shows that the masks are not binary.
      stamp: a hash of the files; with the same stamp the cached result is returned.

    Returns:
      The ids.
    """
    del stamp
    read = lambda path: set(np.unique(images.read_mask(path, dict(colours))).tolist())
    values = set()
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(masks), 64):
            values.update(*pool.map(read, masks[first : first + 64]))
            if known and not values <= {0, 255}:
                break
    return values


def _check_arguments(size, limit, classes):
    """The canvas that `size` means, (0, 0) for the largest of the folder."""
    canvas = (size, size) if isinstance(size, int) else tuple(size)
    canvas = canvas * 2 if len(canvas) == 1 else canvas
    if (0 in canvas) != (canvas == (0, 0)):
        raise ValueError(f"size={size}: give both sides, or 0 for the largest of the folder")
    if len(canvas) != 2 or min(canvas) < 0 or limit < 1:
        raise ValueError(f"size and limit must be whole pixels, got {size} and {limit}")
    if not 0 <= classes <= labels.MOST:
        raise ValueError(f"classes must be 0 (find out) to {labels.MOST}, got {classes}")
    return canvas


def _first_of(problems, root):
    """The first problem as an error that says how many more there are."""
    first, *others = problems
    more = f" ({len(others)} more: {_check_command(root)})" if others else ""
    return BadFile(first.path, first.problem + more, first.fix, first.place)


@contextlib.contextmanager
def _mention_check(root):
    """Adds to a BadFile the command that lists all problems."""
    try:
        yield
    except BadFile as bad:
        fix = f"{bad.fix} `{_check_command(root)}` lists all problems."
        raise BadFile(bad.path, bad.problem, fix, bad.place)


def _check_command(root):
    return f"python -m launch.check {shlex.quote(str(root))}"


@functools.lru_cache(maxsize=8)
def _canvas(paths, limit, stamp):
    """The largest height and width of images, scaled until both are within the limit."""
    del stamp
    sizes = np.array([images.read_size(path) for path in paths])
    height, width = sizes.max(0)
    scale = min(1, limit / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _stamp(chosen, root):
    """A hash of the names, sizes and times of files."""
    try:
        stats = [(path, path.stat()) for pair in chosen for path in pair.files]
    except OSError as error:  # a link to a file that does not exist
        fix = "Copy it again, or correct the link."
        raise BadFile(error.filename, f"cannot be read ({error.strerror})", fix)
    return _hash(*((path.relative_to(root), it.st_size, it.st_mtime_ns) for path, it in stats))


def _hash(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
