"""Refuses, or says, where a model's number of grey levels does not suit the images."""

import logging
from collections.abc import Mapping

import numpy as np

from launch.config.errors import UserError
from launch.data.sources import Split

logger = logging.getLogger("segen")

FLOW = "jaxgen.flow:flow"
# Likelihoods of black and white pixels, drawn with the grey level as probability, and what takes
# grey levels in their place.
BINARY = {
    "jaxgen.likelihoods:bernoulli": "jaxgen.likelihoods:discretized_logistic",
    "jaxgen.likelihoods:binary": "jaxgen.likelihoods:logistic_mixture",
}
DEFAULTS = {  # of tasks whose config names no likelihood
    "jaxgen.vae:vae": "jaxgen.likelihoods:bernoulli",
    "jaxgen.hierarchy:hierarchical_vae": "jaxgen.likelihoods:bernoulli",
    "jaxgen.autoregressive:pixel_rnn": "jaxgen.likelihoods:binary",
}
OF_256 = (
    *(f"jaxgen.likelihoods:{name}" for name in ("discretized_logistic", "gaussian")),
    *("jaxgen.likelihoods:logistic_mixture", "jaxgen.flows:density"),
)
MOST, STREAMED = 500, 50  # images that are looked at, in memory and of a split that streams
FEW_VALUES = 2048  # of all images; fewer values show too few levels by chance
# The largest mean of 4 p (1 - p), p the grey level as a probability: 0 for black and white, 1 for
# the middle. MNIST has 0.07, the 8 x 8 digits 0.28, the photographs of BSDS500 0.77.
MOST_UNCERTAIN = 0.5


def levels_of(task: Mapping) -> tuple[int, str, str]:
    """How many levels a task gives the values of an image.

    Args:
      task: `config.task`.

    Returns:
      The number, 0 where it is not known or there are none; the key that says so; and for 2
      levels, the flag that gives 256.
    """
    name, likelihood = task.get("name", ""), task.get("likelihood") or {}
    if task.get("codec"):
        return 0, "", ""
    if name == FLOW and task.get("levels"):
        return task["levels"], f"config.task.levels={task['levels']}", "--config.task.levels=256"
    # A likelihood that is no mapping is refused where the task is made.
    named = likelihood.get("name") if hasattr(likelihood, "get") else ""
    named = named or DEFAULTS.get(name, "")
    key = f"config.task.likelihood.name={named}"
    if named in BINARY:
        return 2, key, f"--config.task.likelihood.name={BINARY[named]}"
    return 256 if named in OF_256 else 0, key, ""


def check_levels(task: Mapping, split: Split, arrays: dict[str, np.ndarray] | None) -> None:
    """Refuses images that a model of black and white pixels would turn into noise.

    Says where a model of 256 levels sees images of far fewer, and where colours are drawn.

    Args:
      task: `config.task`.
      split: the split, of which some images are looked at.
      arrays: {key: [size, ...]}, its examples in memory; None where they stream.

    Raises:
      UserError: two levels, and images that are mostly grey; says which flag helps.
    """
    levels, key, other = levels_of(task)
    if not levels:
        return
    counts, coloured = _look(_images(split, arrays))
    total, found = int(counts.sum()), int(np.count_nonzero(counts))
    if levels == 256 and total >= FEW_VALUES and found < 128:
        logger.warning(
            f"{split.title}: the images have {found} of the 256 levels of {key}. A model can learn "
            "which, so its bits per dimension do not compare with those of other images"
        )
    if levels > 2 or not total:
        return
    p = np.arange(256) / 255.0
    uncertain = float(counts @ (4.0 * p * (1.0 - p))) / total
    if uncertain > MOST_UNCERTAIN:
        raise UserError(
            f"{split.title}: {key} draws each value as black or white, its grey level being the "
            f"probability. These images are mostly grey and would become noise (the mean of "
            f"4 p (1 - p) is {uncertain:.2f}; {MOST_UNCERTAIN:g} at most). Give {other}"
        )
    if coloured:
        logger.warning(
            f"{split.title}: {key} draws each channel of a colour as black or white by itself, so "
            "few colours are left"
        )


def _images(split, arrays):
    """Yields some images of a split, uint8 [H, W, C], spread over it."""
    count = min(split.size, STREAMED if arrays is None else MOST)
    for row in np.linspace(0, split.size - 1, count).astype(int):
        one = split[int(row)] if arrays is None else {k: arrays[k][row] for k in arrays}
        if "image" in one and one["image"].dtype == np.uint8 and one["image"].ndim == 3:
            yield one["image"]


def _look(images):
    """How often each level occurs, int [256], and whether a pixel's channels differ anywhere."""
    counts, coloured = np.zeros(256, int), False
    for image in images:
        counts += np.bincount(image.ravel(), minlength=256)
        coloured |= bool((image != image[..., :1]).any())
    return counts, coloured
