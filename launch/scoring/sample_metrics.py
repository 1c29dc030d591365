"""Scores of one set of images against another, by the features of a net.

Images come in batches; only what scores need is kept of them. All images are rounded to
256 levels first, as real images are and as a file would store them.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.metrics import frechet, kernel_distance, neighbours, ssim
from launch import distributed
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import sharding
from launch.engine.evaluation import Monitor
from launch.engine.experiments import Experiment
from launch.scoring import image_sets
from launch.scoring.features import Features
from launch.scoring.features import build as build_features

logger = logging.getLogger("segen")

KEPT_IMAGES = 2000  # images of a set that are kept themselves, for pairs and figures
MAX_PAIRS = 1000  # pairs of images that MS-SSIM compares
PROGRESS_SECONDS = 10.0  # between lines of progress


class ImageSet(NamedTuple):
    """What scores need of a set of N images.

    Attributes:
      sums: of the features, as `jaxgen.metrics.frechet.add` gives them.
      features: float32 [N, F].
      classes: int [N], the most likely class of each image.
      images: uint8 [at most KEPT_IMAGES, H, W, C], the first ones.
    """

    sums: dict
    features: np.ndarray
    classes: np.ndarray
    images: np.ndarray


def make_extractor(features: Features, mesh: jax.sharding.Mesh) -> Callable:
    """Compiles the extraction of features.

    Args:
      features: the net.
      mesh: the devices.

    Returns:
      (images [B, H, W, C], mask bool [B]) -> {name: array}. Images are uint8, or float in
      [0, 1]; B is a multiple of the number of devices. The result has the `sums` of the
      batch and, by image, `features` float [B, F], `classes` int [B], `mask` bool [B] and
      `images` uint8 [B, H, W, C].
    """
    rows, copies = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    params = sharding.device_put(jax.device_get(features.params), copies)

    @partial(jax.jit, out_shardings=copies)
    def extract(params, images, mask):
        images = jax.lax.with_sharding_constraint(round_to_levels(images), rows)
        values, logits = features.apply(params, images)
        return {
            "sums": frechet.feature_sums(values, logits, mask),
            "features": values,
            "classes": jnp.argmax(logits, axis=-1),
            "mask": mask,
            # Rounded: the quotient can be a little less than the level.
            "images": jnp.round(jnp.nan_to_num(images * 255.0)).astype(jnp.uint8),
        }

    return partial(extract, params)


def round_to_levels(images: jax.Array) -> jax.Array:
    """Rounds images to the 256 levels k / 255.

    Args:
      images: uint8, or float in [0, 1] (clipped to it), of any shape.

    Returns:
      float32 of the same shape; NaN stays NaN.
    """
    if images.dtype != np.uint8:
        images = jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0)
    return images.astype(jnp.float32) / 255.0


def measure(extract: Callable, images: Iterable, count: int, name: str = "") -> ImageSet:
    """Extracts the features of a set of images.

    Args:
      extract: from `make_extractor`.
      images: (images [B, H, W, C], mask bool [B]) batch by batch, as `real_images` or
        `sampled_images` yield them.
      count: how many images there will be, for lines of progress.
      name: of the set, in a line of progress every ten seconds; "" for no such lines.
    """
    columns = {"features": [], "classes": [], "images": []}
    sums = frechet.add(_extracted_sums(extract, images, columns, _Progress(name, count)))
    joined = {key: np.concatenate(arrays) for key, arrays in columns.items()}
    return ImageSet(sums, joined["features"], joined["classes"], joined["images"][:KEPT_IMAGES])


def _extracted_sums(extract, images, columns, progress):
    """Yields the sums of each batch; appends its unmasked rows to `columns`."""
    for batch, mask in images:
        result = extract(batch, mask)
        if sum(map(len, columns["images"])) >= KEPT_IMAGES:
            del result["images"]
        result = jax.device_get(result)
        for key in columns.keys() & result.keys():
            columns[key].append(result[key][result["mask"]])
        progress.add(int(result["mask"].sum()))
        yield result["sums"]


class _Progress:
    """Logs how many images of a set are done, every `PROGRESS_SECONDS`."""

    def __init__(self, name: str, count: int):
        self.name, self.count = name, count
        self.done, self.logged_at = 0, time.monotonic()

    def add(self, images: int) -> None:
        self.done += images
        if self.name and time.monotonic() - self.logged_at > PROGRESS_SECONDS:
            self.logged_at = time.monotonic()
            logger.info(f"{self.name}: {self.done:,} of {self.count:,}")


def check_counts(counts: dict[str, int], size: int = 1) -> None:
    """Refuses sets of images that are too small for the scores.

    Args:
      counts: number of images of each set, by the set's name in the message.
      size: F, number of features that will be compared; 1 while it is not known.

    Raises:
      UserError: a set is too small; gives the least number.
    """
    needs = {
        f"FID in {size} features": frechet.least_images(size),
        f"KID in {kernel_distance.BLOCKS} blocks": kernel_distance.least_images(),
        f"the {neighbours.K}-th neighbour": neighbours.least_images(),
    }
    metric = max(needs, key=needs.get)
    for name, count in counts.items():
        if count < needs[metric]:
            raise UserError(
                f"{name}: {metric} needs at least {needs[metric]:,} images; there are {count:,}"
            )


def compare(
    real: ImageSet, generated: ImageSet, classes: int = 0, seed: int = 0
) -> dict[str, float]:
    """All scores of a set of images against the real images.

    Args:
      real: the real images.
      generated: the images to score, with features of the same net.
      classes: K, if the net knows the classes of the data; else 0.
      seed: assigns images to the blocks of KID.

    Returns:
      fid, kid, kid_standard_error, precision, recall, density, coverage,
      feature_variance and ms_ssim; with classes also class_coverage, least_class_share
      and most_class_share.
    """
    kid = kernel_distance.kernel_distance(real.features, generated.features, seed)
    return {
        "fid": frechet.fid(generated.sums, real.sums),
        "kid": kid.value,
        "kid_standard_error": kid.standard_error,
        **neighbours.precision_recall(real.features, generated.features),
        "ms_ssim": pairwise_ms_ssim(generated, classes),
        **_spread(generated.sums, real.sums, classes),
    }


def _spread(sums, real_sums, classes):
    """The scores that reveal a collapse, from sums alone."""
    spread = {"feature_variance": frechet.feature_variance(sums, real_sums)}
    return spread | (frechet.class_shares(sums["classes"]) if classes else {})


def pairwise_ms_ssim(images: ImageSet, classes: int = 0) -> float:
    """Mean MS-SSIM of pairs of different images: near 1 where all images are alike.

    Each image is paired with the next of its class, so that it is in at most two pairs.

    Args:
      images: the set; only the images that it keeps are compared.
      classes: K, to pair images of one class; 0 to pair any two images.

    Returns:
      The mean; NaN if there is no pair.
    """
    kept = len(images.images)
    labels = images.classes[:kept] if classes else np.zeros(kept, int)
    order = np.argsort(labels, kind="stable")
    same = labels[order[1:]] == labels[order[:-1]]
    first, second = order[:-1][same], order[1:][same]
    if not len(first):
        return float("nan")
    # Where there are more than MAX_PAIRS, these are spread over all classes.
    chosen = np.linspace(0, len(first) - 1, min(MAX_PAIRS, len(first))).astype(int)
    return float(_mean_ms_ssim(images.images, first[chosen], second[chosen]))


@jax.jit
def _mean_ms_ssim(images, first, second):
    """Mean MS-SSIM of pairs of uint8 images [N, H, W, C] by their indices [P], 50 at a time."""

    def one(pair):
        x, y = (images[index][None].astype(jnp.float32) / 255.0 for index in pair)
        return ssim.ms_ssim(x, y)[0]

    return jnp.mean(jax.lax.map(one, (first, second), batch_size=50))


def make_monitor(
    experiment: Experiment,
    data: batches.Data,
    features: Features,
    batch_size: int,
    count: int,
    classes: int = 0,
) -> Monitor:
    """Makes the scores that are cheap enough for every evaluation of a training.

    Args:
      experiment: of a task that samples.
      data: the evaluation split; its features are summed here, once.
      features: the net.
      batch_size: images at a time.
      count: how many samples are scored each time.
      classes: number of classes of a class-conditional model; else 0.

    Returns:
      The scores, with the names that `monitor_names` gives. A rule of config.collapse can
      use them.

    Raises:
      UserError: the task cannot sample, or there are too few images (gives the least number).
    """
    if experiment.compiled.sample is None:
        raise UserError("config.score.samples: the task has no sample()")
    check_counts({"config.score.samples": count, data.split.title: data.split.size}, features.size)
    extract = make_extractor(features, experiment.mesh)
    images = image_sets.real_images(experiment, data, batch_size, data.split.size)
    real_sums = frechet.add(_sums(extract, images))

    def scores(state):
        samples = image_sets.sampled_images(experiment, state, classes, batch_size, count)
        sums = frechet.add(_sums(extract, samples))
        return {"fid": frechet.fid(sums, real_sums), **_spread(sums, real_sums, features.classes)}

    return Monitor(frozenset(monitor_names(features)), scores)


def training_monitor(
    spec: Mapping,
    section: ConfigDict,
    eval_split: str,
    experiment: Experiment,
    data: batches.Data,
    *,
    group: distributed.Group = distributed.ALONE,
    **rest: int,
) -> Monitor:
    """Makes the scores of a training, with the net that its config names.

    Args:
      spec: `config.score.features`.
      section: `config.data`.
      eval_split: the name of the evaluation split.
      experiment, data, **rest: as for `make_monitor`.
      group: the processes that call this together.

    Raises:
      UserError: as for `make_monitor`, or the net cannot be built.
    """
    features = build_features(spec, section, eval_split, group=group)
    return make_monitor(experiment, data, features, **rest)


def monitor_names(features: Features) -> set[str]:
    """Names of the metrics of a monitor with this net; compiles nothing."""
    names = {"fid", "feature_variance"}
    return names | set(frechet.class_shares(np.ones(2))) if features.classes else names


def _sums(extract: Callable, images: Iterable) -> Iterator[dict]:
    """The sums of each batch of (images, mask)."""
    for batch in images:
        yield jax.device_get(extract(*batch)["sums"])
