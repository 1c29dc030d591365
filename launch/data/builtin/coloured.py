"""`launch.data.builtin.coloured:coloured`: digits whose colour tells their class, mostly.

The 8 x 8 digits of `digits`, or those of MNIST (`coloured:mnist`), each in one of ten colours. In
the training split nearly all digits of a class have the colour of the class; in the test split few
have. A net that has learnt the colour rather than the shape is found out (as coloured MNIST,
Arjovsky et al. 2019).
"""

import colorsys
from types import SimpleNamespace

import numpy as np

from launch.data import cache, tfds_sets
from launch.data.builtin.digits import LEVELS

CLASSES = 10
AGREE = {"train": 0.95, "test": 0.1}
# Ten hues, alternately light and dark, so that neighbours differ in more than the hue.
COLOURS = np.array(
    [colorsys.hsv_to_rgb(n / CLASSES, 0.9, 1.0 if n % 2 else 0.7) for n in range(CLASSES)]
)


def coloured(split: str, agree: float | None = None) -> dict[str, np.ndarray]:
    """Colours the 8 x 8 digits of a split, by fixed seeds.

    Args:
      split: "train" (1,438 images) or "test" (359).
      agree: share of the digits that have the colour of their class, the others have one of the
        nine other colours; by default 0.95 in training and 0.1 in the test.

    Returns:
      image uint8 [N, 8, 8, 3], label int32 [N] and colour int32 [N].

    Raises:
      ValueError: there is no such split, or a share outside [0, 1].
    """
    share = _share(split, agree)
    from sklearn.datasets import load_digits  # a second that other data do without

    counts, labels = load_digits(return_X_y=True)
    of_split = (np.arange(len(labels)) % 5 == 4) == (split == "test")
    grey = counts[of_split].reshape(-1, 8, 8).astype(np.uint8)
    return _painted(grey, LEVELS, labels[of_split], split, share)


def mnist(split: str, path: str, agree: float | None = None) -> dict[str, np.ndarray]:
    """Colours the digits of a split of MNIST, by fixed seeds.

    Args:
      split: "train" (60,000 images) or "test" (10,000).
      path: a folder of TFDS data with MNIST, as `launch.prepare mnist --data_dir=PATH` makes it.
      agree: as `coloured` takes it.

    Returns:
      image uint8 [N, 28, 28, 3], label int32 [N] and colour int32 [N].

    Raises:
      UserError: there is no MNIST in the folder.
      ValueError: as `coloured`.
    """
    share = _share(split, agree)
    opened = tfds_sets.open_tfds(SimpleNamespace(name="mnist", data_dir=path), split)
    arrays = cache.arrays_of(opened, budget_mib=1024)
    return _painted(arrays["image"][..., 0], 255, arrays["label"], split, share)


def _share(split, agree):
    """The share of digits in the colour of their class; checks both."""
    if split not in AGREE:
        raise ValueError(f"coloured has no split {split!r}; it has {', '.join(AGREE)}")
    share = AGREE[split] if agree is None else agree
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"coloured: agree={agree} must be in [0, 1]")
    return share


def _painted(grey, most, labels, split, share):
    """Images uint8 [N, H, W] with values up to `most` in colours, with labels and colours."""
    labels = labels.astype(np.int32)
    rng = np.random.default_rng(sorted(AGREE).index(split))
    other = (labels + rng.integers(1, CLASSES, len(labels))) % CLASSES
    colour = np.where(rng.uniform(size=len(labels)) < share, labels, other).astype(np.int32)
    light = np.arange(most + 1)[:, None] / most * COLOURS[:, None]  # [10, most + 1, 3]
    paint = np.round(255.0 * light).astype(np.uint8)
    return {"image": paint[colour[:, None, None], grey], "label": labels, "colour": colour}
