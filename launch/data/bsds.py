"""BSDS500: photographs with the boundaries that several people drew.

Reads the folders as they are published: images/SPLIT/*.jpg and groundTruth/SPLIT/*.mat
(or ground_truth/).
"""

from pathlib import Path

import numpy as np
from scipy import io

from launch.config.errors import UserError
from launch.data.images import read_image

SIZE = (321, 481)


class Records:
    """Examples of a split: `image` uint8 [H, W, 3], `edges` uint8 [H, W, 1]."""

    def __init__(self, files: list[tuple[Path, Path]], size: tuple[int, int]):
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        """One example, an upright image turned by a quarter so that all shapes agree."""
        image_file, truth_file = self.files[index]
        image, drawn = read_image(image_file), read_annotations(truth_file)
        if image.shape[:2] != drawn[0].shape:
            raise ValueError(f"{truth_file} is {drawn[0].shape}, its image {image.shape[:2]}")
        edges = np.round(255.0 * np.mean(drawn, axis=0)).astype(np.uint8)[..., None]
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
      Records: `image`, and `edges`, 255 times the share of annotators.
    """
    return Records([pair for part in split.split("+") for pair in pairs(path, part)], tuple(size))


def pairs(path, split: str) -> list[tuple[Path, Path]]:
    """(image, ground truth) files of a split, by name.

    Raises:
      UserError: a folder is missing, or an image without its ground truth.
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
    lost = [truth for _, truth in files if not truth.is_file()]
    if lost or not files:
        raise UserError(f"{lost[0]} is missing" if lost else f"{folders[0]} holds no image")
    return files


def read_annotations(path) -> list[np.ndarray]:
    """Every annotator's boundaries in a ground-truth file: bool [H, W] each.

    Raises:
      ValueError: the file is not one of BSDS500's.
    """
    try:
        cells = io.loadmat(path)["groundTruth"].ravel()
        return [cell["Boundaries"][0, 0].astype(bool) for cell in cells]
    except (KeyError, ValueError, IndexError, NotImplementedError) as error:
        raise ValueError(f"{path} is no ground truth of BSDS500 ({error})")
