"""Recognises how a folder arranges its images and masks, and divides them into splits."""

import dataclasses
import hashlib
import os
from pathlib import Path

from launch.config.fold import Fold
from launch.data.bad_file import BadFile
from launch.data.folders import endings, folds, listing, pairs, split_lists
from launch.data.folders.pairs import Pair
from launch.data.stock import CITYSCAPES

ROLES = ("image", "mask", "depth")
ORDER = ("train", "val", "test")
HELP = "Arrange it as DIR/{train,val,test}/{images,masks}, or see docs/segmentation.md."


@dataclasses.dataclass
class Layout:
    """The pairs of a folder.

    Attributes:
      kind: "folders", "endings", "COCO", "labelme" or "CVAT".
      title: how the folder was recognised, for people.
      splits: {split: pairs}.
      drawn: whether the splits are drawn here.
      names: {id: name} that the layout itself gives to classes.
      ids: {id in the files: class}, all others being void; {} where the ids are the classes.
      notes: what is left out, for people.
      problems: what makes the folder unusable.
      fold: which part of train and val is held out as val; None where neither is divided.
    """

    kind: str = ""
    title: str = ""
    splits: dict[str, list[Pair]] = dataclasses.field(default_factory=dict)
    drawn: bool = False
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    ids: dict[int, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[BadFile] = dataclasses.field(default_factory=list)
    fold: Fold | None = None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of all splits."""
        return tuple(pair for part in self.splits.values() for pair in part)


def recognise(
    root: Path,
    seed: int = 0,
    layout: str = "",
    masks: tuple[str, ...] = (),
    val: float = 0.1,
    fold: Fold | None = None,
    group: str = "",
) -> Layout:
    """Finds the images and masks of a folder, however it is arranged.

    Args:
      root: the folder.
      seed: changes how a folder without splits is divided.
      layout: the kind to take where several fit; see `Layout.kind`.
      masks: the masks to take where images have several, see `pairs.match`.
      val: share of `train` that becomes `val` where there is none.
      fold: divides train and val anew, in place of `val`; None for the splits as they are.
      group: what keeps images together in a fold, see `folds.divide`.

    Returns:
      The layout; with problems where none fits, several fit, or files lack a partner.
    """
    if not root.is_dir():
        return Layout(problems=[BadFile(root, "no such directory", "Check the path.")])
    entries = listing.entries(root)
    found = {**_of_annotations(root), **_of_masks(root, entries, masks)}
    if layout and layout not in found:
        seen = f"It fits {', '.join(found)}" if found else _seen(root, entries)
        return Layout(problems=[BadFile(root, f"does not fit layout={layout!r}", f"{seen}.")])
    if layout:
        found = {layout: found[layout]}
    if not found:
        return Layout(problems=[BadFile(root, f"no masks found: {_seen(root, entries)}", HELP)])
    if len(found) > 1:
        titles = "; ".join(f"{kind}: {one.title}" for kind, one in found.items())
        fix = f"Give layout={next(iter(found))!r} to take that one."
        return Layout(problems=[BadFile(root, f"may be read in several ways ({titles})", fix)])
    (result,) = found.values()
    if not result.problems or result.splits:
        result.fold = fold
        _divide(root, result, seed, val, group)
    return result


def _of_masks(root, entries, choice):
    """{kind: layout} of masks in image files."""
    if any(entry.role == "mask" for entry in entries):
        return {"folders": _of_folders(root, entries, choice)}
    pictures = [e for e in entries if e.path.suffix.lower() != ".npy" and e.role in ("", "image")]
    groups = endings.split_by_role(pictures) if pictures else {}
    if not groups:
        return {}
    found = {role: [e for group in groups.get(role, {}).values() for e in group] for role in ROLES}
    matched = pairs.match(found["image"], found["mask"], found["depth"], choice)
    of = {role: sorted(ending or "no ending" for ending in groups[role]) for role in groups}
    title = f"images ({', '.join(of['image'])}) beside their masks ({', '.join(of['mask'])})"
    return {"endings": _layout("endings", title, matched)}


def _of_folders(root, entries, choice):
    """The layout of a folder in which folders say what is a mask."""
    roles = {role: [e for e in entries if e.role == role] for role in ROLES}
    others = [entry for entry in entries if not entry.role and entry.path.suffix.lower() != ".npy"]
    images, beside = (roles["image"], others) if roles["image"] else (others, [])
    masks = [entry for entry in roles["mask"] if entry.path.suffix.lower() != ".npy"]
    cityscapes = [entry for entry in masks if entry.name.endswith("_labelids")]
    if cityscapes:
        masks = cityscapes
    notes = (
        [f"{len(beside):,} images beside them are not used, such as {_short(beside[0], root)}"]
        if beside
        else []
    )
    voc = [entry for entry in masks if entry.folder.casefold() == "segmentationclass"]
    if voc:  # most images of Pascal VOC have no masks
        labelled = {(entry.split, entry.key) for entry in masks}
        rest = [entry for entry in images if (entry.split, entry.key) not in labelled]
        images = [entry for entry in images if (entry.split, entry.key) in labelled]
        notes += [f"{len(rest):,} images have no mask and are not used"] if rest else []
    if not images:
        problem = f"holds {len(masks):,} masks, but no image"
        return Layout("folders", "masks alone", problems=[BadFile(root, problem, HELP)])
    folder = lambda group: "/, ".join(sorted({e.folder for e in group if e.folder})) + "/"
    title = f"images in {folder(images)}" if roles["image"] else "images"
    matched = pairs.match(images, masks, roles["depth"], choice)
    result = _layout("folders", f"{title} and masks in {folder(masks)}", matched)
    result.notes += notes
    if cityscapes:
        result.title = f"Cityscapes, {result.title}"
        result.ids = {number: k for k, number in enumerate(CITYSCAPES)}
        result.names = dict(enumerate(CITYSCAPES.values()))
    elif voc:
        result.title = f"Pascal VOC, {result.title}"
        result.names = split_lists.voc_names(root)
    return result


def _of_annotations(root):
    """{kind: layout} of annotation files."""
    from launch.data import outlines  # few folders hold any

    found = {}
    for annotations in outlines.find(root):
        result = Layout(annotations.title.split()[0], annotations.title)
        result.names = dict(enumerate(annotations.names))
        result.problems = list(annotations.problems)
        for one in sorted(annotations.images, key=lambda one: one.image):
            name = one.image.relative_to(root).with_suffix("").as_posix().casefold()
            pair = Pair(name, one.image, (one.source,), outlines=one)
            result.splits.setdefault(one.split, []).append(pair)
        found[result.kind] = result
    return found


def _layout(kind, title, matched):
    how = [matched.how] if matched.how else []
    return Layout(
        kind, title, dict(matched.pairs), False, matched.names, {}, how, list(matched.problems)
    )


def _divide(root, result, seed, val, group):
    """Orders the splits; what no folder says is taken from lists, or drawn."""
    undivided = result.splits.pop("", [])
    named = {split: result.splits[split] for split in ORDER if split in result.splits}
    lists = split_lists.find(root) if undivided and not named else {}
    if lists:
        named = split_lists.divide(lists, undivided, result)
    elif named and undivided:
        example = undivided[0].image.relative_to(root)
        problem = f"{len(undivided):,} images lie in no split, such as {example}"
        fix = f"Move them into {', '.join(named)}, or out of the folder."
        result.problems.append(BadFile(root, problem, fix))
    elif undivided:
        result.drawn = True
        named = {split: [] for split in ORDER}
        for pair in undivided:
            named[{0: "val", 1: "test"}.get(_draw(pair, seed)[0] % 10, "train")].append(pair)
    train = named.get("train", [])
    if result.fold:
        try:
            pool = [*train, *named.get("val", [])]
            named["train"], named["val"] = folds.divide(root, pool, result.fold, seed, group)
        except BadFile as bad:
            result.problems.append(bad)
    elif val and not named.get("val") and len(train) > 1:
        share = lambda pair: int.from_bytes(_draw(pair, seed)[1:5], "big") / 2**32
        taken = [pair for pair in train if share(pair) < val] or [min(train, key=share)]
        named["val"] = taken
        named["train"] = [pair for pair in train if pair not in taken]
        if not result.drawn:
            result.notes.append(
                f"no split val: {len(taken):,} of train are taken for it (val=0 takes none)"
            )
    result.splits = {split: named[split] for split in ORDER if split in named}


def _draw(pair, seed):
    """Bytes that decide the split of a pair, by its name alone."""
    return hashlib.sha256(os.fsencode(f"{seed}/{pair.name}")).digest()


def _seen(root, entries):
    """What a folder holds, for the message that nothing fits."""
    if not entries:
        names = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        return f"no images, but {names}"
    folders = sorted({str(entry.path.parent.relative_to(root)) for entry in entries})
    more = f" and {len(folders) - 4} more folders" if len(folders) > 4 else ""
    some = ", ".join(f"{name}/" if name != "." else "the folder itself" for name in folders[:4])
    return f"{len(entries):,} images in {some}{more}"


def _short(entry, root):
    return entry.path.relative_to(root)
