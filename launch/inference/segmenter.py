"""A trained segmenter applied to files: reading, windows, prior, refinement, labels."""

import logging
from collections.abc import Iterator
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
from launch.engine import trained_runs

logger = logging.getLogger("segen")

# Pixels into an estimate of the prior: every so many each way, and so many an image.
SAMPLING, SAMPLED = 4, 4096


class Files(NamedTuple):
    """Files that belong to one image; None where there is none."""

    image: Path
    mask: Path | None
    depth: Path | None


class Labelled(NamedTuple):
    """What is known of an image.

    Attributes:
      labels: uint8 [H, W].
      entropy: its mean over the image, in nats.
      uncertainty: maps [H, W] by name, of a net that predicts by dropout samples.
    """

    labels: np.ndarray
    entropy: float
    uncertainty: dict[str, np.ndarray]


class Segmenter:
    """Labels images of any size, as the config's section `predict` says.

    Args:
      restored: a trained run.
      batch_size: windows at a time, rounded up to a multiple of the devices.
      depth: whether depth will be given.

    Raises:
      UserError: the task cannot predict, or wants other channels than files have.
    """

    def __init__(self, restored: trained_runs.Restored, batch_size: int, depth: bool):
        config, example = restored.config, restored.experiment.example
        if restored.experiment.compiled.predict is None:
            raise UserError(f"{config.task.name} has no predict()")
        self.restored, self.classes = restored, config.task.get("classes", 0)
        if not 2 <= self.classes <= MOST:
            raise UserError(
                f"{config.task.name} has {self.classes} classes; masks can be written of tasks "
                f"with 2 to {MOST}"
            )
        named = config.task.get("names") or restored.data.split.classes
        plain = tuple(map(str, range(self.classes)))
        self.names = tuple(named) if len(named) == self.classes else plain
        self.channels, self.depth = example["image"].shape[-1], "depth" in example
        if self.channels not in (1, 3):
            raise UserError(
                f"the run was trained on images of {self.channels} channels; files have 1 or 3"
            )
        if depth and not self.depth:
            logger.info("trained without depth: --depth is not looked at")
        if self.depth and config.task.get("features") and not depth:
            logger.info("trained with depth, and no --depth is given: taken as unknown everywhere")
        self.batch_size = (
            -(-batch_size // restored.experiment.mesh.size) * restored.experiment.mesh.size
        )
        self.window, self.multiple = _window(restored)
        self.scale = config.predict.scale or restored.data.scale
        self._refine = _bound(config.predict.refine, "config.predict.refine")
        self._clean = _bound(config.predict.postprocess, "config.predict.postprocess")

    def read(self, files: Files) -> dict[str, np.ndarray]:
        """An image with its depth in the units that the net was trained on.

        Raises:
          ValueError: a file cannot be read, sizes differ, or the image has colours
            where the net was trained on grey ones.
        """
        image = images.read_image(files.image)
        if self.channels == 1:
            if np.ptp(image, axis=-1).any():
                raise ValueError(f"{files.image}: the net was trained on grey images; convert it")
            image = image[..., :1]
        if not self.depth:
            return {"image": image}
        metres = np.zeros(image.shape[:2], np.float32)
        if files.depth:
            metres = images.read_depth(files.depth)
        if metres.shape[:2] != image.shape[:2]:
            raise images.other_size(files.depth, metres.shape, files.image, image.shape)
        unit = np.float32(self.restored.config.task.get("depth_unit", 1.0))
        return {"image": image, "depth": metres.reshape(*image.shape[:2], 1) / unit}

    def label(self, example: dict, prior: tuple[np.ndarray, np.ndarray] | None) -> Labelled:
        """Labels one image: windows, prior, refinement, MAP decision, post-processing.

        Args:
          example: what `read` returned.
          prior: class shares of training and of the target; None leaves them.
        """
        rows, total, maps = [], 0.0, {}
        for part in self.posterior(example):
            probability = part.pop("probability")
            if prior is not None:
                probability = np.asarray(shift_prior(probability, *prior))
            # Whole maps of all classes are only kept for functions that need them.
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
        for function in self._clean:
            result = np.asarray(function(result.astype(np.int32))).astype(np.uint8)
        uncertainty = {key: np.concatenate(parts) for key, parts in maps.items()}
        return Labelled(result, total / result.size, uncertainty)

    def posterior(self, example: dict) -> Iterator[dict[str, np.ndarray]]:
        """Strips of rows of the whole image, from the top: {name: [n, W, ...]}."""
        height, width = example["image"].shape[:2]
        if self.scale == 1.0:
            for _, part in self._strips(example):
                yield part
            return
        small = max(1, round(height * self.scale)), max(1, round(width * self.scale))
        scaled = {key: _scaled(array, small) for key, array in example.items()}
        whole = sliding.whole(self._strips(scaled))
        for top in range(0, height, 256):
            rows = (top, min(height, top + 256))
            yield {key: _enlarged(leaf, rows, (height, width)) for key, leaf in whole.items()}

    def prior(self, asked: str, items: list[Files]) -> tuple[np.ndarray, np.ndarray] | None:
        """The class shares of training and of the target; None for no correction.

        Args:
          asked: "", shares as "0.5,0.3,0.2", or "estimate", by EM over all images.
          items: the images.

        Raises:
          UserError: shares that are none, or a task that keeps none of its own.
        """
        if not asked:
            return None
        shares = getattr(self.restored.state, "class_frequencies", None)
        if shares is None:
            raise UserError(f"--prior: {self.restored.config.task.name} keeps no class shares")
        old = np.asarray(shares) / max(float(np.sum(shares)), 1e-12)
        if asked != "estimate":
            return old, _shares(asked, len(old))
        sample = []
        for files in items:
            try:
                example = self.read(files)
                stride = max(SAMPLING, round(np.sqrt(example["image"][..., 0].size / SAMPLED)))
                inner = slice(stride // 2, None, stride)
                parts = self.posterior(example)
                sample += [part["probability"][inner, inner] for part in parts]
            except ValueError as error:
                logger.info(f"left out of the estimate: {error}")
        if not sample:
            raise UserError("--prior=estimate: no image could be read")
        flat = np.concatenate([part.reshape(-1, len(old)) for part in sample])
        if not len(flat):
            raise UserError("--prior=estimate: the images are too small to estimate anything from")
        new = np.asarray(jax.jit(estimate_prior)(flat, old))
        named = zip(self.names, new, strict=True)
        logger.info("estimated class shares: " + ", ".join(f"{name} {s:.3f}" for name, s in named))
        return old, new

    def _strips(self, example):
        overlap = self.restored.config.predict.overlap
        return sliding.strips(
            self._predict, example, self.window, overlap, self.multiple, self.batch_size
        )

    def _predict(self, batch):
        program = self.restored.experiment.compiled
        return jax.device_get(program.predict(self.restored.state, program.put_batch(batch)))


def _window(restored):
    """The window, in pixels that the net sees, and what its sides are multiples of."""
    net = restored.config.model
    levels = len(net.widths) - 1 if "widths" in net else 5
    multiple = net.get("stem", 1) * 2**levels
    side = restored.config.predict.window
    shape = (side, side) if side else restored.experiment.example["image"].shape[:2]
    return tuple(-(-n // multiple) * multiple for n in shape), multiple


def _bound(specs, where):
    return [by_name.partial(spec, f"{where}[{number}]") for number, spec in enumerate(specs)]


def _decide(probability):
    """The MAP decision: uint8 [...] of [..., K]."""
    return np.argmax(probability, -1).astype(np.uint8)


def _scaled(array, size):
    """Resizes [H, W, C]: a picture is averaged, depth takes the nearest pixel."""
    how = Image.Resampling.BILINEAR if array.dtype == np.uint8 else Image.Resampling.NEAREST
    planes = [Image.fromarray(np.ascontiguousarray(array[..., c])) for c in range(array.shape[-1])]
    return np.stack([np.asarray(plane.resize(size[::-1], how)) for plane in planes], -1)


def _enlarged(array, rows, shape):
    """Rows of [h, w, ...] resized bilinearly to `shape`: [rows, W, ...]."""
    low_y, high_y, y = _neighbours(np.arange(*rows), shape[0], array.shape[0], array.ndim, 0)
    low_x, high_x, x = _neighbours(np.arange(shape[1]), shape[1], array.shape[1], array.ndim, 1)
    across = array[low_y] * (1 - y) + array[high_y] * y
    return across[:, low_x] * (1 - x) + across[:, high_x] * x


def _neighbours(places, full, small, dimensions, axis):
    source = np.clip((places + 0.5) * small / full - 0.5, 0, small - 1).astype(np.float32)
    low = source.astype(int)
    weight = (source - low).reshape([-1 if d == axis else 1 for d in range(dimensions)])
    return low, np.minimum(low + 1, small - 1), weight


def _shares(text, classes):
    try:
        shares = np.array([float(part) for part in text.split(",")])
    except ValueError:
        shares = np.zeros(0)
    if len(shares) != classes or (shares < 0).any() or not 0 < shares.sum() < np.inf:
        raise UserError(f'--prior={text}: give {classes} shares, as "0.5,0.3,0.2", or "estimate"')
    return shares / shares.sum()
