"""Single objects: maps of foreground and distance are divided by a watershed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np

from jaxseg.inference import instances
from jaxseg.metrics import instance_scores
from launch.config.errors import UserError
from launch.inference import input_files, true_masks
from launch.inference.decisions.prediction import Prediction, Settings
from launch.inference.results import Place
from launch.reporting import label_files

PLANES = ("foreground", "distance")
OPTIONS = ("threshold", "seed", "min_size", "levels")  # of the task, by which maps are divided
# Sides are rounded up to it, so that images of many sizes share a compiled program.
STEP = 256
VOID = instance_scores.VOID


class Objects:
    """Divides maps into objects.

    Args:
      predict: the config's section `predict`.
      task: the config's section `task`.
      settings: what the command asks for.

    Attributes:
      names: ("background", "object").
      ids: 0; masks hold numbers of objects.
      planes: names of the maps of probabilities.
      folders: of the results.

    Raises:
      UserError: a setting that needs classes, or that is out of range.
    """

    names = ("background", "object")
    ids = 0
    planes = PLANES
    folders = ("masks", "overlays")

    def __init__(self, predict, task: dict, settings: Settings):
        if settings.crf or settings.fill_holes or predict.refine or predict.postprocess:
            raise UserError(
                "--crf, --fill_holes, config.predict.refine and config.predict.postprocess are for "
                "classes; this run finds objects. --min_size and --threshold are for both"
            )
        options = {key: task[key] for key in OPTIONS if key in task}
        given = {"threshold": settings.threshold, "min_size": settings.min_size or None}
        options |= {key: value for key, value in given.items() if value is not None}
        self._divide = jax.jit(partial(instances.instances, **options))
        self._compare, self._maps = jax.jit(instance_scores.instance_sums), settings.maps

    def decide(self, strips: Iterator[dict], image: np.ndarray, prior=None) -> Prediction:
        """Divides the maps of a whole image into objects.

        Args:
          strips: `foreground` and `distance` [n, W] of the next rows.
          image: uint8 [H, W, C]; not used.
          prior: None; objects have no classes.

        Returns:
          The prediction, with labels int32 [H, W].
        """
        parts = list(strips)
        planes = [np.concatenate([part[name] for part in parts]) for name in PLANES]
        height, width = planes[0].shape
        numbers = np.asarray(self._divide(*map(_padded, planes)))[:height, :width]
        return Prediction(numbers, maps=np.stack(planes, -1) if self._maps else None)

    def save(self, place: Place, image: np.ndarray, prediction: Prediction) -> None:
        """Writes masks/ of numbers with 16 bits, and overlays/ of outlines.

        Raises:
          ValueError: more objects than 16 bits can number.
        """
        numbers = self._of_data(prediction.labels, place)
        if numbers.max(initial=0) >= VOID:
            raise ValueError(f"{numbers.max():,} objects are more than 16 bits can number")
        written = numbers if place.empty is None else np.where(place.empty, VOID, numbers)
        place.save_map("masks", written.astype(np.uint16), nodata=VOID)
        label_files.save_outlines(place.path("overlays"), image, numbers)

    def summary(self, prediction: Prediction, place: Place) -> dict:
        """The entry of the report: objects, their median size, and their share of the pixels."""
        sizes = np.bincount(self._of_data(prediction.labels, place).ravel())[1:]
        sizes = sizes[sizes > 0]
        return {
            "objects": len(sizes),
            "median_size": float(np.median(sizes)) if len(sizes) else 0.0,
            "foreground": round(float(sizes.sum()) / prediction.labels.size, 6),
        }

    def masks(self, images: list, folder: Path | None) -> list[Path | None]:
        """Finds the mask of each image; see `input_files.partners`."""
        return input_files.partners(images, folder)

    def truth(self, segmenter, item, shape: tuple[int, int], binary: bool) -> np.ndarray | None:
        """Reads the numbers of the true objects: int32 [H, W]; None where there are none."""
        return true_masks.read_numbers(segmenter, item, shape)

    def sums(self, prediction: Prediction, truth: np.ndarray, place: Place) -> dict:
        """Compares objects; see `instance_scores.instance_sums`."""
        if place.empty is not None:
            truth = np.where(place.empty, VOID, truth)
        sums = jax.device_get(self._compare(_padded(prediction.labels), _padded(truth)))
        return sums | {"images": np.float32(1)}

    def scores(self, sums: dict) -> dict[str, float]:
        """Turns sums over images into scores."""
        return instance_scores.scores(sums, float(sums["images"]))

    def _of_data(self, numbers, place):
        return numbers if place.empty is None else np.where(place.empty, 0, numbers)


def _padded(array):
    """An array [H, W] with zeros below and at the right: numbers of objects stay the same."""
    return np.pad(array, [(0, -side % STEP) for side in array.shape])
