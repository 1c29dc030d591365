"""`launch.data.builtin.discs:discs`: generated pictures of discs that touch, each with a number.

As seen by a microscope: all discs of a picture are about equally bright, a little darker at
their rims, blurred and noisy. Most of them touch another one, so that the foreground alone
does not tell them apart. Drawn from fixed seeds.
"""

import numpy as np
from scipy import ndimage

from launch.data.builtin.drawing import SIDE, X, Y
from launch.data.folders.borders import border_weights

SIZES = {"train": 800, "val": 100, "test": 200}
OVERLAP = 1.5  # pixels that two discs may have in common, along the line of their centres
TRIES = 40  # places that are tried for a disc


def discs(split: str, weights: bool = False) -> dict[str, np.ndarray]:
    """Draws a split.

    Args:
      split: "train" (800 pictures), "val" (100) or "test" (200).
      weights: whether to add the weights of the U-Net paper (`border_weights`).

    Returns:
      image uint8 [N, 64, 64, 1]; instances uint16 [N, 64, 64, 1], 0 for background; and with
      `weights` weight float32 [N, 64, 64, 1].

    Raises:
      ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"discs has no split {split!r}; it has {', '.join(SIZES)}")
    drawn = [picture(split, number) for number in range(SIZES[split])]
    images, numbers = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
    arrays = {"image": images[..., None], "instances": numbers[..., None]}
    if weights:
        arrays["weight"] = np.stack([border_weights(one) for one in numbers])[..., None]
    return arrays


def picture(split: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one picture.

    Args:
      split: "train", "val" or "test".
      number: from 0; split and number decide everything.

    Returns:
      image uint8 [64, 64]; numbers uint16 [64, 64], 1, 2, ... for the discs.
    """
    rng = np.random.default_rng([list(SIZES).index(split), number])
    placed = _places(rng, rng.integers(6, 15))
    # Relative to the radius, so that the border of two discs runs where they touch.
    depth = np.stack([1 - np.hypot(Y - y, X - x) / radius for y, x, radius in placed])
    nearest = depth.argmax(0)
    inside = depth.max(0) > 0
    ground, light = rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.6)
    brightness = light * rng.uniform(0.9, 1.1, len(placed))
    dome = 0.8 + 0.2 * np.sqrt(np.clip(depth.max(0), 0, 1))
    image = ground + np.where(inside, brightness[nearest] * dome, 0)
    image = ndimage.gaussian_filter(image, rng.uniform(0.6, 1.1))
    image = image + rng.normal(0, rng.uniform(0.02, 0.04), image.shape)
    levels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return levels, np.where(inside, nearest + 1, 0).astype(np.uint16)


def _places(rng, count):
    """Centres and radii (y, x, radius) of up to `count` discs, three of four beside another."""
    placed = [(*rng.uniform(16, SIDE - 16, 2), rng.uniform(5, 10))]
    for _ in range(count - 1):
        beside, radius = rng.random() < 0.75, rng.uniform(4, 10)
        for _ in range(TRIES):
            y, x = rng.uniform(0, SIDE, 2)
            if beside:
                other, angle = placed[rng.integers(len(placed))], rng.uniform(0, 2 * np.pi)
                gap = other[2] + radius - rng.uniform(0, OVERLAP)
                y, x = other[0] + gap * np.sin(angle), other[1] + gap * np.cos(angle)
            free = all(np.hypot(y - v, x - u) >= radius + r - OVERLAP for v, u, r in placed)
            if free and min(y, x) >= 3 and max(y, x) <= SIDE - 4:
                placed.append((y, x, radius))
                break
    return placed
