"""What a prediction is, and what a command asks of it."""

from typing import NamedTuple

import numpy as np

from launch.config import by_name


class Settings(NamedTuple):
    """What the flags of the command ask for, beside the config's section `predict`.

    Attributes:
      threshold: the least probability of a class, or of an object's pixel; None for that of
        the task.
      crf: whether to refine by a fully connected CRF.
      min_size: regions or objects of fewer pixels are removed; 0 for none.
      fill_holes: the classes whose holes are filled.
      maps: whether the probabilities of a whole image are kept.
    """

    threshold: float | None = None
    crf: bool = False
    min_size: int = 0
    fill_holes: tuple[int, ...] = ()
    maps: bool = False


class Prediction(NamedTuple):
    """The prediction for one image.

    Attributes:
      labels: uint8 [H, W], the class of each pixel; or bool [H, W, K], whether it is of each
        class; or int32 [H, W], the number of its object, 0 for none.
      entropy: of the class probabilities, in nats: the mean over the pixels. None where
        classes do not exclude each other.
      uncertainty: {name: float [H, W]}, for nets that are averaged.
      maps: float32 [H, W, N], the probabilities that decided; None where they are not kept.
    """

    labels: np.ndarray
    entropy: float | None = None
    uncertainty: dict[str, np.ndarray] = {}
    maps: np.ndarray | None = None


def cleaning(settings: Settings) -> list[dict]:
    """Lists the post-processing that flags ask for, in the form of the config.

    Args:
      settings: its `min_size` and `fill_holes` are used.

    Returns:
      Entries for `config.predict.postprocess`.
    """
    steps, module = [], "jaxseg.inference.postprocess"
    if settings.min_size > 0:
        steps.append({"name": f"{module}:remove_small", "min_size": settings.min_size})
    if settings.fill_holes:
        steps.append({"name": f"{module}:fill_holes", "classes": settings.fill_holes})
    return steps


def functions(specs: list, where: str) -> list:
    """The functions that a list in the config names, with their arguments.

    Args:
      specs: {"name": ..., **arguments} of each.
      where: the key of the config, for messages.
    """
    return [by_name.partial(spec, f"{where}[{number}]") for number, spec in enumerate(specs)]
