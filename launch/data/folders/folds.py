"""Divides the images of training and validation into folds, by a hash of their names."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from launch.config.fold import Fold, parse
from launch.data.bad_file import BadFile
from launch.data.folders.pairs import Pair


def divide(
    root: Path, pairs: Sequence[Pair], fold: Fold, seed: int = 0, group: str = ""
) -> tuple[list[Pair], list[Pair]]:
    """Holds out one part of some pairs; the parts differ by one pair at most.

    The pairs are ordered by a hash of their names, and cut into parts of equal size. So neither
    their order nor the split that they lie in matters, and a pair that is added moves few others.

    Args:
      root: the folder.
      pairs: those of training and validation.
      fold: which part is held out.
      seed: another one divides in another way.
      group: a regular expression that is searched for in the path of an image below the folder.
        Images with the same first group stay together, and the parts are as equal as that allows.

    Returns:
      The pairs to train on and those that are held out, each in the order given.

    Raises:
      BadFile: a part would be empty, or a path does not hold the expression.
    """
    groups = {}
    for pair in pairs:
        groups.setdefault(_key(root, pair, group), []).append(pair)
    order = sorted(groups, key=lambda key: (_hash(seed, key[0]), key[1]))
    parts, before = [set() for _ in range(fold.parts)], 0
    for members in map(groups.get, order):
        middle = 2 * before + len(members)  # twice the place of the middle of the group
        parts[middle * fold.parts // (2 * len(pairs))].update(members)
        before += len(members)
    if not all(parts):
        largest = max(map(len, groups.values()), default=0)
        of = f" in {len(groups):,} groups, the largest of {largest:,}" if group else ""
        problem = f"train and val have {len(pairs):,} images{of}: too few for {fold.parts} folds"
        raise BadFile(root, problem, "Take fewer folds, or give it more images.")
    held_out = parts[fold.part - 1]
    return [pair for pair in pairs if pair not in held_out], [p for p in pairs if p in held_out]


def check(fold: str, group: str) -> None:
    """Refuses arguments that cannot work.

    Args:
      fold: as "2/5"; "" for none.
      group: a regular expression, see `divide`.

    Raises:
      UserError: no such fold.
      ValueError: the expression cannot be one, or has no effect.
    """
    parse(fold)
    if not group:
        return
    if not fold:
        raise ValueError(f"group={group!r} has no effect without a fold")
    try:
        groups = re.compile(group).groups
    except (re.error, TypeError) as error:
        raise ValueError(f"group={group!r} is no regular expression ({error})")
    if not groups:
        raise ValueError(f"group={group!r} has no group; write it in parentheses")


def _key(root, pair, group):
    """What decides the part of a pair, and a path that tells pairs of the same name apart."""
    path = pair.image.relative_to(root).as_posix()
    if not group:
        return pair.name, path
    match = re.search(group, path)
    if not match or match[1] is None:
        fix = "Give an expression whose first (...) is the name of the group, in every path."
        raise BadFile(pair.image, f"group={group!r} is not in its path {path}", fix)
    return match[1], ""


def _hash(seed, name):
    return hashlib.sha256(os.fsencode(f"fold/{seed}/{name}")).digest()
