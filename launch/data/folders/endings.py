"""Finds which endings of names tell masks from images, as in a.jpg and a_mask.png."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from launch.data import images
from launch.data.bad_file import BadFile
from launch.data.folders.listing import ROLES, Entry

SEPARATORS = "-_. "
SHARE = 0.8  # of the files with an ending that must have a partner
LOOKED_AT = 3  # files of an ending that are opened where its words say nothing
FEW_VALUES = 64  # of a mask; a photograph of more pixels has more


def of_name(name: str) -> list[str]:
    """The endings of a name, the longest first: "a_gt_seg" has "_gt_seg" and "_seg"."""
    return [name[at:] for at in range(1, len(name)) if name[at] in SEPARATORS]


def role_of(ending: str) -> str:
    """What an ending says of its file: "mask", "image", "depth", or "" for nothing known."""
    words = [word for word in re.split(r"[-_. ]+", ending) if word]
    roles = [ROLES[word] for word in words if word in ROLES]
    return roles[0] if roles else ""


def without(name: str) -> str:
    """Drops the ending that marks a file as a mask or depth map: "a_mask" -> "a"."""
    for ending in of_name(name):
        words = [word for word in re.split(r"[-_. ]+", ending) if word]
        if words and all(ROLES.get(word) in ("mask", "depth") for word in words):
            return name.removesuffix(ending)
    return name


def common(names: Iterable[str]) -> str:
    """The longest ending that all of several names share; "" if there is none."""
    names = list(names)
    shared = set(of_name(names[0])).intersection(*map(of_name, names)) if len(names) > 1 else ()
    return max(shared, key=len, default="")


def split_by_role(files: list[Entry]) -> dict[str, dict[str, list[Entry]]]:
    """Tells images from masks in a folder that holds both side by side.

    An ending belongs to masks or images if its words say so (`a_mask.png`), or else if its
    files look so: masks have few values. Files of one name and two suffixes (`a.jpg`,
    `a.png`) are told apart in the same way.

    Args:
      files: images and masks; their names without suffix may agree or end differently.

    Returns:
      {"image": {ending: files}, "mask": {ending: files}}; {} if the names say of no file
      that another belongs to it.
    """
    by_ending = _groups(files)
    if len(by_ending) < 2:
        return {}
    roles = {}
    for ending, group in by_ending.items():
        said = role_of(ending)
        roles[ending] = said or ("mask" if _look_like_masks(group) else "image")
    result = {"image": {}, "mask": {}}
    for ending, group in by_ending.items():
        result.setdefault(roles[ending], {})[ending] = group
    return result if result["image"] and result["mask"] else {}


def _groups(files):
    """{ending: files}, of the endings that several files of one beginning have."""
    keys = {entry: f"{entry.split}/{entry.key}" for entry in files}
    present = set(keys.values())
    if len(present) <= len(files) * (1 - SHARE / 2):  # most names stand there twice or more
        groups = defaultdict(list)
        for entry in files:
            groups[entry.path.suffix.lower()].append(entry)
        return groups
    counts = Counter(ending for entry in files for ending in of_name(entry.name))
    several = [ending for ending, many in counts.items() if many > 1]
    first, partners = _best(present, several)
    if not partners:  # a single pair: only words tell
        first, partners = _best(present, [ending for ending in counts if role_of(ending)])
    groups = defaultdict(list)
    for entry in files:
        ending = next((e for e in partners if entry.name.endswith(e)), None)
        if ending is None:
            ending = first if entry.name.endswith(first) else ""
        groups[ending].append(entry)
    return groups


def _best(names, candidates):
    """The ending, "" for none, and those that pair with it, which belong to most names."""
    bases = {e: {name[: -len(e)] for name in names if name.endswith(e)} for e in candidates}
    best, most = ("", set()), 0
    for first in ["", *candidates]:
        own = bases[first] if first else names
        partners = {
            ending
            for ending in candidates
            if ending != first
            and not (first and ending.endswith(first))
            and len(bases[ending] & own) >= max(1, SHARE * len(bases[ending]))
        }
        partners = {e for e in partners if not any(o != e and e.endswith(o) for o in partners)}
        shared = set().union(*(bases[ending] & own for ending in partners))
        covered = len(shared) + sum(len(bases[ending] & own) for ending in partners)
        if covered > most:
            best, most = (first, partners), covered
    return best


def _look_like_masks(group):
    """Whether most of some files have few values, or two values nearly everywhere."""
    votes = []
    for entry in group[:: -(-len(group) // LOOKED_AT)]:
        try:
            values = images.read_pixels(Path(entry.path)).values
        except BadFile:
            continue
        weights = 256 ** np.arange(values.shape[-1])
        _, counts = np.unique(values.astype(np.int64) @ weights, return_counts=True)
        two = np.sort(counts)[-2:].sum() / counts.sum()
        votes.append(len(counts) <= FEW_VALUES or two > 0.9)
    return sum(votes) > len(votes) / 2
