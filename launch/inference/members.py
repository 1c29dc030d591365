"""One trained run as a predictor of images of any size: it reads files and gives maps."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxseg.inference import sliding
from launch.config.errors import UserError
from launch.data import images
from launch.data.bad_file import BadFile
from launch.data.folders import examples, reading
from launch.engine import experiments, sharding, trained_runs
from launch.inference import geotiff, scaling

logger = logging.getLogger("segen")

MULTIPLE = 32  # of the sides of windows, for a net that names none
ROWS = 256  # of a prediction that are enlarged at a time


class Files(NamedTuple):
    """The files of one example.

    Attributes:
      image: the image.
      mask: its true mask, or None; of classes that overlap perhaps a file or None for each class.
      depth: its depth map, or None.
      name: of its results, with folders; "" for the stem of the image.
    """

    image: Path
    mask: Path | tuple[Path | None, ...] | None
    depth: Path | None
    name: str = ""

    @property
    def title(self) -> str:
        """The name of the results."""
        return self.name or self.image.stem

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        masks = self.mask if isinstance(self.mask, tuple) else (self.mask,)
        return tuple(filter(None, (self.image, *masks, self.depth)))


class Member:
    """A run that predicts, with the settings of its config's section `predict`.

    Args:
      restored: a trained run.
      batch_size: windows at a time, rounded up to a multiple of the devices.
      depth: whether the files include depth maps.

    Attributes:
      restored: the run.
      channels: of the images that the net sees.
      reading: how the files of training were read; None for data that were no files.
      scale: the factor by which images are scaled before prediction.
      window: (height, width) of the windows in pixels.

    Raises:
      UserError: the task cannot predict, or needs channels that files do not have.
    """

    def __init__(self, restored: trained_runs.Restored, batch_size: int, depth: bool):
        config, example = restored.config, restored.experiment.example
        if restored.experiment.compiled.predict is None:
            raise UserError(f"{config.task.name} has no predict()")
        self.restored = restored
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

    def outputs(self) -> tuple[str, ...]:
        """Names the maps that the net predicts."""
        compiled, rows = self.restored.experiment.compiled, self.batch_size
        shape = rows, *self.window
        batch = {"image": jax.ShapeDtypeStruct((*shape, self.channels), np.uint8)}
        if self.depth:
            batch["depth"] = jax.ShapeDtypeStruct((*shape, 1), np.float32)
        batch["index"] = jax.ShapeDtypeStruct((rows,), np.int32)
        return tuple(jax.eval_shape(compiled.predict, compiled.template, batch))

    def read(self, files: Files) -> dict[str, np.ndarray]:
        """Reads an image, and its depth if the net was trained with depth.

        Args:
          files: the image, and its depth map or None.

        Returns:
          image uint8 [H, W, C]; and depth float32 [H, W, 1] in the unit of training, 0
          where unknown.

        Raises:
          ValueError: a file cannot be read, or is of another kind than those of training:
            channels, values, colours; or sizes differ.
        """
        self._check_bands(files.image)
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

    def reads_like(self, other: "Member") -> bool:
        """Whether both make the same example of the same files."""
        how, others = (
            one.reading and (one.reading.dtype, one.reading.ranges, one.reading.stored)
            for one in (self, other)
        )
        units = [one.restored.config.task.get("depth_unit", 1.0) for one in (self, other)]
        same = self.channels == other.channels and self.depth == other.depth
        return same and how == others and (not self.depth or units[0] == units[1])

    def strips(self, example: dict) -> Iterator[dict[str, np.ndarray]]:
        """Predicts an image of any size in strips, so that memory holds a few rows at a time.

        Args:
          example: the result of `read`.

        Yields:
          {name: [n, W, ...]}: the next n rows of the prediction, from the top.
        """
        height, width = example["image"].shape[:2]
        if self.scale == 1.0:
            for _, part in self._windows(example):
                yield part
            return
        small = max(1, round(height * self.scale)), max(1, round(width * self.scale))
        reduced = {key: scaling.scaled(array, small) for key, array in example.items()}
        whole = sliding.whole(self._windows(reduced))
        for top in range(0, height, ROWS):
            rows = (top, min(height, top + ROWS))
            yield {
                key: scaling.enlarged(leaf, rows, (height, width)) for key, leaf in whole.items()
            }

    def _check_bands(self, path):
        """Refuses a TIFF of other bands, before its last one is dropped as if transparent."""
        header = geotiff.read_header(path)
        if header is None or header.samples == self.channels:
            return
        dropped = header.transparent or bool(self.reading and self.reading.alpha)
        colours = header.samples - dropped
        # Grey images become RGB; for a grey net, `read` looks at the colours.
        if colours != self.channels and (colours, self.channels) not in ((1, 3), (3, 1)):
            problem = f"has {header.samples} channels, the data of training {self.channels}"
            raise BadFile(path, problem, "Export it as those were.")

    def _windows(self, example):
        overlap = self.restored.config.predict.overlap
        return sliding.strips(
            self._predict, example, self.window, overlap, self.multiple, self.batch_size
        )

    def _predict(self, batch):
        compiled = self.restored.experiment.compiled
        return jax.device_get(compiled.predict(self.restored.state, compiled.put_batch(batch)))


def _window(restored):
    """The window (height, width) in pixels, and the number that its sides are multiples of."""
    net = experiments.make_net(restored.config.model, "config.model")
    multiple = getattr(net, "multiple", MULTIPLE)
    side = restored.config.predict.window
    shape = (side, side) if side else restored.experiment.example["image"].shape[:2]
    return tuple(-(-n // multiple) * multiple for n in shape), multiple
