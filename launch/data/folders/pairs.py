"""Finds which image, masks and depth map of a folder belong together."""

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from launch.data.bad_file import BadFile
from launch.data.folders import endings
from launch.data.folders.listing import Entry


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one example.

    Attributes:
      name: what the names of the files share, with the folders in between.
      image: the image.
      masks: one file of ids; or a file for each class, see `ids`; or an annotation file.
      depth: its depth map; None where the data set has none.
      ids: the class of each of `masks`, whose non-zero pixels belong to it; () for one
        file of ids.
      outlines: a `launch.data.outlines.Outlined` in place of pixels, else None.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    depth: Path | None = None
    ids: tuple[int, ...] = ()
    outlines: Any = None

    @property
    def mask(self) -> Path:
        """The file that messages about the labels name."""
        return self.masks[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file: image, masks, and the depth map if there is one."""
        return (self.image, *self.masks, *filter(None, [self.depth]))


@dataclasses.dataclass
class Matched:
    """The result of `match`.

    Attributes:
      pairs: {split: pairs}; split "" where no folder says one.
      how: which masks were taken, for people; "" where every image has one mask.
      names: {id: name} where folders or endings name the classes.
      problems: files without a partner, names that occur twice, a choice to make.
    """

    pairs: dict[str, list[Pair]]
    how: str = ""
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    problems: list[BadFile] = dataclasses.field(default_factory=list)


def match(
    images: list[Entry], masks: list[Entry], depths: list[Entry], choice: tuple[str, ...] = ()
) -> Matched:
    """Gives each image its mask: of the same name, apart from an ending or a folder.

    Where images have several masks, they are one for each class if folders tell them
    apart (masks/cell/a.png), one for each object if they share the image's own folder, and
    otherwise a choice that the user has to make.

    Args:
      images: the images.
      masks: the masks.
      depths: the depth maps.
      choice: the ending or the folder of the masks to take; several if each is a class.

    Returns:
      The pairs, sorted by name, and the problems.
    """
    result = Matched({})
    keys = _image_keys(images, result.problems)
    found, left = _labels(keys, masks)
    objects = {} if any(found.values()) else _in_folder_of_image(keys, masks)
    if objects:
        result.how = "one mask for each object"
        return _finish(result, keys, objects, depths, lambda name: 1)
    taken, by_class = _choose(result, masks, found, [text.casefold() for text in choice])
    if not taken:
        return result
    for entry in left:
        fix = "Add the image under the same name, or remove this file."
        result.problems.append(BadFile(entry.path, "no partner in images", fix))
    groups = {
        key: [(name, entry) for name in taken for entry in group.get(name, ())]
        for key, group in found.items()
    }
    number = _number_classes(result, taken, masks) if by_class else None
    return _finish(result, keys, groups, depths, number)


def _choose(result, masks, found, choice):
    """The endings or folders of the masks to take, and whether each is a class."""
    names = sorted({name for group in found.values() for name in group}) or [""]
    shown = {name: _as_written(name, masks) for name in names}
    if unknown := [text for text in choice if text not in names]:
        fix = f"Those of this folder differ by {', '.join(map(repr, shown.values()))}."
        result.problems.append(BadFile(_place(masks), f"no masks {unknown[0]!r}", fix))
        return [], False
    several = any(len(group) > 1 for group in found.values())
    if len(choice) > 1 or (several and not choice and _are_classes(masks, names)):
        return choice or names, True
    if choice:
        others = ", ".join(repr(shown[name]) for name in names if name not in choice)
        result.how = f"masks {shown[choice[0]]!r}{f', not {others}' if others else ''}"
        return choice, False
    if not several:
        return names, False
    counts = Counter(name for group in found.values() for name in group)
    seen = ", ".join(f"{shown[name]!r} ({many:,})" for name, many in sorted(counts.items()))
    example = next((name for name in names if name), "")
    fix = f"Give masks={shown[example]} to take one of them"
    if "" not in names:
        fix += f", or masks={','.join(shown.values())} if each marks a class of its own"
    problem = f"images have several masks, which differ by {seen}"
    result.problems.append(BadFile(_place(masks), problem, f"{fix}."))
    return [], False


def _number_classes(result, taken, masks):
    """Numbers the classes of endings or folders from 1 on, and names them in the result."""
    bare = {name: _as_written(name, masks).strip(endings.SEPARATORS) for name in taken}
    classes = [name for name in taken if bare[name].casefold() != "background"]
    numbers = dict.fromkeys(taken, 0) | {name: k for k, name in enumerate(classes, 1)}
    result.names = {0: "background"} | {numbers[name]: bare[name] for name in classes}
    result.how = f"one mask for each class: {', '.join(bare[name] for name in classes)}"
    return numbers.__getitem__


def _as_written(name, masks):
    """An ending or a folder in lower case, as the names of the files have it."""
    for entry in masks:
        if name and entry.name.endswith(name):
            return entry.path.stem[-len(name) :]
        if name in entry.rest:
            return next(part for part in entry.path.parts if part.casefold() == name)
    return name


def _image_keys(images, problems):
    """{(split, key): image}; where all names share an ending, keys lack it."""
    shared = endings.common(entry.name for entry in images) if images else ""
    if endings.role_of(shared) != "image":
        shared = ""
    keys = {}
    for entry in images:
        key = entry.split, entry.key.removesuffix(shared)
        if key in keys:
            fix = f"Keep either this file or {keys[key].path.name}."
            problems.append(BadFile(entry.path, "its name occurs twice", fix))
        keys.setdefault(key, entry)
    return keys


def _labels(keys, masks):
    """{image key: {ending or folder: [mask]}}, and the masks without an image."""
    found, left = {key: defaultdict(list) for key in keys}, []
    for entry in masks:
        for key, name in _possible_images(entry):
            if key in keys:
                found[key][name].append(entry)
                break
        else:
            left.append(entry)
    return found, left


def _possible_images(entry):
    """(image key, what the mask adds to it): its name, less an ending, less a folder."""
    folders = [(entry.rest, "")]
    folders += [
        ((*entry.rest[:at], *entry.rest[at + 1 :]), entry.rest[at]) for at in range(len(entry.rest))
    ]
    for rest, folder in folders:
        for ending in ("", *reversed(endings.of_name(entry.name))):
            name = entry.name.removesuffix(ending) if ending else entry.name
            yield (entry.split, "/".join((*rest, name))), folder or ending


def _in_folder_of_image(keys, masks):
    """{image key: [("", mask)]} where each image has a folder of its own with its masks."""
    owners = defaultdict(list)
    for split, key in keys:
        owners[split, key.rpartition("/")[0]].append((split, key))
    groups = {key: [] for key in keys}
    for entry in masks:
        owner = owners.get((entry.split, "/".join(entry.rest)), [])
        if len(owner) != 1 or not entry.rest:
            return {}
        groups[owner[0]].append(("", entry))
    return groups


def _are_classes(masks, names):
    """Whether what tells the masks of an image apart are folders, one for each class."""
    return "" not in names and all(any(name in entry.rest for name in names) for entry in masks)


def _finish(result, keys, groups, depths, number):
    """Fills `pairs` of a result; `number` gives the class of a mask's ending or folder."""
    found, left = _labels(keys, depths)
    for entry in left:
        fix = "Add the image under the same name, or remove this file."
        result.problems.append(BadFile(entry.path, "no partner in images", fix))
    for (split, key), entry in sorted(keys.items()):
        some, maps = (
            groups.get((split, key), []),
            [e for g in found[split, key].values() for e in g],
        )
        if number is None and len(some) > 1:
            fix = f"Keep either this file or {some[0][1].path.name}."
            result.problems += (BadFile(e.path, "its name occurs twice", fix) for _, e in some[1:])
        missing = ["masks"] * (not some) + ["depth"] * (bool(depths) and not maps)
        for kind in missing:
            fix = "Add it under the same name, or remove the image."
            result.problems.append(BadFile(entry.path, f"no partner in {kind}", fix))
        if missing:
            continue
        files = tuple(e.path for _, e in some)
        pair = Pair(
            key,
            entry.path,
            files[:1] if number is None else files,
            maps[0].path if maps else None,
            () if number is None else tuple(number(name) for name, _ in some),
        )
        result.pairs.setdefault(split, []).append(pair)
    return result


def _place(masks):
    """The folder of some masks."""
    return masks[0].path.parent if masks else ""
