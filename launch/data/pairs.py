"""Finds which image, mask and depth map of a folder belong together."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path

from launch.data.images import SUFFIXES, BadFile

# What a split's folder may be called.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_MASK = re.compile(r"[-_. ](masks?|labels?|labelids|gt|seg|segmentation|annotation|depth)$", re.I)
_LAYOUT = "Arrange it as DIR/{train,val,test}/{images,masks} or DIR/{images,masks}."


@dataclasses.dataclass(frozen=True)
class Pair:
    """Files of one example: `depth` is None where the data set has none."""

    image: Path
    mask: Path
    depth: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for path in (self.image, self.mask, self.depth) if path)


def find(root, seed: int = 0) -> tuple[dict[str, list[Pair]], list[BadFile]]:
    """Pairs of every split of a folder, in the order of their names.

    A folder without splits is divided 80/10/10 by a hash of each name, so that an
    example stays in its split when others are added. Names are compared without
    suffix and letter case, and masks without an ending such as `_mask`.

    Args:
      root: the folder.
      seed: of the division.

    Returns:
      {split: pairs}, and what is wrong: partners that are missing, names that come
      twice, folders that are missing or empty.
    """
    root, faults = Path(root).expanduser(), []
    if not root.is_dir():
        return {}, [BadFile(root, "no such directory", "Check the path.")]
    places = {
        split: root / name
        for split, candidates in SPLITS.items()
        for name in candidates
        if (root / name / "images").is_dir()
    }
    if places:
        return {split: _pairs(place, faults) for split, place in places.items()}, faults
    if not (root / "images").is_dir():
        held = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        return {}, [BadFile(root, f"has no folder images (it holds {held})", _LAYOUT)]
    parts = {split: [] for split in SPLITS}
    for pair in _pairs(root, faults):
        name = _key(pair.image, root / "images")
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        parts[{0: "val", 1: "test"}.get(digest[0] % 10, "train")].append(pair)
    return parts, faults


def _pairs(place, faults):
    images = _files(place / "images", SUFFIXES, faults)
    if not (place / "masks").is_dir():
        faults.append(BadFile(place, "has images, but no folder masks", _LAYOUT))
        return []
    others = {"masks": _files(place / "masks", SUFFIXES, faults, images)}
    if (place / "depth").is_dir():
        others["depth"] = _files(place / "depth", (*SUFFIXES, ".npy"), faults, images)
    for kind, files in others.items():
        for key in sorted(images.keys() - files.keys()):
            cure = f"Add {place / kind / images[key].stem}.png, or remove the image."
            faults.append(BadFile(images[key], f"no partner in {kind}", cure))
        for key in sorted(files.keys() - images.keys()):
            cure = "Add the image under the same name, or remove this file."
            faults.append(BadFile(files[key], "no partner in images", cure))
    whole = images.keys() & set.intersection(*map(set, others.values()))
    depth = others.get("depth", {})
    return [Pair(images[key], others["masks"][key], depth.get(key)) for key in sorted(whole)]


def _files(folder, suffixes, faults, images=None):
    """{key: path} of a folder's files, those below it included, hidden ones not."""
    found = {}
    for where, below, names in os.walk(folder, followlinks=True):
        here = Path(where).resolve()
        # Not what is hidden, such as .ipynb_checkpoints, nor a link that leads back.
        below[:] = [
            name
            for name in below
            if not name.startswith(".") and not here.is_relative_to(Path(where, name).resolve())
        ]
        for name in sorted(names):
            path = Path(where, name)
            if path.suffix.lower() not in suffixes or name.startswith("."):
                continue
            key = _key(path, folder)
            if images is not None and key not in images:
                key = without_ending(key)
            if key in found:
                cure = f"Keep one of it and {found[key].name}."
                faults.append(BadFile(path, "its name comes twice", cure))
            found.setdefault(key, path)
    if not found:
        faults.append(BadFile(folder, "holds no images", f"Formats: {' '.join(suffixes)}."))
    return found


def without_ending(name: str) -> str:
    """A mask's name without what says that it is one: "a_mask" -> "a"."""
    return _MASK.sub("", name)


def _key(path, folder):
    return path.relative_to(folder).with_suffix("").as_posix().casefold()
