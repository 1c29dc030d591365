"""What is improbable in a folder, each with the argument that confirms or changes it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from launch.data import classes as labels
from launch.data import images
from launch.data.bad_file import BadFile
from launch.data.folders import masks
from launch.data.folders.pairs import Pair
from launch.data.folders.survey import Contents

NARROW = 0.1  # share of 0 to 255 that the values of 8 bits should exceed
SOFT_VALUES, SOFT_SHARE = 3, 0.3  # values between two extremes, and their share of pixels
MANY_VALUES = 32  # between two extremes, which are no ids even if none is left out
IDS_LISTED = 5  # wrong ids that are listed one by one


def orientation(
    pairs: Sequence[Pair], contents: Sequence[Contents], given: str
) -> tuple[bool, list[BadFile]]:
    """Decides whether masks belong to the stored or to the upright images.

    An image that lies on its side tells by the size of its mask. Where no image tells and
    the masks have no EXIF orientation of their own, it cannot be known.

    Args:
      pairs: the pairs.
      contents: of each pair.
      given: "upright", "stored", or "" to find out.

    Returns:
      Whether images are used as they are stored, and the doubt.
    """
    if given:
        return given == "stored", []
    votes, unknown = Counter(), []
    for pair, one in zip(pairs, contents, strict=True):
        if one.orientation == 1 or one.mask_orientation == one.orientation or not one.mask_size:
            continue
        upright = one.size[::-1] if one.orientation >= 5 else one.size
        fits = {"upright": one.mask_size == upright, "stored": one.mask_size == one.size}
        if sum(fits.values()) == 1:
            votes[max(fits, key=fits.get)] += 1
        elif all(fits.values()):
            unknown.append(pair)
    if len(votes) == 1:
        return "stored" in votes, []
    if not votes and not unknown:
        return False, []
    number = sum(votes.values()) or len(unknown)
    pair = unknown[0] if unknown else pairs[0]
    why = "some masks fit the stored image and some the upright one"
    if not votes:
        why = "their masks have none, so they may be drawn on the stored or the upright image"
    fix = 'Look at one, and give orientation="stored" or orientation="upright".'
    return False, [BadFile(pair.image, f"{number:,} images are turned by EXIF; {why}", fix)]


def sizes(pairs: Sequence[Pair], contents: Sequence[Contents], stored: bool) -> list[BadFile]:
    """Masks of another size than their images.

    Args:
      pairs: the pairs.
      contents: of each pair.
      stored: whether EXIF orientation is left out.
    """
    wrong = []
    for pair, one in zip(pairs, contents, strict=True):
        if not one.size or not one.mask_size:
            continue
        swap = lambda size, turn: size[::-1] if turn >= 5 and not stored else size
        image = swap(one.size, one.orientation)
        mask = swap(one.mask_size, one.mask_orientation)
        if image != mask:
            wrong.append(images.wrong_size(pair.mask, mask, pair.image, image))
    return wrong


def channels(
    pairs: Sequence[Pair], contents: Sequence[Contents], options
) -> tuple[int, tuple[tuple[float, float], ...], list[BadFile]]:
    """Decides the channels of the images and how their values are scaled.

    Args:
      pairs: the pairs.
      contents: of each pair.
      options: the user's `Options`.

    Returns:
      The number of channels; (low, high) of each, () for values that stay; and what
      speaks against it.
    """
    known = [(pair, one) for pair, one in zip(pairs, contents, strict=True) if one.size]
    kinds = Counter(one.dtype for _, one in known)
    if len(kinds) > 1:
        odd = kinds.most_common()[-1][0]
        pair = next(pair for pair, one in known if one.dtype == odd)
        problem = f"holds values of {odd}, most images {kinds.most_common(1)[0][0]}"
        return 3, (), [BadFile(pair.image, problem, "Save all images alike.")]
    varying = [pair for pair, one in known if one.alpha == "varies"]
    if varying and not options.channels:
        count = next(one.channels for pair, one in known if pair is varying[0])
        problem = (
            f"its last channel ({count + 1} in all) may be transparency or a band of its own; so "
            f"in {len(varying):,} images"
        )
        fix = f"Give channels={count} to drop it, or channels={count + 1} to use it."
        return 3, (), [BadFile(varying[0].image, problem, fix)]
    counts = Counter(_channels(one, options.channels) for _, one in known)
    wanted = options.channels or max(counts)
    if counts.keys() - {wanted, 1 if wanted == 3 else wanted}:
        odd = next(count for count in reversed([*dict(counts.most_common())]) if count != wanted)
        pair = next(pair for pair, one in known if _channels(one, options.channels) == odd)
        problem = f"has {odd} channels, where {wanted} are expected"
        return 3, (), [BadFile(pair.image, problem, "Save all images alike.")]
    result = 3 if wanted == 1 and not options.channels else wanted
    ranges, bad = _ranges(known, counts, result, options)
    return result, ranges, bad


def _channels(one, wanted):
    """The channels of an image, with its last one if that is wanted."""
    return wanted if one.alpha and wanted == one.channels + 1 else one.channels


def _ranges(known, counts, channels, options):
    dtype = known[0][1].dtype
    if options.intensity:
        as_stored = dtype == "uint8" and tuple(options.intensity) == (0, 255)
        return (() if as_stored else (tuple(map(float, options.intensity)),) * channels), []
    plain = dtype == "uint8" and channels in (1, 3)
    limits = np.array([one.ranges[: min(counts)] for _, one in known])
    low, high = limits[..., 0].min(), limits[..., 1].max()
    if (never := ~np.isfinite(limits).any((0, 2))).any():
        problem = f"no image holds a measured value in channel {never.argmax() + 1}"
        fix = "All their pixels are marked as without data (GDAL_NODATA): export the images again."
        return (), [BadFile(known[0][0].image, problem, fix)]
    if plain and high - low <= NARROW * 255:
        problem = f"the values of all images lie within {low:g} and {high:g} of 0 to 255"
        fix = f"Give intensity=({low:g}, {high:g}) to spread them, or intensity=(0, 255)."
        return (), [BadFile(known[0][0].image, problem, fix)]
    if plain:
        return (), []
    if len(counts) > 1:  # grey beside colour: one range for all channels
        return ((float(low), float(high)),) * channels, []
    limits = np.array([one.ranges[:channels] for _, one in known])
    ends = zip(limits[..., 0].min(0), limits[..., 1].max(0), strict=True)
    each = [(float(a), float(b)) for a, b in ends]
    if all(low == high for low, high in each):
        problem = f"all images hold the value {each[0][0]:g} alone"
        return (), [BadFile(known[0][0].image, problem, "Export the images again.")]
    return tuple(each * channels if len(each) == 1 else each), []


def mask_values(
    root, pairs: Sequence[Pair], contents: Sequence[Contents], table, options
) -> tuple[str, list[BadFile]]:
    """Decides what the values of masks mean, and doubts what is improbable.

    Args:
      root: the folder.
      pairs: the pairs.
      contents: of each pair.
      table: the class list, or None.
      options: the user's `Options`.

    Returns:
      One of `masks.VALUES`, and the doubt.
    """
    if options.values:
        return options.values, _nothing_marked(root, contents, options)
    first = pairs[0].mask
    if some := [pair.mask for pair, one in zip(pairs, contents, strict=True) if one.alpha_labels]:
        problem = "its colour is the same everywhere, but its transparency differs"
        fix = 'Give values="alpha" if the transparency holds the labels; otherwise mend the mask.'
        return "ids", [BadFile(some[0], problem, fix)]
    if empty := _nothing_marked(root, contents, options):
        return "ids", empty
    total = Counter()
    for one in contents:
        total.update(one.counts)
    if (between := _soft(total, table, options)) is not None:
        top = max(total)
        problem = (
            f"masks hold 0, {top:,} and {between} values between them at their edges, as smooth "
            "or compressed edges do"
        )
        fix = 'Give values="threshold" to cut them at the half, or values="ids" if they are ids.'
        return "ids", [BadFile(first, problem, fix)]
    if not table and not options.classes and _instances(contents):
        problem = "masks number objects: each image counts its own from 1 on"
        fix = (
            'Give values="instances" to learn objects against background, or values="ids" if '
            "these are classes."
        )
        return "ids", [BadFile(first, problem, fix)]
    return "ids", []


def _nothing_marked(root, contents, options):
    """Masks that all hold one value or void."""
    marked = set()
    for one in contents:
        marked |= {value for value, many in one.pixels(options.target).items() if many}
    marked -= {options.ignore}
    if len(marked) > 1 or (
        options.ignore == 255 and any({0, 255} <= one.counts.keys() for one in contents)
    ):
        return []
    if len(marked) == 1 and any(options.ignore in one.counts for one in contents):
        return []  # one class and void: count() has more to say
    only = f"the value {marked.pop()}" if marked else f"void ({options.ignore})"
    fix = "Export the masks again: nothing can be learnt from these."
    return [BadFile(root, f"all masks hold {only} alone", fix)]


def _soft(total, table, options):
    """The number of values between two extremes that are no ids; None if they may be ids."""
    top, pixels = max(total), sum(total.values())
    between = [value for value in total if 0 < value < top and value != options.ignore]
    known = options.classes or (max(table.names, default=0) + 1 if table else 0)
    if 0 not in total or len(between) < SOFT_VALUES or (known and max(between) < known):
        return None
    share = sum(total[value] for value in between) / pixels
    gaps = sorted(between) != list(range(1, len(between) + 1))
    if share > SOFT_SHARE or total[0] + total[top] < (1 - SOFT_SHARE) * pixels:
        return None
    wide = top in (255, 65_535) or max(between) - min(between) > 4 * len(between)
    return len(between) if (gaps and wide) or len(between) >= MANY_VALUES else None


def _instances(contents):
    """Whether most images number connected objects from 1 on, each to another number."""
    some = [one for one in contents if one.objects is not None]
    if len(some) < max(2, len(contents) / 4):
        return False
    ends = {max(one.counts) for one in some}
    from_one = sum(
        sorted(set(one.counts) - {0}) == list(range(1, max(one.counts) + 1)) for one in some
    )
    numbered = from_one >= 0.5 * len(some) or max(ends) > labels.MOST
    connected = sum(one.objects for one in some) >= 0.8 * len(some)
    return numbered and connected and len(ends) > 2 and max(ends) > 4


def ids(
    root,
    pairs: Sequence[Pair],
    contents: Sequence[Contents],
    options,
    table: labels.Table | None,
    rule: masks.MaskRule,
    number: int,
    binary: bool,
) -> list[BadFile]:
    """Ids without a class, and classes without an id.

    Args:
      root: the folder.
      pairs: the pairs.
      contents: of each pair.
      options: the user's `Options`.
      table: the class list, or None.
      rule: how masks are read.
      number: K, the number of classes.
      binary: whether 255 means class 1.

    Returns:
      The problems: of each mask its first wrong ids.
    """
    wrong = []
    present = set().union(*(one.counts for one in contents)) - {options.ignore}
    without_background = table and not options.classes and present == set(range(number + 1))
    if table and (without_background or (number == 1 and present | {options.ignore} == {0, 255})):
        problem = f"names {number} class{'es' * (number > 1)}, but masks hold {number + 1} values"
        fix = "If 0 is the background, write it as the first class"
        fix += f"; if {number} is void, give ignore={number}." if without_background else "."
        return [BadFile(table.path, problem, fix)]
    if number < 2:
        fix = "A net tells at least two classes apart: check the masks, or give classes."
        return [BadFile(root, f"its masks hold {number} class", fix)]
    holes = sorted(set(range(number)) - present - {options.ignore})
    if holes and not table and not options.classes and not binary:
        some = ", ".join(map(str, holes[:8]))
        fix = f"Give classes={number} if it is a class too; otherwise mend the masks."
        wrong.append(BadFile(root, f"no mask holds the id {some}, though larger ones occur", fix))
    for pair, one in zip(pairs, contents, strict=True):
        bad = [v for v in one.counts if v not in range(number) and v != options.ignore]
        bad = [v for v in bad if not (binary and v == 255)]
        array = masks.read(pair, rule, one.size)[0] if bad else None
        for value in bad[:IDS_LISTED]:
            only = np.where(array == value, array.astype(np.int64), options.ignore)
            try:
                labels.check_ids(pair.mask, only, number, options.ignore)
            except BadFile as error:
                wrong.append(error)
        if len(bad) > IDS_LISTED:
            problem = f"{len(bad) - IDS_LISTED} more ids out of range, up to {max(bad)}"
            wrong.append(BadFile(pair.mask, problem, "Correct the mask."))
    return wrong
