"""A folder of images and masks as a data set: `config.data.name = "launch.data.folders:folder"`.

    DIR/train/images/0001.jpg     DIR/train/masks/0001.png     (DIR/train/depth/0001.png)
    DIR/val/...                   DIR/test/...
    DIR/classes.csv               id,name or id,name,red,green,blue; or classes.txt

or DIR/images and DIR/masks, which are divided 80/10/10. `python -m launch.check DIR`
lists all that is wrong with such a folder.
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
from launch.data.images import BadFile
from launch.data.pairs import Pair


@dataclasses.dataclass(frozen=True)
class Folder:
    """Examples of one split; `folder` makes it.

    Attributes:
      root: the folder.
      pairs: the files of each example.
      canvas: (height, width) of every example.
      classes: names of the classes, in the order of their ids.
      ignore: the id of void in the files.
      binary: whether the masks say 255 for 1.
      colours: {colour: id} of masks in colour.
      fingerprint: changes with the files and with how they are read.
      folder: where the decoded examples may be kept; not among the user's files.
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
        """How much pictures were enlarged to fit the canvas: the median, at most 1."""
        some = self.pairs[:: -(-len(self.pairs) // 100)]
        sizes = np.array([images.read_size(pair.image) for pair in some])
        return float(np.median(np.minimum(1.0, (np.array(self.canvas) / sizes).min(1))))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Reads one example.

        Returns:
          image uint8 [H, W, 3]; segmentation uint8 [H, W, 1], 255 where ignored; and,
          where there is any, depth float32 [H, W, 1] in metres, 0 where unknown.

        Raises:
          BadFile: a file cannot be read, sizes differ, or an id is out of range.
        """
        pair = self.pairs[index]
        with _pointing(self.root):
            arrays = read_pair(pair, self.colours)
            arrays["segmentation"] = labels.checked(
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
      classes: K; 0 for what classes.csv or classes.txt says, or else the masks: one
        more than their largest id, or two where they hold nothing but 0 and 255.
      ignore: the id in the files that means void.
      size: (height, width) of the examples, or one number for both. Larger images are
        scaled down to fit, smaller ones padded (image 0, mask ignored) below and at
        the right. 0 for the largest height and the largest width of the folder.
      limit: the longest side that size 0 gives.
      seed: of the division of a folder without splits.

    Raises:
      BadFile: what is wrong with the folder, the file, and what to do.
      ValueError: an argument out of range.
    """
    canvas = (size, size) if isinstance(size, int) else tuple(size)
    canvas = canvas * 2 if len(canvas) == 1 else canvas
    if (0 in canvas) != (canvas == (0, 0)):
        raise ValueError(f"size={size}: give both sides, or 0 for the largest of the folder")
    if len(canvas) != 2 or min(canvas) < 0 or limit < 1:
        raise ValueError(f"size and limit must be whole pixels, got {size} and {limit}")
    if not 0 <= classes <= labels.MOST:
        raise ValueError(f"classes must be 0 (find out) to {labels.MOST}, got {classes}")
    root = Path(path).expanduser()
    parts, faults = pairs.find(root, seed)
    if faults:
        _refuse(faults, root)
    chosen = select(parts, split, root)
    everything = tuple(pair for part in parts.values() for pair in part)
    with _pointing(root):
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
    how = (canvas, names, ignore, binary, sorted(colours.items()))
    fingerprint = _hash(_stamp(chosen, root), how)
    kept = storage.cache_dir() / "folders" / f"{root.name}-{_hash(root.absolute())}"
    return Folder(root, chosen, canvas, names, ignore, binary, colours, fingerprint, kept)


def _refuse(faults, root):
    fault, *others = faults
    more = f" ({len(others)} more: {_checking(root)})" if others else ""
    raise BadFile(fault.path, fault.what + more, fault.cure, fault.place)


@contextlib.contextmanager
def _pointing(root):
    """Adds to a fault how all of them are listed."""
    try:
        yield
    except BadFile as fault:
        cure = f"{fault.cure} `{_checking(root)}` lists all faults."
        raise BadFile(fault.path, fault.what, cure, fault.place)


def _checking(root):
    return f"python -m launch.check {shlex.quote(str(root))}"


def read_pair(pair: Pair, colours: dict) -> dict[str, np.ndarray]:
    """The arrays of an example as its files hold them, of one size.

    Raises:
      BadFile: a file cannot be read, or sizes differ.
    """
    image = images.read_image(pair.image)
    found = {"image": image, "segmentation": images.read_mask(pair.mask, colours)}
    if pair.depth:
        found["depth"] = images.read_depth(pair.depth)
    for path, array in zip(pair.files, found.values(), strict=True):
        if array.shape[:2] != image.shape[:2]:
            raise images.other_size(path, array.shape, pair.image, image.shape)
    return found


def fit(array: np.ndarray, canvas: tuple[int, int], outside: int) -> np.ndarray:
    """Scales [H, W, ...] down until it fits a canvas, and pads it below and at the right.

    A picture is averaged; ids and depth, [H, W], are taken from the nearest pixel.
    """
    height, width = array.shape[:2]
    scale = min(canvas[0] / height, canvas[1] / width)
    if scale < 1:
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        how = Image.Resampling.BILINEAR if array.ndim == 3 else Image.Resampling.NEAREST
        array = np.asarray(Image.fromarray(array).resize(shape, how))
    if array.shape[:2] == canvas:
        return array
    padded = np.full((*canvas, *array.shape[2:]), outside, array.dtype)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded


def select(parts: dict[str, list[Pair]], split: str, root) -> tuple[Pair, ...]:
    """The pairs that a split expression means.

    Raises:
      BadFile: an unknown split, or an empty one.
    """
    chosen = []
    for part in split.split("+"):
        match = re.fullmatch(r"\s*(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*", part)
        if not match or match[1] not in parts:
            cure = f"It has {', '.join(parts)}; parts are written train[:100] or train[90%:]."
            raise BadFile(root, f"has no split {part!r}", cure)
        whole = parts[match[1]]
        ends = [
            round(len(whole) * int(end[:-1]) / 100)
            if end and end.endswith("%")
            else end and int(end)
            for end in match.groups()[1:]
        ]
        chosen += whole[slice(*ends)]
    if not chosen:
        cure = "Give it more, or make the folders train, val and test yourself."
        raise BadFile(root, f"no example of {sum(map(len, parts.values()))} is in {split!r}", cure)
    return tuple(chosen)


@functools.lru_cache(maxsize=8)
def survey(masks: tuple[Path, ...], colours: tuple, known: bool, stamp: str) -> set[int]:
    """Ids that occur in masks; only until one is neither 0 nor 255, if the rest is known.

    Args:
      masks: the files.
      colours: items of {colour: id}.
      known: whether the number of classes is known.
      stamp: of the files, so that it is done once while they stay the same.
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


@functools.lru_cache(maxsize=8)
def _canvas(paths, limit, stamp):
    del stamp
    sizes = np.array([images.read_size(path) for path in paths])
    height, width = sizes.max(0)
    scale = min(1, limit / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _stamp(chosen, root):
    """A hash of names, sizes and times of files."""
    try:
        found = [(path, path.stat()) for pair in chosen for path in pair.files]
    except OSError as error:  # a link that leads nowhere
        cure = "Copy it again, or mend the link."
        raise BadFile(error.filename, f"cannot be read ({error.strerror})", cure)
    return _hash(*((path.relative_to(root), it.st_size, it.st_mtime_ns) for path, it in found))


def _hash(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
