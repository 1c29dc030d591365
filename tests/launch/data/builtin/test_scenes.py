import functools

import numpy as np
import pytest
from scipy import stats

from launch.config import schema
from launch.data import sources, tfds_sets
from launch.data.builtin import drawing, scenes
from launch.data.builtin.drawing import X, Y
from tests.launch.data.builtin.extreme import Extreme


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
    shapes = {name: feature.shape for name, feature in info.features.items()}
    assert shapes == {
        "image": (64, 64, 3),
        "segmentation": (64, 64, 1),
        "depth": (64, 64, 1),
    }


def test_the_splits_have_their_published_sizes(tmp_path, monkeypatch):
    blank = np.zeros((1, 1), np.uint8)
    monkeypatch.setattr(scenes, "scene", lambda *which: (blank, blank, which))
    builder = scenes.Builder(config="texture", data_dir=str(tmp_path))
    for split, size in (("train", 1600), ("val", 200), ("test", 400)):
        drawn = [(key, each["depth"]) for key, each in builder._generate_examples(split)]
        assert drawn == [(number, ("texture", split, number)) for number in range(size)]


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


# What is drawn where every random number is the least or the largest of its range.


@pytest.mark.parametrize(("share", "wall", "y", "x"), [(0, 2.4, 8, 8), (1, 3.4, 56, 56)])
def test_a_scene_of_extremes(monkeypatch, share, wall, y, x):
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Extreme(share))
    away = np.hypot(Y - y, X - x) > 33
    away &= np.hypot(Y - 64 * share, X - 64 * share) > 6  # the blind spot
    depth = wall + 0.004 * share * (X - 32)
    sensed = 1000 * (depth + 0.0012 + 0.0019 * (depth - 0.4) ** 2)
    piece = drawing.photograph("val", Extreme(share))
    light = 0.8 if share == 0 else 1.1 + 0.25 * (X[..., None] - 32) / 64
    camera = 0.03 if share else 0.01
    for config, dull in (("rgb", 0.5), ("depth", 0)):
        image, labels, found = scenes.scene(config, "val", 0)
        assert (labels[away] == 0).all()
        np.testing.assert_allclose(found[away, 0], sensed[away], atol=0.51)
        grey = light * drawing.recoloured(piece, Extreme(share), dull) + camera
        np.testing.assert_allclose(image[away], 255 * np.clip(grey[away], 0, 1), atol=0.51)
    image, _, found = scenes.scene("texture", "val", 0)
    np.testing.assert_allclose(found[away, 0], sensed[away], atol=0.51)
    grey = piece.mean(-1)[away]
    order = stats.spearmanr(image[away].sum(-1), grey).statistic
    assert order > 0.99


