"""The class shares by which probabilities are corrected: given, or estimated by EM."""

import logging

import jax
import numpy as np

from jaxseg.bayes.prior_shift import estimate_prior
from launch.config.errors import UserError
from launch.engine.trained_runs import Restored

logger = logging.getLogger("segen")

# The prior is estimated from every 4th row and column, or fewer: about 4096 pixels an image.
STRIDE, PIXELS = 4, 4096


def of_training(members: list[Restored]) -> np.ndarray:
    """Returns the class shares of training, [K]; of several runs, their mean.

    Args:
      members: the runs.

    Raises:
      UserError: a state has no class frequencies.
    """
    shares = []
    for one in members:
        frequencies = getattr(one.state, "class_frequencies", None)
        if frequencies is None:
            raise UserError(
                f"--prior: the state of {one.config.task.name} has no class_frequencies"
            )
        shares.append(np.asarray(frequencies) / max(float(np.sum(frequencies)), 1e-12))
    return shares[0] if len(shares) == 1 else np.mean(shares, 0)


def given(text: str, classes: int) -> np.ndarray:
    """Reads shares such as "0.5,0.3,0.2".

    Args:
      text: the value of --prior.
      classes: K.

    Returns:
      The shares [K], scaled to the sum 1.

    Raises:
      UserError: the text has another form.
    """
    try:
        shares = np.array([float(part) for part in text.split(",")])
    except ValueError:
        shares = np.zeros(0)
    if len(shares) != classes or (shares < 0).any() or not 0 < shares.sum() < np.inf:
        raise UserError(f'--prior={text}: give {classes} shares, as "0.5,0.3,0.2", or "estimate"')
    return shares / shares.sum()


def estimate(segmenter, items: list, old: np.ndarray) -> np.ndarray:
    """Estimates the class shares of images by EM (Saerens et al. 2002), and says them.

    Args:
      segmenter: reads files and gives strips of probabilities.
      items: the files of each image.
      old: the shares of training, [K].

    Returns:
      Shares [K].

    Raises:
      UserError: no image can be read, or all are too small.
    """
    new = np.asarray(jax.jit(estimate_prior)(sample(segmenter, items, len(old)), old))
    shares = (f"{name} {share:.3f}" for name, share in zip(segmenter.names, new, strict=True))
    logger.info("estimated class shares: " + ", ".join(shares))
    return new


def sample(segmenter, items: list, classes: int) -> np.ndarray:
    """Predicts some pixels of every image that can be read.

    Args:
      segmenter: as of `estimate`.
      items: the files of each image.
      classes: K.

    Returns:
      Class probabilities [N, K].

    Raises:
      UserError: no image can be read, or all are too small.
    """
    found = []
    for files in items:
        try:
            examples = segmenter.read(files)
            size = examples[0]["image"][..., 0].size
            stride = max(STRIDE, round(np.sqrt(size / PIXELS)))
            inner = slice(stride // 2, None, stride)
            for part in segmenter.posterior(examples):
                found.append(part["probability"][inner, inner].reshape(-1, classes))
        except ValueError as error:
            logger.info(f"left out of the estimate: {error}")
    if not found:
        raise UserError("--prior=estimate: no image could be read")
    pixels = np.concatenate(found)
    if not len(pixels):
        raise UserError("--prior=estimate: the images are too small for an estimate")
    return pixels
