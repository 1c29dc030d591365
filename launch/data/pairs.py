"""Finds which image, mask and depth map of a folder belong together."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path

from launch.data.bad_file import BadFile
from launch.data.images import SUFFIXES

# Names that the folder of a split may have.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_ENDING = re.compile(r"[-_. ](masks?|labels?|labelids|gt|seg|segmentation|annotation|depth)$", re.I)
_LAYOUT = "Arrange it as DIR/{train,val,test}/{images,masks} or DIR/{images,masks}."


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one example.

    Attributes:
      image: the image.
      mask: its mask.
      depth: its depth map; None where the data set has none.
    """

    image: Path
    mask: Path
    depth: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The two or three files: image, mask and depth map."""
        return tuple(path for path in (self.image, self.mask, self.depth) if path)


def find(root, seed: int = 0) -> tuple[dict[str, list[Pair]], list[BadFile]]:
    """Finds the pairs of every split of a folder, sorted by name.

    A folder without splits is divided 80/10/10 by a hash of each name, so that an
    example stays in its split when others are added. The names of an image and its mask
    must agree apart from suffix, letter case, and an ending of the mask such as `_mask`.

    Args:
      root: the folder.
      seed: changes the division.

    Returns:
      {split: pairs}, and the problems: files without a partner, names that occur twice,
      folders that are missing or empty.
    """
    root, problems = Path(root).expanduser(), []
    if not root.is_dir():
        return {}, [BadFile(root, "no such directory", "Check the path.")]
    folders = {
        split: root / name
        for split, candidates in SPLITS.items()
        for name in candidates
        if (root / name / "images").is_dir()
    }
    if folders:
        return {split: _pairs(folder, problems) for split, folder in folders.items()}, problems
    if not (root / "images").is_dir():
        names = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        return {}, [BadFile(root, f"has no folder images (it holds {names})", _LAYOUT)]
    splits = {split: [] for split in SPLITS}
    for pair in _pairs(root, problems):
        name = _key(pair.image, root / "images")
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        splits[{0: "val", 1: "test"}.get(digest[0] % 10, "train")].append(pair)
    return splits, problems


def without_ending(name: str) -> str:
    """Drops the ending that marks a file as a mask or depth map: "a_mask" -> "a".

    Args:
      name: a file's name without its suffix.
    """
    return _ENDING.sub("", name)


def _pairs(folder, problems):
    """The pairs of a folder with images/, masks/ and perhaps depth/; adds to `problems`."""
    images = _files(folder / "images", SUFFIXES, problems)
    if not (folder / "masks").is_dir():
        problems.append(BadFile(folder, "has images, but no folder masks", _LAYOUT))
        return []
    partners = {"masks": _files(folder / "masks", SUFFIXES, problems, images)}
    if (folder / "depth").is_dir():
        partners["depth"] = _files(folder / "depth", (*SUFFIXES, ".npy"), problems, images)
    for kind, files in partners.items():
        for key in sorted(images.keys() - files.keys()):
            fix = f"Add {folder / kind / images[key].stem}.png, or remove the image."
            problems.append(BadFile(images[key], f"no partner in {kind}", fix))
        for key in sorted(files.keys() - images.keys()):
            fix = "Add the image under the same name, or remove this file."
            problems.append(BadFile(files[key], "no partner in images", fix))
    complete = images.keys() & set.intersection(*map(set, partners.values()))
    depth = partners.get("depth", {})
    return [Pair(images[key], partners["masks"][key], depth.get(key)) for key in sorted(complete)]


def _files(folder, suffixes, problems, images=None):
    """{key: path} of the files in a folder and below it, without hidden ones."""
    files = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        # Skips hidden folders, such as .ipynb_checkpoints, and links to a parent folder.
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not here.is_relative_to(Path(parent, name).resolve())
        ]
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() not in suffixes or name.startswith("."):
                continue
            key = _key(path, folder)
            if images is not None and key not in images:
                key = without_ending(key)
            if key in files:
                fix = f"Keep either this file or {files[key].name}."
                problems.append(BadFile(path, "its name occurs twice", fix))
            files.setdefault(key, path)
    if not files:
        problems.append(BadFile(folder, "holds no images", f"Formats: {' '.join(suffixes)}."))
    return files


def _key(path, folder):
    return path.relative_to(folder).with_suffix("").as_posix().casefold()
