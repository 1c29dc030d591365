"""What lowers the memory that a step needs: the words for a step that does not fit."""

from typing import Any

import numpy as np

LESS = (
    "Less is needed with a smaller batch (--batch_size, or config.data.batch_size and "
    "config.eval.batch_size of a training), smaller images or windows, a smaller net, or "
    "config.data.resident=False"
)
# Last parts of the keys of nets and data whose size decides the memory of a step.
SIZES = ("size", "limit", "crop", "widths", "width", "hidden", "features", "channels")


def advise(values: dict[str, Any], accumulates: bool) -> str:
    """Says which keys lower the memory of a training step.

    Args:
      values: {dotted key: value} of a whole config.
      accumulates: whether the task can be trained by micro-batches.

    Returns:
      A sentence.
    """
    batch, parts = values["data.batch_size"], []
    if batch > 1:
        parts.append(f"a smaller config.data.batch_size ({batch})")
        if accumulates and values["train.accumulate"] < batch:
            parts.append(f"a larger config.train.accumulate ({values['train.accumulate']})")
    for key, value in values.items():
        sections, _, last = key.rpartition(".")
        if sections.startswith(("model", "data.kwargs", "data.preprocess")) and value:
            if last == "limit" and np.any(values.get(f"{sections}.size", 0)):
                continue  # of the sizes that files have, where no size is given
            if last in SIZES:
                parts.append(f"a smaller config.{key} ({value})")
            elif last == "glimpses":
                parts.append(f"fewer config.{key} ({value})")
    parts += ["config.data.resident=False"] if values["data.resident"] else []
    more = {"nothing": "blocks", "blocks": "all"}.get(values["train.remat"])
    if more and values["parallel"] == "jit":
        parts.append(f"config.train.remat={more}")
    return "Less is needed with " + ", or with ".join(parts or ["a smaller net"])
