"""Decides how images become examples, and says it for people."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.data.bad_file import BadFile
from launch.data.folders import doubts
from launch.data.folders.pairs import Pair
from launch.data.folders.reading import Options
from launch.data.folders.survey import Contents
from launch.data.pictures import files


@dataclasses.dataclass(frozen=True)
class Reading:
    """How image files become examples; kept in config.json.

    Attributes:
      size: side of an example in pixels.
      channels: of an example: 1 for grey, or 3.
      ranges: (low, high) of red, green and blue, which become 0 and 255; () for values of 8
        bits that stay as they are.
      background: grey level behind transparent pixels; -1 where all are opaque.
      lines: all this for people.
    """

    size: int
    channels: int
    ranges: tuple[tuple[float, float], ...]
    background: int
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What config.json keeps."""
        return dataclasses.asdict(self)


def decide(
    root: Path,
    contents: dict[Pair, Contents],
    options: Reading,
    intensity: tuple[float, ...],
) -> Reading:
    """Decides how values are scaled, and refuses what is improbable.

    Args:
      root: the folder.
      contents: of each image.
      options: what the user says; its `ranges` are not used.
      intensity: (low, high), the values that become 0 and 255; () to find out.

    Returns:
      The reading.

    Raises:
      BadFile: images differ in their values, or are transparent in parts and `background`
        is not given.
    """
    varying = [pair for pair, one in contents.items() if one.alpha == "varies"]
    if varying and options.background < 0:
        more = f"; so are {len(varying) - 1:,} more" if len(varying) > 1 else ""
        problem = f"is transparent in parts (or its last channel is a band of its own){more}"
        fix = "Give background=255 to lay them on white, 0 on black; or save them opaque."
        raise BadFile(varying[0].image, problem, fix)
    if not varying and options.background >= 0:
        problem = f"background={options.background} has no effect: all images are opaque"
        raise BadFile(root, problem, "Leave it out.")
    given = Options(channels=3, intensity=intensity)
    given.check()
    _, ranges, problems = doubts.channels(list(contents), list(contents.values()), given)
    if problems:
        raise problems[0]
    return dataclasses.replace(options, ranges=ranges)


def describe(
    root: Path,
    splits: dict[str, list[Pair]],
    how: Sequence[str],
    named: dict[Pair, str],
    contents: dict[Pair, Contents],
    reading: Reading,
) -> tuple[str, ...]:
    """The reading in a few lines for people.

    Args:
      root: the folder.
      splits: {split: images}.
      how: how they were divided.
      named: the class of each image; {} without classes.
      contents: of each image.
      reading: the reading.
    """
    parts = ", ".join(f"{split} {len(part):,}" for split, part in splits.items())
    return (
        "; ".join((f"{len(contents):,} images: {parts}", *how)),
        *_describe_others(root, contents),
        *_describe_images(list(contents.values()), reading),
        *_describe_examples(contents, reading),
        *_describe_classes(splits, named),
        *_describe_copies(splits, contents),
    )


def _describe_others(root, contents):
    """A line on files that are not used."""
    taken = {pair.image for pair in contents}
    others = Counter(
        path.suffix or path.name
        for path in root.rglob("*")
        if path not in taken
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
    if others:
        listed = ", ".join(f"{name} ({many:,})" for name, many in others.most_common(4))
        yield f"        {others.total():,} other files are not used: {listed}"


def _describe_images(contents, reading):
    """Lines on kinds, sizes and scaling of values."""
    sizes = Counter(one.size for one in contents)
    listed = ", ".join(f"{w} x {h} ({many:,})" for (h, w), many in sizes.most_common(4))
    listed += f" and {len(sizes) - 4} other sizes" if len(sizes) > 4 else ""
    grey = sum(one.channels == 1 for one in contents)
    kinds = {0: "colour", len(contents): "grey"}
    kind = kinds.get(grey, f"{len(contents) - grey:,} in colour and {grey:,} grey")
    values = "values as stored"
    if reading.ranges:
        spans = dict.fromkeys(f"{low:.6g} to {high:.6g}" for low, high in reading.ranges)
        values = f"scaled so that {' / '.join(spans)} become 0 to 255"
    yield f"images: {kind}, {contents[0].dtype}, {values}; {listed}"
    if turned := sum(one.orientation != 1 for one in contents):
        yield f"        {turned:,} are turned upright by their EXIF orientation"
    if reading.background >= 0:
        yield f"        transparent parts are laid on grey level {reading.background}"
    if reading.channels == 1 and grey < len(contents):
        yield "        colour is turned grey: 0.299 red + 0.587 green + 0.114 blue"
    if reading.channels == 3 and grey:
        yield "        grey is repeated over 3 channels"


def _describe_examples(contents, reading):
    """Lines on scaling and cropping."""
    sides = np.array([one.size for one in contents.values()])
    short, kept, size = sides.min(1), sides.min(1) / sides.max(1), reading.size
    least = f"{kept.min():.0%} at least, of {list(contents)[kept.argmin()].name}"
    yield (
        f"examples: {size} x {size} x {reading.channels}: the shorter side is scaled to {size} "
        f"pixels (by {np.median(size / short):.3g}, median), the centre square is kept "
        f"({np.median(kept):.0%} of an image, median{'; ' + least if np.ptp(kept) else ''})"
    )
    if small := int((short < size).sum()):
        yield f"        {small:,} images are smaller than that and are scaled up"


def _describe_classes(splits, named):
    """Lines on the classes, or on what could be classes."""
    if not named:
        every = [pair for part in splits.values() for pair in part]
        folders = sorted({files.class_of(pair) for pair in every})
        if len(folders) > 1 and "" not in folders:
            some = ", ".join(folders[:4]) + ", ..." * (len(folders) > 4)
            yield f"classes: none; labels=True makes the {len(folders)} folders classes: {some}"
        return
    counts = Counter(named.values())
    listed = ", ".join(f"{name} {counts[name]:,}" for name in sorted(counts)[:10])
    yield f"classes: {len(counts)} folders: {listed}{', ...' * (len(counts) > 10)}"
    for split, part in splits.items():
        if missing := sorted(counts.keys() - {named[pair] for pair in part}):
            yield f"        no image of {', '.join(missing)} is in {split}"


def _describe_copies(splits, contents):
    """A line on images that occur in two splits."""
    first, copies = {}, []
    for split, part in splits.items():
        for pair in part:
            other, before = first.setdefault(contents[pair].digest, (split, pair))
            if other != split:
                copies.append(f"{before.name} and {pair.name}")
    if copies:
        yield f"warning: {len(copies):,} images of two splits are the same, such as {copies[0]}"
