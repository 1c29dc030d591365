"""Scores of images that are made from label maps: does a segmenter find the maps in them?"""

from pathlib import Path

import jax
import numpy as np

from launch.config.errors import UserError
from launch.engine import compiled_steps, sharding
from launch.engine.trained_runs import Restored
from launch.scoring.features import weights_hash
from launch.scoring.image_sets import completed_images


def segmenter_metrics(
    restored: Restored, segmenter: Restored, batch_size: int, count: int
) -> dict[str, float]:
    """Exact metrics of a segmenter on completed images, and on the real images.

    Args:
      restored: a run whose task makes images from `segmentation`.
      segmenter: a run whose task labels images of this size.
      batch_size: images at a time.
      count: how many examples of the split are used.

    Returns:
      segmenter/NAME on the completed images and segmenter/real/NAME on the real ones, for
      each metric of the segmenter, such as mean_iou.
    """
    parts = {"segmenter": [], "segmenter/real": []}
    compiled = segmenter.experiment.compiled
    completed = completed_images(
        restored.experiment, restored.state, restored.data, batch_size, count
    )
    for images, batch in completed:
        batch = {key: batch[key] for key in (*segmenter.experiment.example, "index", "mask")}
        images = sharding.own_rows(jax.device_get(images), restored.experiment.mesh)
        levels = np.round(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)
        for name, image in (("segmenter", levels), ("segmenter/real", batch["image"])):
            rows = compiled.put_batch(batch | {"image": image})
            parts[name].append(jax.device_get(compiled.eval_step(segmenter.state, rows)))
    results = {}
    for name, sums in parts.items():
        metrics = segmenter.experiment.task.finish(compiled_steps.total(sums))
        results |= {f"{name}/{key}": float(value) for key, value in metrics.items()}
    return results


def segmenter_card(segmenter: Restored, workdir: Path, count: int) -> dict:
    """What the scores must report about the segmenter.

    Args:
      segmenter: the run.
      workdir: its folder.
      count: how many images it labelled.
    """
    weights = weights_hash(getattr(segmenter.state, "params", segmenter.state))
    card = {"workdir": str(workdir), "step": segmenter.step, "weights": weights}
    return card | {"images": count}


def check_segmenter(restored: Restored, segmenter: Restored, workdir: Path) -> None:
    """Refuses a segmenter of other images or other classes than those of the label maps.

    Args:
      restored: the run whose images are to be labelled.
      segmenter: the run that is to label them.
      workdir: folder of the segmenter, for messages.

    Raises:
      UserError: it cannot label the images; says why.
    """
    if segmenter.experiment.compiled.predict is None:
        raise UserError(
            f"--segmenter: {workdir}: {segmenter.config.task.name} does not label images"
        )
    example, title = restored.experiment.example, restored.data.split.title
    for key, leaf in segmenter.experiment.example.items():
        if key not in example or example[key].shape != leaf.shape:
            shape = list(example[key].shape) if key in example else "none"
            raise UserError(
                f"--segmenter: {workdir} was trained on `{key}` {list(leaf.shape)}; {title} has "
                f"{shape}"
            )
    known, needed = segmenter.data.split.classes, restored.data.split.classes
    if known and needed and known != needed:
        raise UserError(
            f"--segmenter: {workdir} knows the classes {', '.join(known)}; the masks have "
            f"{', '.join(needed)}"
        )
