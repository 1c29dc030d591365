"""Opens a folder of images, and reads its examples."""

import dataclasses
import functools
import logging
from pathlib import Path

import numpy as np
from PIL import Image

from launch import storage
from launch.data import images, transforms
from launch.data.bad_file import BadFile
from launch.data.folders.opening import select, stamp
from launch.data.folders.pairs import Pair
from launch.data.image_formats import load, upright_image
from launch.data.pictures import files, reading, survey
from launch.data.pictures.reading import Reading
from launch.data.sources import hash_of

logger = logging.getLogger("segen")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The examples of one split; made by `pictures`.

    Attributes:
      pairs: the images.
      labels: class id of each image; () without classes.
      classes: names of the classes, in the order of their ids.
      reading: how files become examples.
      inventory: {image: a hash of its pixels}.
      fingerprint: changes when the files change or are read in another way.
      folder: where decoded examples may be cached; outside of the user's folder.
    """

    pairs: tuple[Pair, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    reading: Reading
    inventory: dict[str, str]
    fingerprint: str
    folder: Path

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Reads one example.

        Args:
          index: its place in `pairs`.

        Returns:
          image uint8 [size, size, C]; and, with classes, label int32 [].

        Raises:
          BadFile: the file cannot be read.
        """
        example = {"image": read(self.pairs[index].image, self.reading)}
        if self.labels:
            example["label"] = np.int32(self.labels[index])
        return example


def pictures(
    split: str,
    path: str,
    size: int = 32,
    channels: int = 3,
    labels: bool = False,
    only: str = "",
    background: int = -1,
    intensity: tuple[float, ...] = (),
    seed: int = 0,
) -> Pictures:
    """Opens one split of a folder of images.

    Args:
      split: "train" or "test", or "val" where there is such a folder; parts such as
        "train[:100]" or "train[90%:]"; several joined by "+".
      path: the folder; images may lie in any folder below it.
      size: side of the examples in pixels.
      channels: 3, or 1: colour is turned grey by its luminance.
      labels: whether the first folder below DIR, or below the folder of a split, is the
        class of an image.
      only: a pattern of the paths to take, such as "*.jpg" or "images/*"; "" for all, but
        none may look like masks of others.
      background: grey level, 0 to 255, that transparent images are laid on; -1 refuses them.
      intensity: (low, high), the values that become 0 and 255; () to find out: 8 bits stay,
        and more bits are scaled by the range of most values of the whole folder.
      seed: changes how a folder without splits is divided.

    Returns:
      The examples.

    Raises:
      BadFile: a problem of the folder, with the file and how to fix it.
      ValueError: an argument out of range.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3, got {channels}")
    if not -1 <= background <= 255:
        raise ValueError(f"background must be 0 to 255, or -1 for none, got {background}")
    root = Path(path).expanduser()
    try:
        found = files.find(root, only)
        splits, how = files.divide(root, found, seed)
        named = files.classes_of(root, found) if labels else {}
        cache = storage.cache_dir() / "pictures" / f"{root.name}-{hash_of(str(root.absolute()))}"
        contents = survey.survey(found, cache, stamp(found, root))
        given = Reading(size, channels, (), background)
        chosen_reading = reading.decide(root, contents, given, tuple(intensity))
        chosen = select(splits, split, root)
    except BadFile as bad:
        advice = " Arguments are --config.data.kwargs.NAME=VALUE in a run." * ("=" in bad.fix)
        raise BadFile(bad.path, bad.problem, bad.fix + advice, bad.place)
    lines = reading.describe(root, splits, how, named, contents, chosen_reading)
    for line in lines:
        _say_once(root, line)
    classes = tuple(sorted(set(named.values())))
    ids = tuple(classes.index(named[pair]) for pair in chosen) if labels else ()
    inventory = {pair.name: contents[pair].digest for pair in chosen}
    fingerprint = hash_of(stamp(chosen, root), chosen_reading, ids, classes)
    kept = dataclasses.replace(chosen_reading, lines=lines)
    return Pictures(chosen, ids, classes, kept, inventory, fingerprint, cache)


def read(path, how: Reading) -> np.ndarray:
    """Reads an image as an example.

    Args:
      path: the file.
      how: how files become examples.

    Returns:
      uint8 [size, size, C].

    Raises:
      BadFile: it cannot be read.
    """
    loaded = load(path)
    if loaded.image is not None and loaded.image.mode in ("L", "RGB") and not how.ranges:
        # Pillow's own image is cut and scaled, which takes no copy of all its pixels.
        picture = upright_image(loaded.image, loaded.orientation)
    else:
        picture = Image.fromarray(_colours(path, loaded, how))
    if how.channels == 1:
        picture = picture.convert("L")
    square = transforms.centre_square(picture, how.size)
    return square if square.shape[-1] == how.channels else np.repeat(square, how.channels, -1)


def _colours(path, loaded, how):
    """The colours of an image: uint8 [H, W, 3]."""
    values, alpha, *_ = images.pixels_of(path, loaded)
    colour = values[..., : values.shape[-1] - alpha]
    colour = np.repeat(colour, 3, -1) if colour.shape[-1] == 1 else colour
    if how.ranges:
        colour = images.to_uint8(colour, np.array(how.ranges))
    if alpha and how.background >= 0:
        share = values[..., -1:].astype(np.float32) / survey.opaque(values)
        laid = colour * share + how.background * (1.0 - share)
        colour = np.round(laid).astype(np.uint8)
    return colour


@functools.lru_cache(maxsize=64)
def _say_once(root, line):
    """Logs a line about a folder; its other splits do not say it again."""
    logger.info(f"{root.name}: {line}")
