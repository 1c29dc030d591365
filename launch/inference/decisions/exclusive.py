"""One class a pixel: the most probable one, or by a threshold the second of two."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxseg.bayes.prior_shift import shift_prior
from jaxseg.metrics import pixel_scores
from jaxseg.pictures import palette
from launch.config.errors import UserError
from launch.data.classes import IGNORED, MOST
from launch.inference import input_files, true_masks
from launch.inference.decisions.prediction import Prediction, Settings, cleaning, functions
from launch.inference.results import Place
from launch.reporting import label_files

CRF = {"name": "jaxseg.inference.crf:dense_crf"}


class Exclusive:
    """Decides on one class a pixel.

    Args:
      names: of the classes.
      predict: the config's section `predict`.
      settings: what the command asks for.
      uncertain: whether the maps of uncertainty are kept.
      colours: of the classes, where the data of training had some.

    Attributes:
      names: of the classes.
      ids: how many a mask can hold.
      planes: names of the maps of probabilities.
      folders: of the results.

    Raises:
      UserError: more classes than masks can hold, or a setting that does not fit them.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        predict,
        settings: Settings,
        uncertain: bool,
        colours: tuple[tuple[int, int, int], ...] = (),
    ):
        if not 2 <= len(names) <= MOST:
            raise UserError(f"the task has {len(names)} classes; masks can hold 2 to {MOST}")
        if settings.threshold is not None and len(names) != 2:
            raise UserError(
                f"--threshold is the least probability of the second of two classes; this run has "
                f"{len(names)} classes, of which the most probable one is taken"
            )
        if settings.fill_holes and max(settings.fill_holes) >= len(names):
            raise UserError(
                f"--fill_holes: there is no class {max(settings.fill_holes)}; ids are 0 to "
                f"{len(names) - 1}"
            )
        self.names = self.planes = names
        self.ids = len(names)
        self.folders = ("masks", "overlays", *("entropy", "information") * uncertain)
        self._settings, self._uncertain = settings, uncertain
        self._colours = palette(given=colours)
        refine = [*predict.refine, *[CRF] * settings.crf]
        self._refine = functions(refine, "config.predict.refine")
        steps = [*predict.postprocess, *cleaning(settings)]
        self._postprocess = functions(steps, "config.predict.postprocess")

    def decide(self, strips: Iterator[dict], image: np.ndarray, prior=None) -> Prediction:
        """Corrects by the prior, refines, takes the MAP decision, and cleans up.

        Args:
          strips: `probability` [n, W, K], `entropy` [n, W], and perhaps `information` of the
            next rows.
          image: uint8 [H, W, C].
          prior: class shares [K] of training and of the target; None for no correction.

        Returns:
          The prediction, with labels uint8 [H, W].
        """
        whole = bool(self._refine) or self._settings.maps
        rows, total, maps = [], 0.0, {}
        for part in strips:
            probability = part.pop("probability")
            if prior is not None:
                probability = np.asarray(shift_prior(probability, *prior))
            # The probabilities of a whole image are only kept where they are needed.
            rows.append(probability if whole else self._choose(probability))
            total += float(part["entropy"].sum(dtype=np.float64))
            if self._uncertain:
                for key, values in part.items():
                    maps.setdefault(key, []).append(values)
        result = kept = np.concatenate(rows)
        if whole:
            picture = image.astype(np.float32) / 255 if self._refine else None
            for function in self._refine:
                result = np.asarray(function(picture, result))
            kept, result = result, self._choose(result)
        for function in self._postprocess:
            result = np.asarray(function(result.astype(np.int32))).astype(np.uint8)
        uncertainty = {key: np.concatenate(parts) for key, parts in maps.items()}
        maps = kept if self._settings.maps else None
        return Prediction(result, total / result.size, uncertainty, maps)

    def save(self, place: Place, image: np.ndarray, prediction: Prediction) -> None:
        """Writes masks/ and overlays/; of pixels without data, 255."""
        labels = self._with_void(prediction.labels, place)
        place.save_ids("masks", labels, IGNORED, self._colours)
        label_files.save_overlay(place.path("overlays"), image, labels, self._colours)

    def summary(self, prediction: Prediction, place: Place) -> dict:
        """The entry of the report: the share of each class, of the pixels with data."""
        labels, count = self._with_void(prediction.labels, place), len(self.names)
        counts = np.bincount(labels.ravel(), minlength=count)[:count]
        shares = counts / max(int(counts.sum()), 1)
        return {
            "shares": dict(zip(self.names, shares.round(6).tolist(), strict=True)),
            "mean_entropy": round(prediction.entropy, 6),
        }

    def masks(self, images: list, folder: Path | None) -> list[Path | None]:
        """Finds the mask of each image; see `input_files.partners`."""
        return input_files.partners(images, folder)

    def truth(self, segmenter, item, shape: tuple[int, int], binary: bool) -> np.ndarray | None:
        """Reads the true mask: ids [H, W], 255 where ignored; None where there is none."""
        return true_masks.read(segmenter, item, shape, binary)

    def sums(self, prediction: Prediction, truth: np.ndarray, place: Place) -> dict:
        """Counts pixels: {"confusion": integers [K, K], truth by prediction}."""
        labels, count = self._with_void(prediction.labels, place), len(self.names)
        counted = (truth < count) & (labels < count)
        cells = truth[counted].astype(np.int64) * count + labels[counted]
        return {"confusion": np.bincount(cells, minlength=count**2).reshape(count, count)}

    def scores(self, sums: dict) -> dict[str, float]:
        """Turns sums over images into scores."""
        return pixel_scores.scores(sums["confusion"], self.names)

    def _choose(self, probability):
        """The decision: uint8 [...] of [..., K]."""
        if self._settings.threshold is not None:
            return (probability[..., 1] >= np.float32(self._settings.threshold)).astype(np.uint8)
        return np.argmax(probability, -1).astype(np.uint8)

    def _with_void(self, labels, place):
        return labels if place.empty is None else np.where(place.empty, np.uint8(IGNORED), labels)
