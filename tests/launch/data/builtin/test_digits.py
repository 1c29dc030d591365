import numpy as np
from sklearn.datasets import load_digits

from launch.config import schema
from launch.data import sources, tfds_sets


def test_digits_are_scikit_learns(data_dir):
    config = schema.defaults().data
    config.data_dir = data_dir
    counts, labels = load_digits(return_X_y=True)
    expected = sorted(
        (int(label), tuple(np.round(row * 255 / 16).astype(int)))
        for row, label in zip(counts, labels, strict=True)
    )
    found = []
    sizes = {}
    for name in ("train", "test"):
        split = sources.open_split(config, name)
        sizes[name] = split.size
        for index in range(split.size):
            example = split[index]
            assert example["image"].shape == (8, 8, 1)
            found.append((int(example["label"]), tuple(example["image"].ravel().astype(int))))
    assert sizes == {"train": 1438, "test": 359}
    assert sorted(found) == expected
    features = tfds_sets.builder("digits", data_dir).info.features
    assert features["image"].shape == (8, 8, 1)
    assert features["label"].num_classes == 10