def test_things_are_painted_over_each_other(monkeypatch):
    """Pixels that an edge divides in half are ignored, unless both sides are of one class."""
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Extreme(0))
    monkeypatch.setattr(scenes, "_things", lambda *_: [("plate", 2.0), ("plate", 1.5)])

    def thing(name, split, rng, metres, wall, light):
        assert (name, split, light) == ("plate", "val", 0)
        edges = np.array([20.05, 20.15, 20])[np.minimum(Y // 20, 2).astype(int)]
        edge = X - edges if metres == 2.0 else X - 10.05
        return edge, np.full((64, 64, 3), 0.5 if metres == 2.0 else 0.25), np.full_like(X, metres)

    monkeypatch.setitem(scenes._OBJECTS, "depth", thing)
    image, labels, depth = scenes.scene("depth", "val", 0)
    for row, half, inside in ((10, 255, True), (30, 1, True), (50, 255, False)):
        np.testing.assert_array_equal(labels[row], [1] * 20 + [half] + [0] * 43)
        metres = [1500] * 11 + [2000] * (9 + inside) + [2400] * (44 - inside)
        found = depth[row, 10:, 0].astype(int)
        np.testing.assert_allclose(found, metres[10:], atol=10)
    grey = lambda value: 255 * (0.8 * value + 0.01)
    wall = drawing.recoloured(drawing.photograph("val", Extreme(0)), Extreme(0))
    np.testing.assert_allclose(image[10, 15], grey(0.5), atol=0.51)
    np.testing.assert_allclose(image[10, 5], grey(0.25), atol=0.51)
    np.testing.assert_allclose(image[10, 20], grey(0.55 * 0.5 + 0.45 * wall[10, 20]), atol=0.51)
    np.testing.assert_allclose(image[10, 30], grey(wall[10, 30]), atol=0.51)


def test_what_a_scene_is_made_of():
    assert list(scenes._things("rgb", 3.0, Extreme(0))) == [("ball", 1.2)] * 2
    assert list(scenes._things("rgb", 3.0, Extreme(1))) == [("digit", pytest.approx(2.1))] * 4
    assert list(scenes._things("depth", 3.0, Extreme(0))) == [("wall", 1.2)] * 2
    numbers = set()
    for seed in range(20):
        names, metres = zip(*scenes._things("depth", 3, np.random.default_rng(seed)), strict=True)
        assert sorted(metres, reverse=True) == list(metres)  # the nearest covers the others
        behind = [name in ("wall", "recess") for name in names]
        assert behind == sorted(behind, reverse=True)
        numbers.add(len(names))
    assert numbers == {2, 3, 4}


@pytest.mark.parametrize("share", [0, 1])
def test_things_of_an_rgb_scene(share):
    rng, centre, radius = Extreme(share), (8 + 48 * share,) * 2, 11 + 9 * share
    draw = lambda name: scenes._thing(name, "val", rng, 2.0, None, 0.0)
    edge, surface, front = draw("ball")
    np.testing.assert_allclose(edge, np.hypot(X - centre[1], Y - centre[0]) - radius, atol=1e-5)
    assert front[centre] == pytest.approx(1.75)
    assert front[centre[0], centre[1] - radius] == 2
    assert surface[centre].tolist() == pytest.approx([0.95 * (0.15 + 0.75 * share)] * 3)
    angle = 2 * np.pi * share
    edge, _, front = draw("digit")
    expected = drawing.digit("val", rng, centre, 1.3 * radius, share - 0.5)
    np.testing.assert_allclose(edge, expected, atol=1e-5)
    np.testing.assert_allclose(front, 2 + 0.01 * share * (X - centre[1]), atol=1e-5)
    for name, larger in (("box", 1), ("star", 1.2), ("triangle", 1.2)):
        edge, surface, _ = draw(name)
        expected = drawing.outline(name, centre, larger * radius, angle)
        np.testing.assert_allclose(edge, expected, atol=1e-5)
        if name != "triangle":
            pattern = {"box": "checks", "star": "stripes"}[name]
            expected = drawing.pattern(pattern, rng, centre, angle)
            np.testing.assert_allclose(surface, expected, atol=1e-5)


def test_a_ball_is_lit_from_the_side_and_the_front():
    """A share 0.35 of its colour, and up to 0.75 by the cosine to the light at (0.6, 0.8)."""
    found = scenes._shaded(np.ones(3), (30, 20), 10, 0.0)
    for (y, x), share in {
        (30, 20): 0.35 + 0.75 * 0.8,
        (30, 26): 0.35 + 0.75,
        (36, 20): 0.35 + 0.75 * 0.64,
        (30, 14): 0.35 + 0.75 * 0.28,
        (30, 30): 0.35 + 0.75 * 0.6,
        (30, 10): 0.35,
    }.items():
        assert found[y, x].tolist() == pytest.approx([share] * 3)
    turned = scenes._shaded(np.ones(3), (30, 20), 10, np.pi / 2)
    assert turned[36, 20, 0] == pytest.approx(1.1, rel=1e-5)


def test_things_of_a_texture_scene():
    edge, surface, front = scenes._material("weave", "test", Extreme(1), 2.0, None, 0.0)
    np.testing.assert_array_equal(edge, drawing.outline("star", (56, 56), 20, 2 * np.pi))
    np.testing.assert_array_equal(surface[..., 0], drawing.noise("weave", Extreme(1)))
    np.testing.assert_allclose(front, 2 + 0.01 * (X - 56), atol=1e-5)


@pytest.mark.parametrize(
    ("share", "slope", "height", "hollow"), [(0, 0.035, 0.4, 0.3), (1, 0.05, 0.6, 0.8)]
)
def test_things_of_a_depth_scene(share, slope, height, hollow):
    rng, (y, x), wall = Extreme(share), (8 + 48 * share,) * 2, 3 + X / 100
    front = lambda name: scenes._stance(name, "val", rng, 2.0, wall, 0.0)[2]
    np.testing.assert_allclose(front("slope"), 2 + slope * (X - x), rtol=1e-5, atol=1e-5)
    assert front("bulge")[y, x] == pytest.approx(2 - height)
    radius = 11 + 9 * share
    assert front("bulge")[y, 31] == pytest.approx(
        2 - height * np.sqrt(max(0, 1 - ((x - 31) / radius) ** 2))
    )
    np.testing.assert_array_equal(front("wall"), wall)
    np.testing.assert_array_equal(front("plate"), np.full((64, 64), 2.0, np.float32))
    np.testing.assert_allclose(front("recess"), wall + hollow, rtol=1e-6)


def test_regions_share_the_quantiles_of_a_normal_distribution():
    owner = np.zeros((64, 64), int)
    owner[:, 40:] = 3
    grey = np.arange(4096.0).reshape(64, 64)[..., None]
    for share, level, spread, tint in ((0, 0.4, 0.1, 0.85), (1, 0.6, 0.16, 1.15)):
        found = scenes._same_histogram(grey, owner, Extreme(share))
        assert found.shape == (64, 64, 3)
        for place, count in ((0, 64 * 40), (3, 64 * 24)):
            ranks = (np.arange(count) + 0.5) / count
            expected = tint * stats.norm.ppf(ranks, level, spread)
            np.testing.assert_allclose(found[owner == place][:, 1], expected, rtol=1e-6)


def test_noise_orders_greys_that_are_alike():
    """Those 0.17 apart, which is more than eight standard deviations, keep their order."""
    image = np.zeros((64, 64, 1))
    image[32:] = 0.17
    found = scenes._same_histogram(image, np.zeros((64, 64), int), np.random.default_rng(0))[..., 0]
    assert found[:32].max() < found[32:].min()
    assert abs(np.corrcoef(found[:32].ravel(), np.arange(2048))[0, 1]) < 0.1


def test_the_camera_adds_noise_and_clips():
    image = np.array([-1.0, 0.5, 2.0])
    assert scenes._camera(image, Extreme(0)).tolist() == [0, 130, 255]  # 255 (0.5 + 0.01)
    assert scenes._camera(image, Extreme(1)).tolist() == [0, 135, 255]  # 255 (0.5 + 0.03)


def test_the_depth_sensor_is_blind_at_jumps():
    depth = np.full((64, 64), 2.0)
    depth[:, 20:] -= 0.16
    depth[:, 30:] += 0.14
    jump = np.broadcast_to(np.arange(64) == 19, (64, 64))
    for random, blind in ((0.005, True), (0.015, jump), (0.4, jump), (0.6, False)):
        found = scenes._depth_sensor(depth, Extreme(0, random))[..., 0]
        np.testing.assert_array_equal(found == 0, np.broadcast_to(blind, (64, 64)))
    assert found[5, 5] == 2006  # 2 m and the 6.1 mm of the Kinect's noise there
    assert found[5, 25] == 1845
    for share in (0.5, 1):
        found = scenes._depth_sensor(depth, Extreme(share))[..., 0]
        spot = (Y - 64 * share) ** 2 + (X - 64 * share) ** 2 < (5 * share) ** 2
        np.testing.assert_array_equal(found == 0, spot)
