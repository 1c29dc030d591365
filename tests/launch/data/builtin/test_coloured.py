import numpy as np
import pytest
from sklearn.datasets import load_digits

from launch.data.builtin import coloured as module


@pytest.mark.parametrize(("split", "count", "share"), [("train", 1438, 0.95), ("test", 359, 0.1)])
def test_colours_agree_with_classes_at_their_share(split, count, share):
    found = module.coloured(split)
    assert found["image"].shape == (count, 8, 8, 3)
    agree = found["colour"] == found["label"]
    assert agree.mean() == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / count))
    # The others have the nine other colours alike.
    apart = (found["colour"] - found["label"])[~agree] % 10
    assert set(apart) == set(range(1, 10))


def test_an_image_is_its_digit_in_its_colour():
    found = module.coloured("test")
    grey = load_digits().images[4]  # every fifth is for the test
    expected = 255 * grey[..., None] / 16 * module.COLOURS[found["colour"][0]]
    np.testing.assert_allclose(found["image"][0], expected, atol=0.5)
    again = module.coloured("test")
    np.testing.assert_array_equal(found["image"], again["image"])


def test_the_share_can_be_given():
    found = module.coloured("train", agree=1.0)
    np.testing.assert_array_equal(found["colour"], found["label"])
    for kwargs, words in (({"agree": 1.5}, "agree=1.5"), ({"split": "val"}, "no split 'val'")):
        with pytest.raises(ValueError, match=words):
            module.coloured(**({"split": "train"} | kwargs))


@pytest.mark.parametrize(("split", "share"), [("train", 0.95), ("test", 0.1)])
def test_digits_of_mnist_are_coloured_alike(split, share, monkeypatch):
    """Of three classes; images of two grey levels."""
    grey = np.zeros((3000, 28, 28, 1), np.uint8)
    grey[:, 14], label = 255, np.arange(3000) % 3
    opened = []
    monkeypatch.setattr(module.tfds_sets, "open_tfds", lambda *given: opened.append(given))
    monkeypatch.setattr(
        module.cache, "arrays_of", lambda split, budget_mib: {"image": grey, "label": label}
    )
    found = module.mnist(split, "folder")
    ((section, asked),) = opened
    assert (section.name, section.data_dir, asked) == ("mnist", "folder", split)
    assert found["image"].shape == (3000, 28, 28, 3)
    assert np.mean(found["colour"] == label) == pytest.approx(share, abs=0.03)
    light = np.round(255 * module.COLOURS[found["colour"]])
    np.testing.assert_array_equal(found["image"][:, 14, 5], light)
    assert not found["image"][:, 13].any()
