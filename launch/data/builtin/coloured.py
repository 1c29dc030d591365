"""`launch.data.builtin.coloured:coloured`: digits whose colour tells their class, mostly.

The 8 x 8 digits of `digits`, each in one of ten colours. In the training split nearly all digits
of a class have the colour of the class; in the test split few have. A net that has learnt the
colour rather than the shape is found out (as coloured MNIST, Arjovsky et al. 2019).
"""

import colorsys

import numpy as np

from launch.data.builtin.digits import LEVELS

CLASSES = 10
AGREE = {"train": 0.95, "test": 0.1}
# Ten hues, alternately light and dark, so that neighbours differ in more than the hue.
COLOURS = np.array(
    [colorsys.hsv_to_rgb(n / CLASSES, 0.9, 1.0 if n % 2 else 0.7) for n in range(CLASSES)]
)


def coloured(split: str, agree: float | None = None) -> dict[str, np.ndarray]:
    """Colours the digits of a split, by fixed seeds.

    Args:
      split: "train" (1,438 images) or "test" (359).
      agree: share of the digits that have the colour of their class, the others have one of the
        nine other colours; by default 0.95 in training and 0.1 in the test.

    Returns:
      image uint8 [N, 8, 8, 3], label int32 [N] and colour int32 [N].

    Raises:
      ValueError: there is no such split, or a share outside [0, 1].
    """
    if split not in AGREE:
        raise ValueError(f"coloured has no split {split!r}; it has {', '.join(AGREE)}")
    share = AGREE[split] if agree is None else agree
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"coloured: agree={agree} must be in [0, 1]")
    from sklearn.datasets import load_digits  # a second that other data do without

    counts, labels = load_digits(return_X_y=True)
    of_split = (np.arange(len(labels)) % 5 == 4) == (split == "test")
    counts, labels = counts[of_split].reshape(-1, 8, 8, 1), labels[of_split].astype(np.int32)
    rng = np.random.default_rng(sorted(AGREE).index(split))
    other = (labels + rng.integers(1, CLASSES, len(labels))) % CLASSES
    colour = np.where(rng.uniform(size=len(labels)) < share, labels, other).astype(np.int32)
    light = counts / LEVELS * COLOURS[colour][:, None, None]
    image = np.round(255.0 * light).astype(np.uint8)
    return {"image": image, "label": labels, "colour": colour}
