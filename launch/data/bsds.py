"""BSDS500: photographs with object boundaries that several people drew.

Arbelaez, Maire, Fowlkes, Malik 2011, "Contour detection and hierarchical image
segmentation". Reads the folders as they are published: images/SPLIT/*.jpg and
groundTruth/SPLIT/*.mat (or ground_truth/).
"""

from pathlib import Path

import numpy as np
from scipy import io

from launch.config.errors import UserError
from launch.data.images import read_image

SIZE = (321, 481)  # height and width of a landscape image, in pixels


class Records:
    """The examples of a split.

    Args:
      files: (image, ground truth) of each example.
      size: (height, width) of every example.
    """

    def __init__(self, files: list[tuple[Path, Path]], size: tuple[int, int]):
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        """Reads one example; a portrait is rotated by 90 degrees so that all shapes agree.

        Args:
          index: its place in `files`.

        Returns:
          image uint8 [H, W, 3]; edges uint8 [H, W, 1], 255 times the share of annotators
          who drew a boundary at the pixel.

        Raises:
          BadFile: the image cannot be read.
          ValueError: the ground truth cannot be read, or a size differs.
        """
        image_file, truth_file = self.files[index]
        image, boundaries = read_image(image_file), read_annotations(truth_file)
        if image.shape[:2] != boundaries[0].shape:
            raise ValueError(f"{truth_file} is {boundaries[0].shape}, its image {image.shape[:2]}")
        edges = np.round(255.0 * np.mean(boundaries, axis=0)).astype(np.uint8)[..., None]
        if image.shape[:2] == self.size[::-1]:
            image, edges = np.rot90(image), np.rot90(edges)
        if image.shape[:2] != self.size:
            raise ValueError(f"{image_file} is {image.shape[:2]}, not {self.size}; set kwargs.size")
        return {"image": np.ascontiguousarray(image), "edges": np.ascontiguousarray(edges)}


def bsds(split: str, path: str, size: tuple[int, int] = SIZE) -> Records:
    """Opens a split of BSDS500, for `config.data.name = "launch.data.bsds:bsds"`.

    Args:
      split: "train", "val", "test", or several: "train+val".
      path: the folder that holds images/ and groundTruth/.
      size: (height, width) of a landscape image.

    Returns:
      The examples.

    Raises:
      UserError: a folder or a ground truth is missing.
    """
    return Records([pair for part in split.split("+") for pair in pairs(path, part)], tuple(size))


def pairs(path, split: str) -> list[tuple[Path, Path]]:
    """Finds the files of a split.

    Args:
      path: the folder that holds images/ and groundTruth/.
      split: "train", "val" or "test".

    Returns:
      (image, ground truth) of each example, sorted by name.

    Raises:
      UserError: a folder is missing, or an image has no ground truth.
    """
    root = Path(path).expanduser()
    folders = [root / "images" / split, root / "groundTruth" / split]
    if not folders[1].is_dir():
        folders[1] = root / "ground_truth" / split
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; BSDS500 has images/ and groundTruth/, "
                "each with train, val and test"
            )
    images = sorted(path for path in folders[0].iterdir() if path.suffix in (".jpg", ".png"))
    files = [(image, folders[1] / f"{image.stem}.mat") for image in images]
    missing = [truth for _, truth in files if not truth.is_file()]
    if missing or not files:
        raise UserError(f"{missing[0]} is missing" if missing else f"{folders[0]} holds no image")
    return files


def read_annotations(path) -> list[np.ndarray]:
    """Reads the boundaries that each annotator drew.

    Args:
      path: a ground-truth file.

    Returns:
      bool [H, W] for each annotator.

    Raises:
      ValueError: the file is not a ground truth of BSDS500.
    """
    try:
        cells = io.loadmat(path)["groundTruth"].ravel()
        return [cell["Boundaries"][0, 0].astype(bool) for cell in cells]
    except (KeyError, ValueError, IndexError, NotImplementedError) as error:
        raise ValueError(f"{path} is not a ground truth of BSDS500 ({error})")
