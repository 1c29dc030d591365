"""Sets of images measured by a net's features, and scored against each other.

Images come in batches and only what scores need of them is kept. All are rounded to 256
levels first, as the real ones are and as a file would hold them.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.metrics import frechet, kernel_distance, neighbours, ssim
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments, sharding, trained_runs
from launch.scoring.features import Features

logger = logging.getLogger("segen")

KEPT = 2000  # images of a set that are kept themselves, for pairs and figures
PAIRS = 1000  # pairs of images that MS-SSIM compares
EVERY = 10.0  # seconds between lines of progress


class Measured(NamedTuple):
    """What scores need of a set of images.

    Attributes:
      sums: of the features, as `jaxgen.metrics.frechet.add` gives them.
      features: float32 [N, F].
      classes: int [N], the likeliest of each.
      images: uint8 [at most KEPT, H, W, C], the first.
    """

    sums: dict
    features: np.ndarray
    classes: np.ndarray
    images: np.ndarray


def extractor(features: Features, mesh: jax.sharding.Mesh) -> Callable:
    """Compiles (images [B, H, W, C], mask [B]) -> {name: array}.

    Images are uint8, or float in [0, 1], and B a multiple of the number of devices.
    Gives `sums` of the batch, and by image `features`, `classes`, `mask` and `images`.
    """
    rows, copies = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    params = jax.device_put(features.params, copies)

    @partial(jax.jit, out_shardings=copies)
    def extract(params, images, mask):
        images = jax.lax.with_sharding_constraint(levels(images), rows)
        found, logits = features.apply(params, images)
        return {
            "sums": frechet.feature_sums(found, logits, mask),
            "features": found,
            "classes": jnp.argmax(logits, axis=-1),
            "mask": mask,
            # Rounded: a device may divide to a little less than the level.
            "images": jnp.round(jnp.nan_to_num(images * 255.0)).astype(jnp.uint8),
        }

    return partial(extract, params)


def levels(images: jax.Array) -> jax.Array:
    """Images uint8, or float in [0, 1], as floats of the 256 levels k / 255."""
    if images.dtype != np.uint8:
        images = jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0)
    return images.astype(jnp.float32) / 255.0


def real(
    experiment: experiments.Experiment, data: batches.Data, batch_size: int, count: int
) -> Iterator[tuple]:
    """The first `count` images of a split: (images, mask), batch by batch."""
    for batch in batches.eval_batches(data, rounded(experiment, batch_size)):
        if batch["index"][0] >= count:
            return
        put = {"image": batch["image"], "mask": batch["mask"] & (batch["index"] < count)}
        put = experiment.compiled.put_batch(put)
        yield put["image"], put["mask"]


def sampled(
    experiment: experiments.Experiment, state: Any, classes: int, batch_size: int, count: int
) -> Iterator:
    """The images of seeds 0 to `count` - 1, classes by turns, as launch.sample draws them."""
    size = rounded(experiment, batch_size)
    for start in range(0, count, size):
        index = np.arange(start, start + size, dtype=np.int32)
        seeds = {"index": index, "label": index % max(classes, 1), "mask": index < count}
        put = experiment.compiled.put_batch(seeds)
        mask = put.pop("mask")
        yield experiment.compiled.sample(state, put), mask


def completed(
    restored: trained_runs.Restored, batch_size: int, count: int
) -> Iterator[tuple[jax.Array, dict[str, np.ndarray]]]:
    """What the task makes of the first `count` examples: images, and their batch."""
    task, program = restored.experiment.task, restored.experiment.compiled
    for batch in batches.eval_batches(restored.data, rounded(restored.experiment, batch_size)):
        if batch["index"][0] >= count:
            return
        batch["mask"] = batch["mask"] & (batch["index"] < count)
        label = batch.get("label", np.zeros_like(batch["index"]))
        given = {task.given: batch[task.given], "index": batch["index"], "label": label}
        yield program.complete(restored.state, program.put_batch(given)), batch


def rounded(experiment: experiments.Experiment, batch_size: int) -> int:
    """A batch size that the devices share evenly."""
    return -(-batch_size // experiment.mesh.size) * experiment.mesh.size


def measure(extract: Callable, images: Iterable, count: int, what: str = "") -> Measured:
    """Measures (images, mask), batch by batch.

    Args:
      extract: of `extractor`.
      images: what `real` or `sampled` yield.
      count: how many images there will be, for progress.
      what: the images, for a line of progress every ten seconds; "" for none.
    """
    columns = {"features": [], "classes": [], "images": []}
    progress = _progress(what, count)

    def parts():
        for batch, mask in images:
            found = extract(batch, mask)
            if sum(map(len, columns["images"])) >= KEPT:
                del found["images"]
            found = jax.device_get(found)
            for name in columns.keys() & found.keys():
                columns[name].append(found[name][found["mask"]])
            progress(int(found["mask"].sum()))
            yield found["sums"]

    sums = frechet.add(parts())
    joined = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    return Measured(sums, joined["features"], joined["classes"], joined["images"][:KEPT])


def _progress(what: str, count: int) -> Callable:
    """(images done more) -> None, which says now and then how far it is."""
    done, said = 0, time.monotonic()

    def progress(more):
        nonlocal done, said
        done += more
        if what and time.monotonic() - said > EVERY:
            said = time.monotonic()
            logger.info(f"{what}: {done:,} of {count:,}")

    return progress


def check_counts(counts: dict[str, int], size: int = 1) -> None:
    """Refuses sets of images that are too small to be scored.

    Args:
      counts: how many images there are, by what they are called in the message.
      size: number of the features that will be compared; 1 while it is not known.

    Raises:
      UserError: names the least number.
    """
    needs = {
        f"FID in {size} features": frechet.least_images(size),
        f"KID in {kernel_distance.BLOCKS} blocks": kernel_distance.least_images(),
        f"the {neighbours.K}-th neighbour": neighbours.least_images(),
    }
    metric = max(needs, key=needs.get)
    for what, count in counts.items():
        if count < needs[metric]:
            raise UserError(
                f"{what}: {metric} needs at least {needs[metric]:,} images; there are {count:,}"
            )


def compare(
    features: Features, reference: Measured, found: Measured, seed: int = 0
) -> dict[str, float]:
    """All scores of a set of images against the real ones.

    Returns:
      fid, kid, kid_standard_error, precision, recall, density, coverage,
      feature_variance and ms_ssim; with the classes of the data class_coverage,
      least_class_share and most_class_share.
    """
    kid = kernel_distance.kernel_distance(reference.features, found.features, seed)
    return {
        "fid": frechet.fid(found.sums, reference.sums),
        "kid": kid.value,
        "kid_standard_error": kid.standard_error,
        **neighbours.precision_recall(reference.features, found.features),
        "ms_ssim": diversity(found, features.classes),
        **_spread(features, reference.sums, found.sums),
    }


def _spread(features, reference, sums):
    """Sums that show a collapse."""
    shares = frechet.class_shares(sums["classes"]) if features.classes else {}
    return {"feature_variance": frechet.feature_variance(sums, reference)} | shares


def diversity(found: Measured, classes: int) -> float:
    """Mean MS-SSIM of pairs of different images, of one class where there are any.

    Each image is paired with the next of its class, so that it is in two pairs at most.
    """
    named = found.classes[: len(found.images)] if classes else np.zeros(len(found.images), int)
    order = np.argsort(named, kind="stable")
    alike = named[order[1:]] == named[order[:-1]]
    first, second = order[:-1][alike], order[1:][alike]
    if not len(first):
        return float("nan")
    # Spread over all classes, where there are more pairs than are wanted.
    chosen = np.linspace(0, len(first) - 1, min(PAIRS, len(first))).astype(int)
    return float(_alike(found.images, first[chosen], second[chosen]))


@jax.jit
def _alike(images, first, second):
    """Mean MS-SSIM of pairs of uint8 images by their places, fifty at a time."""

    def one(pair):
        x, y = (images[place][None].astype(jnp.float32) / 255.0 for place in pair)
        return ssim.ms_ssim(x, y)[0]

    return jnp.mean(jax.lax.map(one, (first, second), batch_size=50))


def monitor(
    experiment: experiments.Experiment,
    data: batches.Data,
    features: Features,
    batch_size: int,
    count: int,
    classes: int,
) -> Callable[[Any], dict[str, float]]:
    """Scores cheap enough for every evaluation of a training, by sums alone.

    Args:
      experiment: the assembled run.
      data: the evaluation split; its sums are taken here, once.
      features: whose features are compared.
      batch_size: images at a time.
      count: how many samples are scored.
      classes: of a class-conditional model; 0 for none.

    Returns:
      (state) -> the metrics that `monitored` names: what config.collapse.rule can ask for.

    Raises:
      UserError: the task cannot sample, or the counts are too small; names the least.
    """
    if experiment.compiled.sample is None:
        raise UserError("config.score.samples: the task has no sample()")
    check_counts({"config.score.samples": count, data.split.title: data.split.size}, features.size)
    extract = extractor(features, experiment.mesh)
    total = lambda images: frechet.add(jax.device_get(extract(*batch)["sums"]) for batch in images)
    reference = total(real(experiment, data, batch_size, data.split.size))

    def score(state):
        sums = total(sampled(experiment, state, classes, batch_size, count))
        return {"fid": frechet.fid(sums, reference), **_spread(features, reference, sums)}

    return score


def monitored(features: Features) -> set[str]:
    """Names of the metrics that a monitor gives."""
    names = {"fid", "feature_variance"}
    return names | set(frechet.class_shares(np.ones(2))) if features.classes else names
