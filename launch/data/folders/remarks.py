"""What may be intended in a folder but is worth a look: the warnings of `launch.check`."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from launch.data.bad_file import BadFile
from launch.data.folders import examples, masks, tiles
from launch.data.folders.opening import OpenedFolder
from launch.data.folders.pairs import Pair

LOOKED_AT = 50  # masks whose objects are counted before and after they are scaled down


def remarks(opened: OpenedFolder) -> list[BadFile]:
    """Collects what is worth a look.

    Args:
      opened: the folder; its `reading` is not None.

    Returns:
      The warnings.
    """
    return [
        *_splits(opened),
        *_masks(opened),
        *_presence(opened),
        *_duplicates(opened),
        *_vanishing(opened),
    ]


def class_counts(opened: OpenedFolder) -> dict[str, Counter]:
    """Counts the pixels of each class: {split: {id: pixels}}, 255 being 1 in binary masks.

    Args:
      opened: the folder.
    """
    return {split: pixels(opened, part) for split, part in opened.layout.splits.items()}


def pixels(opened: OpenedFolder, pairs: Iterable[Pair]) -> Counter:
    """Counts the pixels of each class in some pairs: {id: pixels}, 255 being 1 in binary masks.

    Args:
      opened: the folder.
      pairs: some of its pairs.
    """
    by_pair = dict(zip(opened.layout.pairs, opened.contents, strict=True))
    binary = opened.reading is not None and opened.reading.binary
    target = opened.reading.target if opened.reading else ""
    result = Counter()
    for pair in pairs:
        for value, many in by_pair[pair].pixels(target).items():
            result[min(value, 1) if binary else value] += many
    return result


def _splits(opened):
    """Splits that training needs by default but that are empty, and splits without depth."""
    splits = opened.layout.splits
    present = [split for split in ("val", "test", "train") if splits.get(split)]
    with_depth = {split for split in present if any(pair.depth for pair in splits[split])}
    fix = "Add it, or train without depth."
    for split in present:
        if with_depth and split not in with_depth:
            yield BadFile(opened.root, "no depth, but other splits have it", fix, split)


def _masks(opened):
    """Masks without a label, and 255 that is void in a mask of two values."""
    how = opened.reading
    for pair, one in zip(opened.layout.pairs, opened.contents, strict=True):
        ids = one.counts.keys()
        if ids == {how.ignore} and not how.binary:
            fix = "Leave the pair out, or label it."
            yield BadFile(pair.mask, f"all pixels are void (id {how.ignore})", fix)
        elif len(how.classes) == 2 and not how.binary and 255 in ids and ids <= {0, 255}:
            fix = "If it means 1, save it as in the other masks: as 1."
            yield BadFile(pair.mask, "255 is void here, and nothing is 1", fix)


def _presence(opened):
    """Classes that do not occur in a split."""
    for split, counts in class_counts(opened).items():
        names = enumerate(opened.reading.classes)
        missing = [name for k, name in names if not counts[k] and k != opened.reading.ignore]
        if missing and counts:
            fix = "Its IoU is not defined there; check the ids, or move examples."
            yield BadFile(opened.root, f"no pixel of {', '.join(missing)}", fix, split)


def _duplicates(opened):
    """Images that occur in two splits."""
    by_pair = dict(zip(opened.layout.pairs, opened.contents, strict=True))
    places = defaultdict(dict)
    for split, part in opened.layout.splits.items():
        for pair in part:
            if by_pair[pair].digest:
                places[by_pair[pair].digest].setdefault(split, pair.image)
    for same in places.values():
        first, *others = same.values()
        for path in others:
            fix = "Keep it in one split; otherwise the scores are too good."
            yield BadFile(path, f"the same image as {first}", fix)


def _vanishing(opened):
    """Objects of which no pixel is left where images are scaled down to the examples' size."""
    if opened.reading.scale == 1 or opened.problems:
        return
    before, lost = Counter(), Counter()
    how = dataclasses.replace(opened.reading, target="")  # an id a pixel
    chosen = opened.layout.pairs[:: -(-len(opened.layout.pairs) // LOOKED_AT)]
    for pair in chosen:
        ids = examples.read_pair(pair, opened.rule, how)["segmentation"]
        for number in set(np.unique(ids)) - {0, masks.IGNORED}:
            objects, many = ndimage.label(ids == number, np.ones((3, 3)))
            left = objects.astype(np.int32)
            if how.tiled:
                left = examples.resize(left, tiles.scaled(left.shape, how.scale))
            else:
                left = examples.fit(left, how.canvas, 0)
            before[int(number)] += many
            lost[int(number)] += many - len(np.unique(left[left > 0]))
    if not lost.total():
        return
    listed = ", ".join(
        f"{how.classes[k]} {lost[k]:,} of {before[k]:,}" for k in sorted(lost) if lost[k]
    )
    problem = f"objects vanish where images are scaled down by {how.scale:.3g}: {listed}"
    problem += f" (in {len(chosen):,} masks)" if len(chosen) < len(opened.layout.pairs) else ""
    fix = "Give a larger limit or size, or scale=1, which cuts the images into tiles."
    yield BadFile(opened.root, problem, fix)
