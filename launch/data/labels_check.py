"""Refuses a split of masks without a label."""

import numpy as np

from launch.config.errors import UserError
from launch.data.sources import Split


def check_labels(split: Split, arrays: dict[str, np.ndarray] | None, void: int) -> None:
    """Refuses a split of masks whose every pixel is void; reads masks until one has a class.

    Args:
      split: the split; examples without `segmentation` are not checked.
      arrays: {key: [size, ...]}, its examples in memory; None where they stream.
      void: the id of pixels that neither train nor score.

    Raises:
      UserError: nothing could be learned from the split, nor measured on it.
    """
    rows = range(split.size)
    masks = (split[row] for row in rows) if arrays is None else None
    if arrays is not None and "segmentation" not in arrays:
        return
    if masks is None:
        masks = ({"segmentation": arrays["segmentation"][row]} for row in rows)
    if all((one["segmentation"] == void).all() for one in masks):
        raise UserError(
            f"{split.title}: every pixel of all {split.size:,} masks is void (id {void}). Check "
            "the masks, and which id means void"
        )
