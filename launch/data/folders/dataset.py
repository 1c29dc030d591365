"""The examples of a folder of images and masks."""

import dataclasses
import functools
import logging
from pathlib import Path

import numpy as np

from launch.data.folders import examples, masks, opening, reading, survey, tiles
from launch.data.folders.options import Options
from launch.data.folders.pairs import Pair
from launch.data.folders.reading import Reading

logger = logging.getLogger("segen")


@dataclasses.dataclass(frozen=True)
class Folder:
    """The examples of one split; made by `folder`.

    Attributes:
      root: the folder.
      pairs: the files of each image.
      pieces: (number of the pair, tile of it) of each example.
      rule: how masks are read.
      reading: how files become examples.
      fingerprint: changes when the files change or are read in another way.
      inventory: {image: a hash of its pixels and of the counts of its labels}.
      folder: where decoded examples may be cached; outside of the user's folder.
    """

    root: Path
    pairs: tuple[Pair, ...]
    pieces: tuple[tuple[int, tiles.Tile], ...]
    rule: masks.MaskRule
    reading: Reading
    fingerprint: str
    inventory: dict[str, str]
    folder: Path

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their ids; of labels, without background."""
        target = self.reading.target
        return () if target == "objects" else self.reading.classes[bool(target) :]

    def file_of(self, index: int) -> str:
        """The file of an example's image in the folder, and where in it a tile begins."""
        number, tile = self.pieces[index]
        name = self.pairs[number].image.relative_to(self.root).as_posix()
        begins = tile.rows[0], tile.columns[0]
        return f"{name} from {begins}" if self.reading.tiled and any(begins) else name

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the split reads."""
        return tuple(path for pair in self.pairs for path in pair.files)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Reads one example.

        Args:
          index: its place in `pieces`.

        Returns:
          image uint8 [H, W, C]; segmentation uint8 [H, W, 1], 255 where ignored, or in its
          place, by `target`, instances uint16 [H, W, 1], 65535 where ignored, or labels uint8
          [H, W, K - 1] of all classes but the first, 255 where ignored; weight
          float32 [H, W, 1] where objects are numbered; and, where the data set has depth,
          depth float32 [H, W, 1] in metres, 0 where unknown.

        Raises:
          BadFile: a file cannot be read, sizes differ, or an id is out of range.
        """
        canvas = self.reading.canvas
        number, tile = self.pieces[index]
        with opening.mention_check(self.root):
            arrays = examples.read_pair(self.pairs[number], self.rule, self.reading)
        if self.reading.tiled:
            size = tiles.scaled(arrays["image"].shape[:2], self.reading.scale)
            scaled = {
                key: examples.resize(array, size, nearest=key == "labels")
                for key, array in arrays.items()
            }
            arrays = {key: tile.cut(key, array, canvas) for key, array in scaled.items()}
        fitted = {
            key: examples.fit(array, canvas, tiles.VOID.get(key, 0), nearest=key == "labels")
            for key, array in arrays.items()
        }
        return {key: array.reshape(*canvas, -1) for key, array in fitted.items()}


def folder(
    split: str,
    path: str,
    classes: int = 0,
    ignore: int = 255,
    size: int | tuple[int, int] = 0,
    limit: int = 512,
    scale: float = 0.0,
    seed: int = 0,
    layout: str = "",
    masks: str = "",
    values: str = "",
    orientation: str = "",
    channels: int = 0,
    intensity: tuple[float, ...] = (),
    target: str = "",
    val: float = 0.1,
    fold: str = "",
    group: str = "",
) -> Folder:
    """Opens one split of a folder of images and masks.

    Args:
      split: "train", "val" or "test"; parts such as "train[:100]" or "train[90%:]";
        several joined by "+".
      path: the folder.
      classes: K; 0 takes the number from the class list, or else from the masks: one more
        than their largest id, or 2 if they hold only 0 and 255.
      ignore: the id that means void in the files.
      size: (height, width) of the examples, or one number for both. Larger images are
        scaled down to fit, smaller ones are padded (image 0, mask ignored) below and at
        the right. 0 takes the largest height and the largest width of the folder.
      limit: the longest side that `size=0` gives, in pixels.
      scale: 0 scales larger images down to fit. Another factor scales all images by it, and
        those that are then larger than `size` are cut into tiles, an example each. A tile
        shows what overlaps with its neighbours, but each pixel counts in one tile only.
      seed, layout, masks, values, orientation, channels, intensity, target, val, fold, group: see
        `launch.data.folders.options.Options`.

    Returns:
      The examples.

    Raises:
      BadFile: a problem of the folder, with the file and how to fix it.
      ValueError: an argument out of range.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    sides = sides * 2 if len(sides) == 1 else sides
    options = Options(
        classes,
        ignore,
        sides,
        limit,
        scale,
        seed,
        layout,
        masks,
        values,
        orientation,
        channels,
        tuple(intensity),
        target,
        val,
        fold,
        group,
    )
    opened = opening.usable(opening.open_folder(Path(path).expanduser(), options))
    chosen = opening.select(opened.layout.splits, split, opened.root)
    for line in opened.reading.lines:
        _say_once(opened.root, line)
    kept = dataclasses.replace(opened.reading, lines=())
    fingerprint = opening.hash_of(opening.stamp(chosen, opened.root), kept, opened.rule)
    contents = dict(zip(opened.layout.pairs, opened.contents, strict=True))
    inventory = {
        pair.image.relative_to(opened.root).as_posix(): opening.hash_of(
            contents[pair].digest, sorted(contents[pair].counts.items())
        )
        for pair in chosen
    }
    pieces = tuple(
        (number, tile)
        for number, pair in enumerate(chosen)
        for tile in _tiles_of(contents[pair], opened.reading)
    )
    how, cache = opened.reading, opened.cache
    return Folder(opened.root, chosen, pieces, opened.rule, how, fingerprint, inventory, cache)


def _tiles_of(one: survey.Contents, how: Reading):
    """The tiles of an image; one where images are scaled to fit."""
    if not how.tiled:
        return [tiles.WHOLE]
    size = reading.turned(one, how.stored)
    return tiles.tiles(tiles.scaled(size, how.scale), how.canvas)


@functools.lru_cache(maxsize=64)
def _say_once(root, line):
    """Logs a line about a folder; its other splits do not say it again."""
    logger.info(f"{root.name}: {line}")
