"""Finds the images of a folder, and divides them into splits and classes."""

import fnmatch
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from launch.data.bad_file import BadFile
from launch.data.folders import endings, listing
from launch.data.folders.pairs import Pair
from launch.data.image_formats import SUFFIXES

SPLITS = ("train", "val", "test")
COMPARED = 200  # neighbouring files whose names are compared, to find masks beside images


def find(root: Path, only: str) -> list[Pair]:
    """Lists the images below a folder, sorted by name.

    Args:
      root: the folder.
      only: a pattern of the paths below the folder, as of `fnmatch`; "" for all.

    Returns:
      An image each, without masks.

    Raises:
      BadFile: there is no image, or some images look like the masks of others.
    """
    if not root.is_dir():
        problem = "is a file, not a folder" if root.is_file() else "no such directory"
        raise BadFile(root, problem, "Check the path.")
    entries = [e for e in listing.entries(root) if e.path.suffix.lower() in SUFFIXES]
    if not entries:
        names = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        fix = f"Images end in {', '.join(SUFFIXES)}."
        raise BadFile(root, f"holds no images, but {names}", fix)
    below = lambda entry: entry.path.relative_to(root).as_posix()
    if only:
        chosen = [entry for entry in entries if _fits(below(entry), only)]
        if not chosen:
            problem = f"only={only!r} fits none of {len(entries):,} images, such as "
            fix = 'It is compared with such paths, as only="*.jpg" or only="images/*".'
            raise BadFile(root, problem + below(entries[0]), fix)
        entries = chosen
    else:
        _doubt_masks(entries)
    return [Pair(below(entry), entry.path, ()) for entry in entries]


def divide(
    root: Path, found: Sequence[Pair], seed: int
) -> tuple[dict[str, list[Pair]], tuple[str, ...]]:
    """Divides images into splits: by their folders, or else by a hash of each name.

    A folder named train, val, test or similar says the split of the images below it. A
    hash does not change when other images are added.

    Args:
      root: the folder.
      found: its images.
      seed: changes what the hash gives.

    Returns:
      {split: images}, and how they were divided, for people.

    Raises:
      BadFile: some images lie in the folder of a split, and others do not.
    """
    named, folders = {}, {}
    for pair in found:
        split, folder = _split_of(pair)
        named.setdefault(split, []).append(pair)
        folders.setdefault(split, set()).add(folder)
    rest = named.pop("", [])
    if named and rest:
        of = sorted(set().union(*(folders[split] for split in named)))
        problem = f"{len(rest):,} images lie in no split, such as {rest[0].name}"
        fix = f"Move them into {', '.join(of)}, or rename these folders if they are no splits; "
        fix += "or give a pattern of the paths to take, as only='images/*'."
        raise BadFile(root, problem, fix)
    splits = {split: named[split] for split in SPLITS if split in named}
    how = [f"splits by the folders {', '.join(sorted(set().union(*folders.values())))}"]
    if rest:
        splits, how = {"train": rest}, []
    if splits.keys() == {"train"}:
        splits["train"], splits["test"] = _draw(splits["train"], seed)
        how.append("test is a tenth of the images, drawn by a hash of their names")
    return splits, tuple(how)


def classes_of(root: Path, found: Sequence[Pair]) -> dict[Pair, str]:
    """The class of each image: the first folder of its path that is not its split.

    Args:
      root: the folder.
      found: its images.

    Raises:
      BadFile: an image lies in no such folder, or all lie in the same.
    """
    result = {pair: class_of(pair) for pair in found}
    bare = [pair for pair in found if not result[pair]]
    if bare:
        more = f" (and {len(bare) - 1:,} more)" if len(bare) > 1 else ""
        fix = "Move it into the folder of its class, or give labels=False."
        raise BadFile(bare[0].image, f"lies in no folder that names its class{more}", fix)
    if len(set(result.values())) < 2:
        only = next(iter(result.values()))
        fix = "The first folders of the paths must be the classes; or give labels=False."
        raise BadFile(root, f"all images lie in one folder, {only}/, so there is one class", fix)
    return result


def class_of(pair: Pair) -> str:
    """The first folder of an image's path that is not its split; "" for none."""
    parts = list(pair.name.split("/")[:-1])
    if folder := _split_of(pair)[1]:
        parts.remove(folder)
    return parts[0] if parts else ""


def _split_of(pair):
    """The split that the folders of an image say, and the folder that says it; "" for none."""
    for part in pair.name.split("/")[:-1]:
        said = listing.meaning(part)
        if said and said[0]:
            return said[0], part
    return "", ""


def _draw(found, seed):
    """Images for training, and a tenth of them for testing: one at least, if there are two."""
    number = {pair: _number(f"{seed}/{pair.name}") for pair in found}
    drawn = {pair for pair in found if number[pair] % 10 == 0}
    if not drawn and len(found) > 1:
        drawn = {min(found, key=number.get)}
    return [p for p in found if p not in drawn], [p for p in found if p in drawn]


def _number(name):
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest())


def _doubt_masks(entries):
    """Refuses images of which some look like the masks or depth maps of others."""
    masks = [entry for entry in entries if entry.role not in ("", "image")]
    rest = [entry for entry in entries if entry.role in ("", "image")]
    problem = f"lies in a folder of masks or depth maps ({masks[0].folder}/)" if masks else ""
    if not masks:
        groups = endings.split_by_role(entries[:COMPARED])  # a mask stands beside its image
        masks = [entry for part in groups.get("mask", {}).values() for entry in part]
        rest = [entry for part in groups.get("image", {}).values() for entry in part]
        problem = "looks like the mask of an image"
    if not masks or not rest:
        return
    pattern = _pattern(rest, masks)
    fix = f'Give only="{pattern}" to take the images alone, or only="*" to take all.'
    if not pattern:
        fix = 'Move the masks out of the folder, or give only="*" to take all.'
    raise BadFile(masks[0].path, f"{problem}, and {rest[0].path.name} is an image", fix)


def _pattern(wanted, others):
    """A pattern that fits some files and not others; "" if no simple one does."""
    suffix = wanted[0].path.suffix
    candidates = [f"*{wanted[0].folder}/*", f"*{suffix}"]
    candidates += [f"*{ending}{suffix}" for ending in endings.of_name(wanted[0].name)]
    names = [[entry.path.as_posix() for entry in part] for part in (wanted, others)]
    for pattern in candidates:
        inside, outside = ([_fits(name, pattern) for name in part] for part in names)
        if all(inside) and not any(outside):
            return pattern
    return ""


def _fits(name, pattern):
    return fnmatch.fnmatchcase(name.casefold(), pattern.casefold())
