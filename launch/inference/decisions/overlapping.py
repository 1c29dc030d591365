"""Classes that may overlap: each is decided on by a threshold of its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxseg.metrics import multilabel_scores
from launch.config.errors import UserError
from launch.data.classes import IGNORED
from launch.inference import input_files, true_masks
from launch.inference.decisions.prediction import Prediction, Settings, cleaning, functions
from launch.inference.results import Place
from launch.reporting import label_files


class Overlapping:
    """Decides on every class at every pixel.

    Args:
      names: of the classes.
      predict: the config's section `predict`.
      thresholds: the least probability of each class; () for 0.5.
      settings: what the command asks for; its `threshold` is that of all classes.

    Attributes:
      names: of the classes.
      ids: how many a mask of ids can hold: 0 for no class, then the classes.
      planes: names of the maps of probabilities.
      folders: of the results.

    Raises:
      UserError: a setting that needs classes which exclude each other.
    """

    folders = ("masks", "overlays")

    def __init__(self, names: tuple[str, ...], predict, thresholds: tuple, settings: Settings):
        if settings.crf or predict.refine:
            raise UserError(
                "--crf and config.predict.refine are for classes that exclude each other; those "
                "of this run may overlap"
            )
        if settings.fill_holes and max(settings.fill_holes) > 1:
            raise UserError("--fill_holes: each class has a mask of 0 and 1 of its own; write 1")
        self.names = self.planes = names
        self.ids = len(names) + 1
        levels = tuple(thresholds) or (0.5,) * len(names)
        if settings.threshold is not None:
            levels = (settings.threshold,) * len(names)
        self._levels, self._maps = np.array(levels, np.float32), settings.maps
        steps = [*predict.postprocess, *cleaning(settings)]
        self._postprocess = functions(steps, "config.predict.postprocess")

    def decide(self, strips: Iterator[dict], image: np.ndarray, prior=None) -> Prediction:
        """Compares probabilities with thresholds, and cleans each class's mask up.

        Args:
          strips: `presence` [n, W, K] of the next rows.
          image: uint8 [H, W, C]; not used.
          prior: None; there are no shares of classes that overlap.

        Returns:
          The prediction, with labels bool [H, W, K].
        """
        masks, maps = [], []
        for part in strips:
            masks.append(part["presence"] >= self._levels)
            maps += [part["presence"]] * self._maps
        labels = np.concatenate(masks)
        for function in self._postprocess:
            planes = np.moveaxis(labels, -1, 0).astype(np.int32)
            labels = np.stack([np.asarray(function(plane)) == 1 for plane in planes], -1)
        return Prediction(labels, maps=np.concatenate(maps) if maps else None)

    def save(self, place: Place, image: np.ndarray, prediction: Prediction) -> None:
        """Writes masks/NAME.CLASS, 255 where the class is present, and overlays/."""
        labels = self._of_data(prediction.labels, place)
        for number, ending in enumerate(label_files.endings(self.names)):
            place.save_map("masks", labels[..., number].astype(np.uint8) * 255, ending)
        label_files.save_union(place.path("overlays"), image, labels)

    def summary(self, prediction: Prediction, place: Place) -> dict:
        """The entry of the report: the share of each class, of the pixels with data."""
        labels = self._of_data(prediction.labels, place)
        size = labels[..., 0].size if place.empty is None else np.sum(~place.empty)
        shares = labels.sum((0, 1)) / max(int(size), 1)
        return {"shares": dict(zip(self.names, shares.round(6).tolist(), strict=True))}

    def masks(self, images: list, folder: Path | None) -> list:
        """Finds the masks of each image; see `input_files.class_partners`."""
        return input_files.class_partners(images, folder, self.names)

    def truth(self, segmenter, item, shape: tuple[int, int], binary: bool) -> np.ndarray | None:
        """Reads the true masks: uint8 [H, W, K], 255 where ignored; None where there are none."""
        return true_masks.read_overlapping(segmenter, item, shape, binary)

    def sums(self, prediction: Prediction, truth: np.ndarray, place: Place) -> dict:
        """Counts pixels: {"hit", "extra", "missed"}, integers [K]."""
        valid, true, guess = truth != IGNORED, truth == 1, prediction.labels
        if place.empty is not None:
            valid &= ~place.empty[..., None]
        parts = {"hit": true & guess, "extra": ~true & guess, "missed": true & ~guess}
        return {key: np.sum(part & valid, (0, 1)) for key, part in parts.items()}

    def scores(self, sums: dict) -> dict[str, float]:
        """Turns sums over images into scores."""
        return multilabel_scores.scores(sums, self.names)

    def _of_data(self, labels, place):
        return labels if place.empty is None else labels & ~place.empty[..., None]
