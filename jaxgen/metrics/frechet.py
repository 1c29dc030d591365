"""Frechet distance (FID) and other scores from sums over features of images.

A fixed net gives the features and class logits of each image: a classifier of the same
data, or Inception. Only the sums below are kept of a set of images, in float64, so the set
may have any size and come in any batches; two sets are compared by their sums.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

# A class is covered where it has at least this part of the share it has under even spread.
COVERED = 0.25


def feature_sums(features: jax.Array, logits: jax.Array, mask: jax.Array) -> dict:
    """Sums of one batch in float32, for use in a compiled step.

    The scatter is taken around the batch's own mean, as float32 sums of plain products
    would lose a small variance around a large mean. `add` converts it.

    Args:
      features: [B, F].
      logits: [B, K].
      mask: bool [B], False on rows that only pad the batch.

    Returns:
      count; mean [F]; scatter [F, F]; classes [K], the number of images that each class is
      the most likely class of. An image with logits that are not finite has no class.
    """
    rows = mask.astype(jnp.float32)[:, None]
    features = jnp.where(mask[:, None], features.astype(jnp.float32), 0.0)
    count = jnp.sum(rows)
    mean = jnp.sum(features, axis=0) / jnp.maximum(count, 1.0)
    centred = (features - mean[None]) * rows
    valid = (mask & jnp.all(jnp.isfinite(logits), axis=-1)).astype(jnp.float32)
    one_hot = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1]) * valid[:, None]
    return {
        "count": count,
        "mean": mean,
        "scatter": jnp.dot(centred.T, centred, precision="highest"),
        "classes": jnp.sum(one_hot, axis=0),
    }


def add(parts: Iterable[dict]) -> dict[str, np.ndarray]:
    """Adds the sums of batches, in float64 on the host.

    Args:
      parts: the results of `feature_sums`, batch by batch.

    Returns:
      count; sum [F] and outer [F, F], the sums of the features and of their products; and
      classes [K].

    Raises:
      ValueError: there are no parts.
    """
    total = None
    for part in parts:
        wide = {name: np.asarray(value, np.float64) for name, value in part.items()}
        count, mean = wide["count"], wide["mean"]
        sums = {
            "count": count,
            "sum": count * mean,
            "outer": wide["scatter"] + count * np.outer(mean, mean),
            "classes": wide["classes"],
        }
        if total is None:
            total = sums
        else:  # in place: `outer` has 32 MiB for Inception's features
            for name, value in sums.items():
                total[name] += value
    if total is None:
        raise ValueError("there are no images to add up")
    return total


def gaussian(sums: dict) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased covariance of the features.

    Args:
      sums: see `add`.

    Returns:
      [F] and [F, F], float64.

    Raises:
      ValueError: fewer than two images.
    """
    count = float(sums["count"])
    if count < 2:
        raise ValueError(f"a covariance needs at least 2 images; there are {count:.0f}")
    mean = np.asarray(sums["sum"], np.float64) / count
    covariance = (np.asarray(sums["outer"], np.float64) - count * np.outer(mean, mean)) / (
        count - 1.0
    )
    return mean, covariance


def frechet_distance(
    mean_1: np.ndarray, covariance_1: np.ndarray, mean_2: np.ndarray, covariance_2: np.ndarray
) -> float:
    """Frechet distance between two Gaussians (Dowson and Landau 1982).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2), in float64. The last trace is
    the sum of the singular values of S1^1/2 S2^1/2. Only symmetric matrices have their
    root taken, so there are no complex numbers at any rank.

    Args:
      mean_1: [F].
      covariance_1: [F, F], positive semi-definite up to rounding.
      mean_2: [F].
      covariance_2: [F, F], likewise.

    Returns:
      The distance, at least 0; NaN where an argument is not finite.
    """
    means = [np.atleast_1d(np.asarray(mean, np.float64)) for mean in (mean_1, mean_2)]
    covariances = [np.atleast_2d(np.asarray(s, np.float64)) for s in (covariance_1, covariance_2)]
    if not all(np.isfinite(array).all() for array in (*means, *covariances)):
        return float("nan")
    first, second = (_root(covariance) for covariance in covariances)
    cross = np.linalg.svd(first @ second, compute_uv=False).sum()
    between = np.sum((means[0] - means[1]) ** 2)
    return max(0.0, float(between + sum(np.trace(s) for s in covariances) - 2.0 * cross))


def _root(covariance):
    """The symmetric square root; eigenvalues that are rounding errors count as zero."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    floor = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return (vectors * np.sqrt(np.where(values > floor, values, 0.0))) @ vectors.T


def fid(sums: dict, reference: dict) -> float:
    """Frechet distance between two sets of features (FID, Heusel et al. 2017).

    Biased upwards, and more so with fewer images on either side. Two values compare only
    where both numbers of images and the net are the same.

    Args:
      sums: of the generated images, see `add`.
      reference: of the real images.

    Returns:
      The distance; NaN where a feature is not finite.
    """
    return frechet_distance(*gaussian(sums), *gaussian(reference))


def least_images(size: int) -> int:
    """Number of images that a covariance of `size` features needs to have full rank."""
    return size + 1


def feature_variance(sums: dict, reference: dict) -> float:
    """Total variance of the features over that of the reference: 1 for equal variety.

    It falls to 0 as a generator collapses, and so tells why a distance is large.

    Args:
      sums: of the generated images, see `add`.
      reference: of the real images.

    Returns:
      The ratio; NaN where the reference does not vary.
    """
    generated, real = (float(np.trace(gaussian(s)[1])) for s in (sums, reference))
    return generated / real if real > 0 else float("nan")


def class_shares(counts: np.ndarray) -> dict[str, float]:
    """Measures how images are distributed over classes.

    Args:
      counts: [K], images of each class.

    Returns:
      class_coverage, the share of the K classes that hold at least 1/(4 K) of the
      images; least_class_share and most_class_share of all images. NaN without images.
    """
    counts = np.asarray(counts, np.float64)
    total = counts.sum()
    shares = counts / total if total > 0 else np.full(counts.shape, np.nan)
    covered = np.mean(shares >= COVERED / len(shares)) if total > 0 else np.nan
    return {
        "class_coverage": float(covered),
        "least_class_share": float(shares.min()),
        "most_class_share": float(shares.max()),
    }
