"""`launch.data.builtin.overlaps:overlaps`: generated scenes of shapes that shine through.

A pixel may lie in several shapes at once, and belongs to the classes of all of them. Each
shape adds light to the picture or takes some away, so none hides another. As in `scenes/rgb`,
a class is told by its outline and its pattern; every class occurs in every colour. Drawn from
fixed seeds.
"""

import dataclasses

import numpy as np

from launch.data.builtin import drawing
from launch.data.builtin.drawing import SIDE

VOID = 255
CLASSES = ("disc", "box", "triangle", "star")
PATTERNS = {"box": "checks", "triangle": "specks", "star": "stripes"}
SIZES = {"train": 2000, "val": 100, "test": 200}


@dataclasses.dataclass(frozen=True)
class Overlaps:
    """The scenes of one split, drawn when they are read.

    Attributes:
      split: "train", "val" or "test".
      classes: those of CLASSES that are labelled; the others are background.
    """

    split: str
    classes: tuple[str, ...]

    def __len__(self):
        """Returns the number of scenes."""
        return SIZES[self.split]

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """Returns `image` uint8 [64, 64, 3] and `labels` uint8 [64, 64, K] of a scene."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        image, labels = scene(self.split, number)
        return {"image": image, "labels": labels[..., list(map(CLASSES.index, self.classes))]}


def overlaps(split: str, classes: tuple[str, ...] = CLASSES) -> Overlaps:
    """Opens a split.

    Args:
      split: "train" (2,000 scenes), "val" (100) or "test" (200).
      classes: those of disc, box, triangle and star that are labelled.

    Returns:
      Its scenes.

    Raises:
      ValueError: there is no such split or class.
    """
    if split not in SIZES:
        raise ValueError(f"overlaps has no split {split!r}; it has {', '.join(SIZES)}")
    if not classes or set(classes) - set(CLASSES):
        raise ValueError(f"classes={tuple(classes)} must be some of {', '.join(CLASSES)}")
    return Overlaps(split, tuple(classes))


def scene(split: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
      split: "train", "val" or "test".
      number: from 0; split and number decide everything.

    Returns:
      image uint8 [64, 64, 3]; labels uint8 [64, 64, 4], 1 where a pixel lies in a shape of
      the class, 255 where the edge of one divides it in half, 0 elsewhere.
    """
    rng = np.random.default_rng([list(SIZES).index(split), number])
    along, _ = drawing.turned((SIDE / 2, SIDE / 2), rng.uniform(0, 2 * np.pi))
    image = drawing.colour(rng, 0.35, 0.65) + rng.uniform(0, 0.2) * (along / SIDE)[..., None]
    labels = np.zeros((SIDE, SIDE, len(CLASSES)), np.uint8)
    for kind in rng.integers(len(CLASSES), size=rng.integers(3, 7)):
        name, centre, angle = CLASSES[kind], rng.uniform(10, SIDE - 10, 2), rng.uniform(0, 6.3)
        edge = drawing.outline(name, centre, rng.uniform(12, 20), angle)
        light = _light(name, rng, centre, angle)
        image = image + rng.uniform(0.35, 0.55) * drawing.coverage(edge)[..., None] * light
        plane = labels[..., kind]
        plane[(np.abs(edge) < 0.1) & (plane == 0)] = VOID
        plane[edge <= -0.1] = 1
    noisy = image + rng.normal(0, rng.uniform(0.01, 0.02), image.shape)
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8), labels


def _light(name, rng, centre, angle):
    """What a shape adds to the picture, -0.5 to 0.5: float [64, 64, 3]."""
    if name == "disc":  # without a pattern, so that it must differ from the ground in all channels
        tint = rng.uniform(0.25, 0.5, 3) * rng.choice((-1, 1), 3)
        return np.broadcast_to(tint, (SIDE, SIDE, 3))
    return drawing.pattern(PATTERNS[name], rng, centre, angle) - 0.5
