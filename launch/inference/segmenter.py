"""Applies a trained segmenter to files: read, predict in windows, correct the prior, refine."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from jaxseg.bayes.prior_shift import estimate_prior, shift_prior
from jaxseg.inference import sliding
from launch.config import by_name
from launch.config.errors import UserError
from launch.data import images
from launch.data.classes import MOST
from launch.data.folders import examples, reading
from launch.engine import sharding, trained_runs

logger = logging.getLogger("segen")

# The prior is estimated from every 4th row and column, or fewer: about 4096 pixels an image.
STRIDE, PIXELS = 4, 4096
ROWS = 256  # of a prediction that are enlarged at a time


class Files(NamedTuple):
    """The files of one example.

    Attributes:
      image: the image.
      mask: its true mask, or None.
      depth: its depth map, or None.
    """

    image: Path
    mask: Path | None
    depth: Path | None


class Labelled(NamedTuple):
    """The prediction for one image.

    Attributes:
      labels: uint8 [H, W], the class of each pixel.
      entropy: of the class probabilities, in nats: the mean over the pixels.
      uncertainty: {name: float [H, W]}, for a net that predicts by dropout samples.
    """

    labels: np.ndarray
    entropy: float
    uncertainty: dict[str, np.ndarray]


class Segmenter:
    """Labels images of any size, with the settings of the config's section `predict`.

    Args:
      restored: a trained run.
      batch_size: windows at a time, rounded up to a multiple of the devices.
      depth: whether the files include depth maps.
      refine: functions that run after those of `config.predict.refine`, as in a config.
      postprocess: functions that run after those of `config.predict.postprocess`.

    Attributes:
      restored: the run.
      classes: K, the number of classes.
      names: K names, or numbers where the classes have none.
      scale: the factor by which images are scaled before prediction.
      reading: how the files of training were read; None for data that were no files.

    Raises:
      UserError: the task cannot predict, or needs channels that files do not have.
    """

    def __init__(
        self,
        restored: trained_runs.Restored,
        batch_size: int,
        depth: bool,
        refine: Sequence[dict] = (),
        postprocess: Sequence[dict] = (),
    ):
        config, example = restored.config, restored.experiment.example
        if restored.experiment.compiled.predict is None:
            raise UserError(f"{config.task.name} has no predict()")
        self.restored, self.classes = restored, config.task.get("classes", 0)
        if not 2 <= self.classes <= MOST:
            raise UserError(
                f"{config.task.name} has {self.classes} classes; masks can hold 2 to {MOST}"
            )
        names = config.task.get("names") or restored.data.split.classes
        numbers = tuple(map(str, range(self.classes)))
        self.names = tuple(names) if len(names) == self.classes else numbers
        self.channels, self.depth = example["image"].shape[-1], "depth" in example
        self.reading = reading.from_json(restored.data.reading)
        if self.channels not in (1, 3) and not self.reading:
            raise UserError(
                f"the run was trained on images of {self.channels} channels; files have 1 or 3"
            )
        if depth and not self.depth:
            logger.info("trained without depth: --depth is not used")
        if self.depth and config.task.get("features") and not depth:
            logger.info("trained with depth, but there is no --depth: depth is unknown everywhere")
        self.batch_size = sharding.round_up(batch_size, restored.experiment.mesh)
        self.window, self.multiple = _window(restored)
        self.scale = config.predict.scale or (self.reading.scale if self.reading else 1.0)
        settings = config.predict
        self._refine = _functions([*settings.refine, *refine], "config.predict.refine")
        self._postprocess = _functions(
            [*settings.postprocess, *postprocess], "config.predict.postprocess"
        )

    def read(self, files: Files) -> dict[str, np.ndarray]:
        """Reads an image, and its depth if the net was trained with depth.

        Args:
          files: the image, and its depth map or None.

        Returns:
          image uint8 [H, W, C]; and depth float32 [H, W, 1] in the unit of training, 0
          where unknown.

        Raises:
          ValueError: a file cannot be read, sizes differ, or the image is coloured but
            the net was trained on grey images.
        """
        if self.reading:
            image = examples.read_image(files.image, self.reading)
        else:
            image = images.read_image(files.image)
        if self.channels == 1 and image.shape[-1] == 3:
            if np.ptp(image, axis=-1).any():
                raise ValueError(f"{files.image}: the net was trained on grey images; convert it")
            image = image[..., :1]
        if not self.depth:
            return {"image": image}
        metres = np.zeros(image.shape[:2], np.float32)
        if files.depth:
            metres = images.read_depth(files.depth, bool(self.reading and self.reading.stored))
        if metres.shape[:2] != image.shape[:2]:
            raise images.wrong_size(files.depth, metres.shape, files.image, image.shape)
        unit = np.float32(self.restored.config.task.get("depth_unit", 1.0))
        return {"image": image, "depth": metres.reshape(*image.shape[:2], 1) / unit}

    def label(self, example: dict, prior: tuple[np.ndarray, np.ndarray] | None) -> Labelled:
        """Labels one image: windows, prior, refinement, MAP decision, post-processing.

        Args:
          example: the result of `read`.
          prior: class shares [K] of training and of the target; None for no correction.

        Returns:
          The prediction.
        """
        rows, total, maps = [], 0.0, {}
        for part in self.posterior(example):
            probability = part.pop("probability")
            if prior is not None:
                probability = np.asarray(shift_prior(probability, *prior))
            # The probabilities of a whole image are only kept for refinement.
            rows.append(probability if self._refine else _decide(probability))
            total += float(part["entropy"].sum(dtype=np.float64))
            if self.restored.config.task.get("passes"):
                for key, values in part.items():
                    maps.setdefault(key, []).append(values)
        result = np.concatenate(rows)
        if self._refine:
            picture = example["image"].astype(np.float32) / 255
            for function in self._refine:
                result = np.asarray(function(picture, result))
            result = _decide(result)
        for function in self._postprocess:
            result = np.asarray(function(result.astype(np.int32))).astype(np.uint8)
        uncertainty = {key: np.concatenate(parts) for key, parts in maps.items()}
        return Labelled(result, total / result.size, uncertainty)

    def posterior(self, example: dict) -> Iterator[dict[str, np.ndarray]]:
        """Predicts an image of any size in strips, so that memory holds a few rows at a time.

        Args:
          example: the result of `read`.

        Yields:
          {name: [n, W, ...]}: the next n rows of the prediction, from the top.
        """
        height, width = example["image"].shape[:2]
        if self.scale == 1.0:
            for _, part in self._strips(example):
                yield part
            return
        small = max(1, round(height * self.scale)), max(1, round(width * self.scale))
        scaled = {key: _scaled(array, small) for key, array in example.items()}
        whole = sliding.whole(self._strips(scaled))
        for top in range(0, height, ROWS):
            rows = (top, min(height, top + ROWS))
            yield {key: _enlarged(leaf, rows, (height, width)) for key, leaf in whole.items()}

    def prior(self, value: str, items: list[Files]) -> tuple[np.ndarray, np.ndarray] | None:
        """Finds the class shares of training and of the target.

        Args:
          value: of --prior: "" for no correction, shares such as "0.5,0.3,0.2", or
            "estimate", which runs EM over all images (Saerens et al. 2002).
          items: the images.

        Returns:
          Shares [K] of training and of the target, each with the sum 1; None for no
          correction.

        Raises:
          UserError: the value is not shares, the state of the task has no class
            frequencies, or no image can be read.
        """
        if not value:
            return None
        frequencies = getattr(self.restored.state, "class_frequencies", None)
        if frequencies is None:
            name = self.restored.config.task.name
            raise UserError(f"--prior: the state of {name} has no class_frequencies")
        old = np.asarray(frequencies) / max(float(np.sum(frequencies)), 1e-12)
        if value != "estimate":
            return old, _shares(value, len(old))
        new = np.asarray(jax.jit(estimate_prior)(self._sample(items, len(old)), old))
        shares = (f"{name} {share:.3f}" for name, share in zip(self.names, new, strict=True))
        logger.info("estimated class shares: " + ", ".join(shares))
        return old, new

    def _sample(self, items, classes):
        """Class probabilities [N, K] of some pixels of every image that can be read."""
        sample = []
        for files in items:
            try:
                example = self.read(files)
                stride = max(STRIDE, round(np.sqrt(example["image"][..., 0].size / PIXELS)))
                inner = slice(stride // 2, None, stride)
                for part in self.posterior(example):
                    sample.append(part["probability"][inner, inner].reshape(-1, classes))
            except ValueError as error:
                logger.info(f"left out of the estimate: {error}")
        if not sample:
            raise UserError("--prior=estimate: no image could be read")
        pixels = np.concatenate(sample)
        if not len(pixels):
            raise UserError("--prior=estimate: the images are too small for an estimate")
        return pixels

    def _strips(self, example):
        overlap = self.restored.config.predict.overlap
        return sliding.strips(
            self._predict, example, self.window, overlap, self.multiple, self.batch_size
        )

    def _predict(self, batch):
        compiled = self.restored.experiment.compiled
        return jax.device_get(compiled.predict(self.restored.state, compiled.put_batch(batch)))


def _window(restored):
    """The window (height, width) in pixels, and the number that its sides are multiples of."""
    net = restored.config.model
    levels = len(net.widths) - 1 if "widths" in net else 5
    multiple = net.get("stem", 1) * 2**levels
    side = restored.config.predict.window
    shape = (side, side) if side else restored.experiment.example["image"].shape[:2]
    return tuple(-(-n // multiple) * multiple for n in shape), multiple


def _functions(specs, where):
    """The functions that a list in the config names, with their arguments."""
    return [by_name.partial(spec, f"{where}[{number}]") for number, spec in enumerate(specs)]


def _decide(probability):
    """The MAP decision: uint8 [...] of [..., K]."""
    return np.argmax(probability, -1).astype(np.uint8)


def _scaled(array, size):
    """Resizes [H, W, C] to (height, width): images are averaged, depth is not."""
    filtering = Image.Resampling.BILINEAR if array.dtype == np.uint8 else Image.Resampling.NEAREST
    planes = [Image.fromarray(np.ascontiguousarray(array[..., c])) for c in range(array.shape[-1])]
    return np.stack([np.asarray(plane.resize(size[::-1], filtering)) for plane in planes], -1)


def _enlarged(array, rows, shape):
    """Resizes [h, w, ...] bilinearly to `shape` and gives some rows: [rows, W, ...]."""
    low_y, high_y, y = _neighbours(np.arange(*rows), shape[0], array.shape[0], array.ndim, 0)
    low_x, high_x, x = _neighbours(np.arange(shape[1]), shape[1], array.shape[1], array.ndim, 1)
    across = array[low_y] * (1 - y) + array[high_y] * y
    return across[:, low_x] * (1 - x) + across[:, high_x] * x


def _neighbours(indices, full, small, dimensions, axis):
    """For indices on an axis of length `full`: both neighbours of `small`, and the weight."""
    source = np.clip((indices + 0.5) * small / full - 0.5, 0, small - 1).astype(np.float32)
    low = source.astype(int)
    weight = (source - low).reshape([-1 if d == axis else 1 for d in range(dimensions)])
    return low, np.minimum(low + 1, small - 1), weight


def _shares(text, classes):
    """The shares [K] of --prior, scaled to the sum 1."""
    try:
        shares = np.array([float(part) for part in text.split(",")])
    except ValueError:
        shares = np.zeros(0)
    if len(shares) != classes or (shares < 0).any() or not 0 < shares.sum() < np.inf:
        raise UserError(f'--prior={text}: give {classes} shares, as "0.5,0.3,0.2", or "estimate"')
    return shares / shares.sum()
