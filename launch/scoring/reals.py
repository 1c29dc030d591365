"""What all scores of a command compare with: the feature net, and the features of real images."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from launch.config.errors import UserError
from launch.data import batches
from launch.engine import trained_runs
from launch.engine.trained_runs import Restored
from launch.scoring import features, image_sets, sample_metrics

KEPT_BYTES = 2**30  # of training images and their features, up to which they are kept


class TrainingImages:
    """Training images with their features; what fits into `KEPT_BYTES` is extracted once.

    Args:
      extract: from `sample_metrics.make_extractor`.
      images: () -> (images [B, H, W, C], mask bool [B]) batch by batch.
    """

    def __init__(self, extract: Callable, images: Callable[[], Iterable]):
        self._extract, self._images, self._kept = extract, images, None

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields uint8 [B, H, W, C] and float [B, F], batch by batch."""
        if self._kept is not None:
            yield from self._kept
            return
        kept, size = [], 0
        for images, mask in self._images():
            found = jax.device_get(self._extract(images, mask))
            rows = found["images"][found["mask"]], found["features"][found["mask"]]
            size += sum(part.nbytes for part in rows)
            kept.append(rows)
            if size > KEPT_BYTES:
                kept.clear()
            yield rows
        self._kept = kept if size <= KEPT_BYTES else None


class Reals(NamedTuple):
    """What images are compared with, the same for all points of a grid.

    Attributes:
      net: the feature net.
      extract: its compiled function, see `sample_metrics.make_extractor`.
      measured: the real images.
      training: the training images, or None where nothing needs them.
      is_training: whether the real images are the training images.
      floor: how many training images are scored as if they were samples; None for none.
      results: scores of real images alone, real/ms_ssim and floor/NAME.
    """

    net: features.Features
    extract: Callable
    measured: sample_metrics.ImageSet
    training: TrainingImages | None
    is_training: bool
    floor: int | None
    results: dict[str, float]


def measure_reals(
    restored: Restored,  # a run; its data are the real images
    spec: Mapping,  # what names the feature net, as config.score.features
    *,
    batch_size: int,  # images at a time
    count: int,  # of real images
    samples: int | None = None,  # how many will be compared with them
    floor: bool = False,  # whether training images are scored too
    neighbours: bool = False,  # whether training images will be searched
    force: bool = False,  # whether a net is used that its own checks refuse
) -> Reals:
    """Builds the feature net, and measures the real images with it.

    Raises:
      UserError: no such net, too few images of a kind, or a floor of the training split itself.
    """
    config, experiment, data = restored.config, restored.experiment, restored.data
    if samples:  # before a classifier is trained
        sample_metrics.check_counts({"--samples": samples})
    net = features.build(spec, config.data, config.eval.split, force, restored.group)
    training = None
    if floor or neighbours:
        where = config.data, config.data.split, "config.data"
        training = trained_runs.open_together(restored.group, *where)
    floors = _floor_count(data, training, samples or count) if floor else None
    reals = f"{data.split.title} (--reals, --split)"
    sizes = {reals: count, "--samples": samples, "--floor": floors}
    sample_metrics.check_counts({key: n for key, n in sizes.items() if n}, net.size)
    extract = sample_metrics.make_extractor(net, experiment.mesh)
    real_images = partial(image_sets.real_images, experiment)
    images = real_images(data, batch_size, count)
    real = sample_metrics.measure(extract, images, count, "measuring real images")
    results = {"real/ms_ssim": sample_metrics.pairwise_ms_ssim(real, net.classes)}
    if floors:
        images = real_images(training, batch_size, floors)
        measured = sample_metrics.measure(extract, images, floors, "floor")
        scores = sample_metrics.compare(real, measured, net.classes)
        results |= {f"floor/{key}": value for key, value in scores.items()}
    kept, same = None, False
    if training:
        every = partial(real_images, training, batch_size, training.split.size)
        kept, same = TrainingImages(extract, every), training.split.title == data.split.title
    return Reals(net, extract, real, kept, same, floors, results)


def _floor_count(data: batches.Data, training: batches.Data, count: int) -> int:
    """How many training images are scored as if they were samples."""
    if training.split.title == data.split.title:
        raise UserError(f"--floor: {data.split.title} is the training split; give another --split")
    return min(count, training.split.size)
