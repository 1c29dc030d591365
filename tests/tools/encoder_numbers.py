"""Random numbers for nets, the same with and without PyTorch; imports numpy alone.

`RandomState` gives the same numbers in every version of numpy.
"""

import math
import re
import zlib

import numpy as np


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Numbers for all tensors of a net, such that an error in any of them shows.

    Matrices and kernels keep the size of activations; scales of norms, layer scales and running
    statistics are far from their defaults of 1 and 0.

    Args:
      shapes: {name in PyTorch: shape}.
    """
    return {name: _numbers(name, tuple(shape)) for name, shape in shapes.items()}


def sizes(net: str) -> tuple[tuple[int, int], ...]:
    """Sizes of images, odd and even at every stage, so that wrong padding shows.

    Args:
      net: its name; "small_..." has one size, whose maps fit into a golden file.
    """
    if net.startswith("small_mit"):
        return ((49, 66),)  # smaller maps have one key, so that attention has no choice
    return ((33, 48),) if net.startswith("small_") else ((97, 131), (98, 128))


def image(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Random pixels float32 [1, H, W, C], as large as those of normalised images."""
    return np.random.RandomState(1).randn(1, height, width, channels).astype(np.float32)


def _numbers(name, shape):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if re.search(r"(bias|running_mean)$", name):
        return (0.1 * random.randn(*shape)).astype(np.float32)
    # Of other ranks are scales of norms and layers, tokens, position embeddings.
    scale = math.sqrt(2.0 / math.prod(shape[1:])) if len(shape) in (2, 4) else 1.0
    return (scale * random.randn(*shape)).astype(np.float32)
