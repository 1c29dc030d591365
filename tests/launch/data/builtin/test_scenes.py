import functools

import numpy as np
import pytest

from launch.config import schema
from launch.data import sources, tfds_sets
from launch.data.builtin import scenes


@functools.cache
def examples(config):
    """Images, labels and depths of 60 scenes."""
    drawn = [scenes.scene(config, "train", number) for number in range(60)]
    return tuple(np.stack(arrays) for arrays in zip(*drawn, strict=True))


@pytest.fixture(scope="module", params=list(scenes.CLASSES))
def some(request):
    return request.param, *examples(request.param)


def test_the_builder_gives_what_scene_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "SIZES", {"train": 9, "val": 3, "test": 5})
    config = schema.defaults().data
    config.name, config.data_dir = "scenes/depth", str(tmp_path)
    for name, size in scenes.SIZES.items():
        split = sources.open_split(config, name)
        assert split.size == size
        expected = [scenes.scene("depth", name, number) for number in range(size)]
        places = {image.tobytes(): number for number, (image, _, _) in enumerate(expected)}
        for place in range(size):
            example = split[place]
            _, labels, depth = expected[places.pop(example["image"].tobytes())]
            np.testing.assert_array_equal(example["segmentation"][..., 0], labels)
            np.testing.assert_array_equal(example["depth"], depth)
    info = tfds_sets.builder("scenes/depth", str(tmp_path)).info
    assert tuple(info.metadata["classes"]) == scenes.CLASSES["depth"]


def test_labels_are_classes_or_ignored(some):
    config, images, labels, depths = some
    assert images.dtype == labels.dtype == np.uint8
    assert depths.dtype == np.uint16
    share = np.bincount(labels.ravel(), minlength=256) / labels.size
    classes = len(scenes.CLASSES[config])
    assert share[classes:255].sum() == 0
    assert (share[1:classes] > 0.02).all()
    assert 0.5 < share[0] < 0.85
    assert 0.0005 < share[scenes.IGNORED] < 0.02


def test_depth_has_blind_spots_and_a_sensible_range(some):
    _, _, _, depths = some
    known = depths[depths > 0]
    assert 0.01 < np.mean(depths == 0) < 0.06
    assert 200 < known.min() < known.max() < 5000


def test_what_is_nearer_hides_what_is_farther(some):
    config, _, labels, depths = some
    if config == "depth":
        return  # there a recess lies behind the wall
    for label, depth in zip(labels, depths[..., 0], strict=True):
        wall = np.median(depth[(label == 0) & (depth > 0)])
        things = depth[(label > 0) & (label != scenes.IGNORED) & (depth > 0)]
        assert np.all(things < wall - 300)


def test_colour_alone_does_not_solve_it(some):
    """The most frequent class of a colour, counted on half of the scenes, tried on the rest."""
    config, images, labels, _ = some
    classes = len(scenes.CLASSES[config])
    bins = (images // 32).astype(int) @ (64, 8, 1)
    counts = np.zeros((512, classes))
    known = labels[::2] != scenes.IGNORED
    np.add.at(counts, (bins[::2][known], labels[::2][known]), 1)
    known = labels[1::2] != scenes.IGNORED
    guess, truth = counts.argmax(-1)[bins[1::2]][known], labels[1::2][known]
    iou = [
        np.mean(guess[(guess == k) | (truth == k)] == truth[(guess == k) | (truth == k)])
        for k in range(classes)
    ]
    assert np.mean(iou) < 0.3


def test_materials_share_their_grey_values():
    greys = [[] for _ in scenes.CLASSES["texture"]]
    for image, labels in zip(*examples("texture")[:2], strict=True):
        grey = image.mean(-1)
        grey = (grey - grey.mean()) / grey.std()
        for label, values in enumerate(greys):
            values.append(grey[labels == label])
    greys = [np.concatenate(values) for values in greys]
    np.testing.assert_allclose([values.mean() for values in greys], 0, atol=0.02)
    np.testing.assert_allclose([values.std() for values in greys], 1, atol=0.02)
    deciles = [np.quantile(values, np.linspace(0.1, 0.9, 9)) for values in greys]
    np.testing.assert_allclose(deciles, np.broadcast_to(deciles[0], (5, 9)), atol=0.03)
