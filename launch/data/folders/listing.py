"""Lists the files of a folder, and reads from the names of its folders what each file is."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from launch.data.image_formats import SUFFIXES

# Names that the folder of a split may have.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Words for what a file is, in names of folders and at the end of names of files.
ROLES = {
    **dict.fromkeys(("image", "images", "img", "imgs", "jpegimages", "leftimg8bit"), "image"),
    **dict.fromkeys(("photo", "photos", "picture", "pictures", "input", "inputs"), "image"),
    **dict.fromkeys(("frame", "frames", "rgb"), "image"),
    **dict.fromkeys(("mask", "masks", "label", "labels", "labelids", "gt", "gtfine"), "mask"),
    **dict.fromkeys(("seg", "segmentation", "segmentations", "segmentationclass"), "mask"),
    **dict.fromkeys(("annotation", "annotations", "annot", "target", "targets"), "mask"),
    **dict.fromkeys(("truth", "groundtruth", "manual", "manual1", "gtcoarse"), "mask"),
    **dict.fromkeys(("depth", "depths"), "depth"),
    "segmentationobject": "instances",  # of Pascal VOC, beside SegmentationClass
}


class Entry(NamedTuple):
    """A file, and what its folders say of it.

    Attributes:
      path: the file.
      split: "train", "val" or "test"; "" where no folder says one.
      role: "image", "mask", "depth" or "instances"; "" where no folder says one.
      folder: the folder that says the role; "" for none.
      rest: the names of the other folders.
      name: the file's name without its suffix, in lower case.
    """

    path: Path
    split: str
    role: str
    folder: str
    rest: tuple[str, ...]
    name: str

    @property
    def key(self) -> str:
        """The other folders and the name, which an image shares with its mask."""
        return "/".join((*self.rest, self.name))


def entries(root: Path) -> list[Entry]:
    """Lists the images, masks and depth maps below a folder, sorted by name.

    Hidden files and folders are left out, and links to a parent folder.

    Args:
      root: the folder.
    """
    return [_entry(path, root) for path in files(root, (*SUFFIXES, ".npy"))]


def files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Lists the files below a folder that have one of some suffixes, sorted by name.

    Args:
      root: the folder.
      suffixes: in lower case.
    """
    found = []
    for parent, folders, names in os.walk(root, followlinks=True):
        here = Path(parent).resolve()
        # Skips hidden folders, such as .ipynb_checkpoints, and links to a parent folder.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not here.is_relative_to(Path(parent, name).resolve())
        )
        found += (
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
        )
    return found


def meaning(folder: str) -> tuple[str, str] | None:
    """The split and the role that the name of a folder says, "" for none of it.

    "train" is a split, "masks" a role, "train_masks" and "trainannot" are both.

    Args:
      folder: the name.

    Returns:
      (split, role); None if a part of the name says neither.
    """
    text = folder.casefold()
    words = [text] if text in ROLES else re.split(r"[-_. ]+", text)
    for split in SPLITS:  # such as trainannot
        if text.startswith(split) and text[len(split) :] in ROLES:
            words = [split, text[len(split) :]]
    split = role = ""
    for word in words:
        bare = re.sub(r"\d+$", "", word)  # train2017
        if bare in SPLITS and not split:
            split = SPLITS[bare]
        elif word in ROLES and not role:
            role = ROLES[word]
        else:
            return None
    return split, role


def _entry(path, root):
    split = role = folder = ""
    rest = []
    for part in path.relative_to(root).parts[:-1]:
        said = meaning(part)
        if said is None or (said[0] and split) or (said[1] and role):
            rest.append(part.casefold())
            continue
        split, role, folder = split or said[0], role or said[1], part if said[1] else folder
    return Entry(path, split, role, folder, tuple(rest), path.stem.casefold())
