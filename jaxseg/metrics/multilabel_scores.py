"""Metrics of classes that may overlap, as sums over pixels and images.

The rule for empty classes is that of `jaxseg.metrics.pixel_scores`.
"""

import jax
import jax.numpy as jnp
import numpy as np

BINS = 256  # of the average precision: equal probabilities, to 1 / 256, are one threshold


def counts(probability: jax.Array, truth, thresholds: tuple[float, ...]) -> dict[str, jax.Array]:
    """Counts hits and mistakes of each class. Exact up to 2^24 pixels in a call.

    Args:
      probability: float [..., H, W, K].
      truth: a `jaxseg.multilabel_losses.Labels` of the same pixels.
      thresholds: the least probability at which a pixel is taken to be of the class, K.

    Returns:
      {"hit", "extra", "missed"}: true positives, false positives and false negatives,
      float32 [K] each; NaN for a class with a label outside the contract.
    """
    axes = tuple(range(probability.ndim - 1))
    least = jnp.expand_dims(jnp.asarray(thresholds, jnp.float32), axes)
    guess = (probability >= least).astype(jnp.float32)
    add = lambda values: jnp.sum(values * truth.valid, axes)
    return {
        "hit": add(guess * truth.target),
        "extra": add(guess * (1.0 - truth.target)),
        "missed": add((1.0 - guess) * truth.target),
    }


def histograms(probability: jax.Array, truth) -> dict[str, jax.Array]:
    """Counts true and false pixels of each class per bin of the probability.

    Args:
      probability: float [B, H, W, K].
      truth: a `jaxseg.multilabel_losses.Labels` of the same pixels.

    Returns:
      {"positive", "negative"}, float32 [K, 256] each.
    """
    classes = probability.shape[-1]
    place = jnp.clip((probability * BINS).astype(jnp.int32), 0, BINS - 1)
    place = place + BINS * jnp.arange(classes, dtype=jnp.int32)[None, None, None]
    count = lambda weights: (
        jnp.zeros(classes * BINS)
        .at[place.ravel()]
        .add((weights * truth.valid).ravel())
        .reshape(classes, BINS)
    )
    return {"positive": count(truth.target), "negative": count(1.0 - truth.target)}


def scores(sums: dict[str, np.ndarray], names: tuple[str, ...] = ()) -> dict[str, float]:
    """Turns counts into scores.

    Args:
      sums: of `counts`, as numpy arrays.
      names: names of the classes; "0", "1", ... unless given.

    Returns:
      mean_dice and mean_iou over classes; micro_dice and micro_iou of the pixels of all
      classes together; and "dice/NAME", "iou/NAME" of each class. NaN for a class that
      neither truth nor prediction holds; it is left out of the means.
    """
    hit, wrong = np.asarray(sums["hit"], np.float64), sums["extra"] + sums["missed"]
    dice, iou = _ratio(2 * hit, 2 * hit + wrong), _ratio(hit, hit + wrong)
    names = names or tuple(map(str, range(len(hit))))
    values = {
        "mean_dice": _mean(dice),
        "mean_iou": _mean(iou),
        "micro_dice": _ratio(2 * hit.sum(), (2 * hit + wrong).sum()),
        "micro_iou": _ratio(hit.sum(), (hit + wrong).sum()),
    }
    values |= {f"dice/{name}": value for name, value in zip(names, dice, strict=True)}
    values |= {f"iou/{name}": value for name, value in zip(names, iou, strict=True)}
    return {name: float(value) for name, value in values.items()}


def average_precision(sums: dict[str, np.ndarray]) -> float:
    """Computes the average precision, the mean over classes that have a true pixel.

    The sum over thresholds of precision times the gain in recall, without interpolation, as
    scikit-learn's `average_precision_score`; exact for probabilities that are rounded down
    to 256 steps.

    Args:
      sums: of `histograms`, as numpy arrays.

    Returns:
      The score in [0, 1]; NaN where no class has a true pixel.
    """
    # From the highest probability down.
    gained = np.asarray(sums["positive"], np.float64)[:, ::-1]
    hit = np.cumsum(gained, 1)
    taken = hit + np.cumsum(np.asarray(sums["negative"], np.float64)[:, ::-1], 1)
    precision = np.nan_to_num(_ratio(hit, taken))
    return _mean(_ratio((precision * gained).sum(1), hit[:, -1]))


def _ratio(part, whole):
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def _mean(values):
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
