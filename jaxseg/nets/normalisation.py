"""The input of a net, brought to mean 0 and standard deviation 1 in each channel."""

from typing import Any

import jax
import jax.numpy as jnp


def normalise(
    x: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], own: bool
) -> jax.Array:
    """Subtracts a mean and divides by a standard deviation, channel by channel.

    Args:
      x: float [B, H, W, C], the image in [-1, 1].
      mean: of the channels of an image in [0, 1].
      std: their standard deviations.
      own: whether these are the statistics of this image's channels: then channels beyond them
        stay as they are. Otherwise channel i takes number i modulo their number, a single
        channel the mean of all.

    Returns:
      [B, H, W, C] of the same dtype.
    """
    count = x.shape[-1]
    if own:
        beyond = count - len(mean)  # (x + 1) / 2 has mean 0.5 and deviation 0.5 of x
        mean, std = (*mean, *(0.5,) * beyond), (*std, *(0.5,) * beyond)
    elif count == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    else:
        mean, std = ([v[i % len(v)] for i in range(count)] for v in (mean, std))
    mean, std = (jnp.asarray(v, x.dtype).reshape(1, 1, 1, -1) for v in (mean, std))
    return ((x + 1.0) / 2.0 - mean) / std


def check_statistics(net: Any, channels: int) -> None:
    """Checks the attributes `mean` and `std` of a net.

    Args:
      net: it has both, as tuples.
      channels: of its input.

    Raises:
      ValueError: they differ in length, are longer than the input has channels, or a deviation is
        not above 0.
    """
    name = type(net).__name__
    if len(net.mean) != len(net.std):
        raise ValueError(
            f"{name}: mean and std must be as long as one another, got {net.mean} and {net.std}"
        )
    if len(net.mean) > channels:
        raise ValueError(
            f"{name}: mean has {len(net.mean)} numbers, but the input has {channels} channels"
        )
    if min(net.std, default=1.0) <= 0.0:
        raise ValueError(f"{name}: std must be above 0, got {net.std}")
