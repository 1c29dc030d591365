"""Writes what is predicted for an image: PNG files, or GeoTIFF files where it has a place."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from launch.config.errors import UserError
from launch.data import images
from launch.inference import geotiff
from launch.inference.members import Files
from launch.reporting import label_files
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

FORMS = ("png16", "npy")  # of probabilities
# The folders of results; those of uncertainty are named after their maps.
FOLDERS = ("masks", "overlays", "probabilities", "entropy", "information")


class Place(NamedTuple):
    """Where the results of an image go.

    Attributes:
      out: the folder of all results.
      name: of the image's results, with folders.
      header: the tags of an image that lies somewhere on Earth; None of any other.
      empty: bool [H, W], where nothing was measured; None where that is not said.
    """

    out: Path
    name: str
    header: geotiff.Header | None = None
    empty: np.ndarray | None = None

    def path(self, folder: str, ending: str = "", suffix: str = ".png") -> Path:
        """The file of a result; `ending` follows the name."""
        return self.out / folder / f"{self.name}{ending}{suffix}"

    def save_ids(self, folder: str, ids: np.ndarray, void: int, colours: np.ndarray) -> None:
        """Writes ids of classes, uint8 [H, W], shown in colours uint8 [256, 3]."""
        if self.header is None:
            return label_files.save_labels(self.path(folder), ids, colours)
        nodata = None if self.empty is None else void
        path = self.path(folder, suffix=".tif")
        geotiff.save(path, ids, self.header, nodata, colours)

    def save_map(
        self, folder: str, values: np.ndarray, ending: str = "", nodata: int | None = None
    ) -> None:
        """Writes values, uint8 or uint16 [H, W], as grey.

        Args:
          folder: of the kind of result.
          values: the values.
          ending: follows the name.
          nodata: the value of pixels without data, if there are such pixels.
        """
        if self.header is None:
            return label_files.save_values(self.path(folder, ending), values)
        nodata = None if self.empty is None else nodata
        geotiff.save(self.path(folder, ending, ".tif"), values, self.header, nodata)


def is_result(out: Path, path: Path) -> bool:
    """Whether a file is a result of an earlier call with this --out.

    Args:
      out: the folder of results.
      path: the file.
    """
    return (out / "report.json").is_file() and _lies_in(out, path)


def check_apart(out: Path, items: list[Files]) -> None:
    """Refuses inputs that lie where results are written, and might be replaced by them.

    Args:
      out: the folder of results.
      items: the files of each image.

    Raises:
      UserError: names such a file.
    """
    for item in items:
        for path in item.paths:
            if _lies_in(out, path):
                raise UserError(
                    f"--out={out}: its results might replace {path}; give another folder"
                )


def place_of(item: Files, out: Path, stored: bool) -> Place:
    """Finds out where the results of an image go, and where on Earth it lies.

    Args:
      item: the files of the image.
      out: the folder of all results.
      stored: whether images are not turned by their EXIF orientation.

    Raises:
      ValueError: the image cannot be read.
    """
    header = geotiff.read_header(item.image)
    if header is None or not header.is_map:
        return Place(out, item.title)
    if header.turned and not stored:
        logger.info(f"{item.image}: is turned upright, so its place on Earth is not carried over")
        return Place(out, item.title)
    empty = None
    if header.nodata is not None:
        values = images.read_pixels(item.image, stored, nodata=True).values
        values = values[..., :-1] if header.transparent else values
        empty = geotiff.empty_pixels(values, header.nodata)
    return Place(out, item.title, header, empty)


def save_probabilities(place: Place, maps: np.ndarray, names: tuple[str, ...], form: str) -> None:
    """Writes probabilities/; those of pixels without data are 0.

    Args:
      place: where they go.
      maps: float32 [H, W, K] in [0, 1].
      names: of the K maps.
      form: "png16": a file NAME.CLASS for each map, 65535 for 1; "npy": one file of `maps`.
    """
    if place.empty is not None:
        maps = np.where(place.empty[..., None], np.float32(0), maps)
    if form == "npy":
        path = place.path("probabilities", suffix=".npy")
        with replacing(path) as working, working.open("wb") as stream:
            np.save(stream, maps.astype(np.float32))
        return
    for number, ending in enumerate(label_files.endings(names)):
        levels = np.round(np.clip(maps[..., number], 0, 1) * 65535).astype(np.uint16)
        place.save_map("probabilities", levels, ending)


def _lies_in(out, path):
    """Whether a file lies in a folder of results."""
    parents = path.resolve().parents
    return any(out.resolve() / folder in parents for folder in FOLDERS)
