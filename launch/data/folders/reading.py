"""Decides how a folder is read: channels, range, orientation, classes, size; and says so."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from launch.data import classes as labels
from launch.data.bad_file import BadFile
from launch.data.folders import doubts, masks, tiles
from launch.data.folders.layouts import Layout
from launch.data.folders.options import Options
from launch.data.folders.survey import Contents


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the files of a folder become examples; kept in config.json for prediction.

    Attributes:
      channels: of an example's image.
      dtype: of the values in the files.
      ranges: (low, high) of each channel, which become 0 and 255; () for values of 8 bits
        that stay as they are.
      alpha: whether transparency is dropped.
      stored: whether images are not turned by their EXIF orientation.
      classes: names of the classes, in the order of their ids.
      ignore: the id that means void in the files.
      binary: whether 255 means class 1 in the masks.
      values: the meaning of the masks' values.
      ids: (id in the masks, class), all other ids being void; () where ids are classes.
      canvas: (height, width) of every example.
      scale: the factor by which images are scaled; where they are scaled to fit, the median.
      tiled: whether images larger than the canvas are cut into tiles, and not scaled to fit.
      target: what an example shows of its mask, see `Options`.
      colours: (red, green, blue) of each class, by the class list; () where it has none.
      lines: all this for people.
    """

    channels: int
    dtype: str
    ranges: tuple[tuple[float, float], ...]
    alpha: bool
    stored: bool
    classes: tuple[str, ...]
    ignore: int
    binary: bool
    values: str
    ids: tuple[tuple[int, int], ...]
    canvas: tuple[int, int]
    scale: float
    tiled: bool = False
    target: str = ""
    colours: tuple[tuple[int, int, int], ...] = ()
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What config.json keeps."""
        return dataclasses.asdict(self)


def from_json(kept: dict) -> Reading | None:
    """The reading that config.json kept; None for data of another kind."""
    if "canvas" not in kept:
        return None
    tuples = ("classes", "canvas", "lines")
    kept = kept | {key: tuple(kept[key]) for key in tuples}
    pairs = {key: tuple(map(tuple, kept[key])) for key in ("ranges", "ids", "colours")}
    return Reading(**kept | pairs)


def decide(
    root,
    layout: Layout,
    table: labels.Table | None,
    contents: Sequence[Contents],
    options: Options,
    rule: masks.MaskRule,
) -> tuple[Reading | None, list[BadFile]]:
    """Decides how a folder is read, and collects what is wrong or doubtful.

    Args:
      root: the folder.
      layout: its pairs.
      table: its class list, or None.
      contents: of each pair of `layout.pairs`.
      options: what the user says.
      rule: how the masks were read.

    Returns:
      The reading, None where there is none; and the problems, none of which a training
      would survive.
    """
    problems = [*layout.problems, *(bad for one in contents for bad in one.errors)]
    pairs = layout.pairs
    readable = [one for one in contents if one.size and one.counts]
    if not readable:
        return None, problems
    stored, doubt = doubts.orientation(pairs, contents, options.orientation)
    problems += doubt
    problems += doubts.sizes(pairs, contents, stored)
    channels, ranges, bad = doubts.channels(pairs, contents, options)
    problems += bad
    values, bad = doubts.mask_values(root, pairs, contents, table, options)
    problems += bad
    number, binary = 0, False
    if not bad:
        number, binary, bad = _count(root, layout, table, contents, options, rule, values)
        problems += bad
    names = labels.names(table or _named(layout, root), number, options.ignore)
    sizes = [turned(one, stored) for one in readable]
    canvas = options.size if options.size != (0, 0) else _canvas(sizes, options)
    fitting = np.minimum(1.0, (np.array(canvas) / np.array(sizes)).min(1))
    reading = Reading(
        channels=channels,
        dtype=readable[0].dtype,
        ranges=ranges,
        alpha=any(one.alpha for one in contents) and options.channels not in (2, 4),
        stored=stored,
        classes=names,
        ignore=options.ignore,
        binary=binary,
        values=values,
        ids=rule.ids,
        canvas=canvas,
        scale=options.scale or float(np.median(fitting)),
        tiled=options.scale > 0,
        target=options.target,
        colours=labels.colours(table, len(names)),
    )
    lines = describe(root, layout, table, contents, reading, sizes)
    return dataclasses.replace(reading, lines=lines), problems


def describe(root, layout, table, contents, reading: Reading, sizes) -> tuple[str, ...]:
    """The reading in a few lines for people.

    Args:
      root: the folder.
      layout: its pairs.
      table: its class list, or None.
      contents: of each pair.
      reading: the reading.
      sizes: (height, width) of each image as it is used.
    """
    lines = [f"{len(layout.pairs):,} pairs{_splits(layout)}", f"layout: {layout.title}"]
    lines += [f"        {note}" for note in layout.notes]
    common = Counter(sizes).most_common(4)
    more = f" and {len(set(sizes)) - 4} other sizes" if len(set(sizes)) > 4 else ""
    listed = ", ".join(f"{w} x {h} ({many:,})" for (h, w), many in common)
    lines.append(f"images: {_channels(contents, reading)}; {listed}{more}")
    turned = sum(one.orientation != 1 for one in contents)
    if turned:
        how = (
            "not turned: masks are drawn on the stored pixels"
            if reading.stored
            else "turned upright"
        )
        lines.append(f"        {turned:,} have an EXIF orientation and are {how}")
    fit = f"{reading.canvas[1]} x {reading.canvas[0]}"
    if reading.tiled:
        scaled = [tiles.scaled(one, reading.scale) for one in sizes]
        counts = [len(tiles.tiles(one, reading.canvas)) for one in scaled]
        how = f", images scaled by {reading.scale:.3g}" if reading.scale != 1 else ""
        how += f", cut into {sum(counts):,} tiles" if max(counts) > 1 else ""
    else:
        how = f", images scaled down by {reading.scale:.3g} (median)" if reading.scale < 1 else ""
        uneven = len(set(sizes)) > 1 or sizes[0] != reading.canvas
        how += ", padded with void" if uneven else ""
    lines.append(f"examples: {fit} pixels{how}")
    if not reading.classes:
        return tuple(lines)
    source = table.path if table else layout.title if layout.names else ""
    named = f"named by {source.removeprefix(f'{root}/')}" if source else "without a list of names"
    lines.append(f"classes: {len(reading.classes)}, {named}")
    meaning = {
        "threshold": "values from half of the range on are class 1",
        "instances": "each object has a number; all are class 1",
        "alpha": "the transparency holds the ids",
    }.get(reading.values, "0 and 255, which is class 1" if reading.binary else "ids of classes")
    void = "" if reading.binary or reading.values == "threshold" else f"; {reading.ignore} is void"
    if reading.values == "instances":
        also = f"{reading.ignore} and " if reading.ignore != labels.IGNORED else ""
        void = f"; {also}65535 of 16 bits void"
    lines.append(f"masks:  {meaning}{void}")
    if reading.target:
        learnt = {"objects": "the number of its object", "labels": "a yes or no for each class"}
        lines.append(f"target: of each pixel {learnt[reading.target]}")
    return tuple(lines)


def _splits(layout):
    """The sizes of the splits, and how they came about where they are drawn."""
    if layout.fold:
        sizes = ", ".join(f"{len(part):,} {split}" for split, part in layout.splits.items())
        drawn = ", test a tenth as no split is given" * layout.drawn
        return f", fold {layout.fold.part} of {layout.fold.parts}: {sizes}{drawn}"
    sizes = ", ".join(f"{split} {len(part):,}" for split, part in layout.splits.items())
    drawn = "; divided 80/10/10 by a hash of the names, as no split is given" * layout.drawn
    return f": {sizes}{drawn}"


def _channels(contents, reading):
    """Channels, bits and scaling of the images."""
    stored = {one.channels for one in contents if one.size}
    kind = f"{reading.channels} channels of {reading.dtype}"
    if stored == {1} and reading.channels == 3:
        kind = f"grey of {reading.dtype}, repeated over 3 channels"
    alpha = ", transparency dropped" if reading.alpha else ""
    if not reading.ranges:
        return f"{kind}, values as stored{alpha}"
    spans = dict.fromkeys(f"{low:.6g} to {high:.6g}" for low, high in reading.ranges)
    return f"{kind}{alpha}, scaled so that {' / '.join(spans)} become 0 to 255"


def _count(root, layout, table, contents, options, rule, values):
    """The number of classes, whether 255 means 1, and what speaks against it."""
    present = set().union(*(one.counts for one in contents))
    if values in ("threshold", "instances"):
        named = max(table.names, default=1) + 1 if table else 2
        return max(2, options.classes, named), False, []
    table = table or _named(layout, root)
    try:
        number, binary = labels.count(root, table, options.classes, options.ignore, present)
    except BadFile as bad:
        # Where few masks are wrong, their ids are named, and not those of all masks together.
        gap = next(number for number in range(len(present) + 1) if number not in present)
        odd = sum(bool(set(one.counts) - {*range(gap), options.ignore}) for one in contents)
        if table or gap < 2 or odd > len(contents) / 2:
            return 0, False, [bad]
        number, binary = min(gap, labels.MOST), False
    pairs = layout.pairs
    return (
        number,
        binary,
        doubts.ids(root, pairs, contents, options, table, rule, number=number, binary=binary),
    )


def _named(layout, root):
    """A class list of the names that the layout gives; None without."""
    return labels.Table(layout.names, {}, str(root)) if layout.names else None


def turned(one: Contents, stored: bool) -> tuple[int, int]:
    """(height, width) of an image as it is used.

    Args:
      one: what the image's files hold.
      stored: whether images are not turned by their EXIF orientation.
    """
    return one.size if stored or one.orientation < 5 else one.size[::-1]


def _canvas(sizes, options):
    """The largest height and width, within the limit: scaled, or cut into equal parts."""
    height, width = np.array(sizes).max(0)
    if options.scale:
        sides = tiles.scaled((height, width), options.scale)
        return tuple(-(-side // -(-side // options.limit)) for side in sides)
    return tiles.scaled((height, width), min(1, options.limit / max(height, width)))
