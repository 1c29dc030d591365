import itertools

import numpy as np
import pytest

from jaxseg import pictures
from launch.reporting import comparisons, sheets

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(1, 256, (6, 7, 3)).astype(np.uint8)
# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
VISION = {
    "usual": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(colour, vision):
    """CIELAB of an sRGB colour as a person with this colour vision sees it."""
    rgb = np.array(colour) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = to_xyz @ seen / [0.9505, 1.0, 1.089]
    f = [t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_people_with_any_colour_vision_tell_errors_apart(vision):
    right = [(150, 150, 150), (246, 246, 246)]  # what is right lies between these greys
    errors = [comparisons.MISSED, comparisons.CONFUSED, comparisons.FALSE]
    pairs = [*itertools.combinations(errors, 2), *itertools.product(errors, right)]
    pairs += [(pictures.RIGHT, pictures.WRONG)]
    for one, other in pairs:
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 25, (one, other)


def test_errors_have_the_colour_of_their_kind():
    truth = np.array([[0, 0, 1, 1, 2, 3]])
    guess = np.array([[0, 1, 0, 1, 1, 1]])
    found = comparisons.errors(IMAGE[:1, :6], truth, guess, background=True)
    kinds = [None, comparisons.FALSE, comparisons.MISSED, None, comparisons.CONFUSED]
    for column, kind in enumerate(kinds):
        if kind:
            assert tuple(found[0, column]) == kind
        else:
            grey = IMAGE[0, column] @ [0.299, 0.587, 0.114]
            np.testing.assert_allclose(found[0, column], 150 + 0.38 * grey, atol=0.51)
    wrong = comparisons.errors(IMAGE[:1, :6], truth, guess, background=False)
    assert {tuple(wrong[0, k]) for k in (1, 2, 4)} == {comparisons.CONFUSED}


def test_labels_lie_over_grey_and_the_background_shows_the_image():
    ids = np.array([[0, 1, 2]])
    colours = comparisons.class_colours(3, background=True)
    np.testing.assert_array_equal(colours[:3], pictures.palette(3))
    found = comparisons.labelled(IMAGE[:1, :3], ids, colours, background=True)
    np.testing.assert_array_equal(found[0, 0], IMAGE[0, 0])
    grey = IMAGE[0, 2] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(found[0, 2], 0.4 * grey + 0.6 * colours[2].astype(float), atol=0.51)
    given = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    for background in (False, True):
        found = comparisons.class_colours(3, background, given)
        np.testing.assert_array_equal(found[:3], given)
    all_drawn = comparisons.class_colours(3, background=False)
    assert all_drawn[0].any()
    drawn = comparisons.labelled(IMAGE[:1, :3], ids, all_drawn, background=False)
    assert (drawn[0, 0] != IMAGE[0, 0]).any()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("road", "car"), True),  # of two classes the first is no object
        (("Background", "a", "b"), True),
        (("0", "1", "2"), True),
        (("class 0", "class 1", "class 2"), True),
        (("sky", "building", "pole"), False),
    ],
)
def test_class_zero_is_the_background_by_its_name(classes, expected):
    assert comparisons.has_background(classes) == expected


def test_void_pixels_are_striped():
    found = comparisons.hatched(IMAGE, np.arange(7)[None] < np.full((6, 1), 5))
    np.testing.assert_array_equal(found[:, 5:], IMAGE[:, 5:])
    covered = {tuple(colour) for colour in found[:, :5].reshape(-1, 3)}
    assert covered == {comparisons.VOID, comparisons.VOID_LINES}


def batch(truth, guess, image=None):
    truth, guess = (np.asarray(ids, np.uint8)[None, ..., None] for ids in (truth, guess))
    image = np.full((*truth.shape[:3], 3), 90, np.uint8) if image is None else image[None]
    return image, truth, guess


def test_padding_is_cut_off():
    image, truth = np.zeros((10, 12, 3), np.uint8), np.full((10, 12), 2)
    image[:6, :7], truth[:5, :6] = IMAGE, 0
    (tiles,), _ = comparisons.draw(*batch(truth, truth * 0, image), ("a", "b"))
    factor = min(sheets.TILE[0] // 6, sheets.TILE[1] // 7)
    assert {tile.shape for tile in tiles} == {(6 * factor, 7 * factor, 3)}
    np.testing.assert_array_equal(tiles[0], IMAGE.repeat(factor, 0).repeat(factor, 1))


def names(legend):
    return [name for _, name in legend.entries]


def test_legends_name_what_occurs():
    truth, guess = [[0, 1, 4]], [[0, 3, 3]]
    _, (classes, errors) = comparisons.draw(*batch(truth, guess), ("background", "a", "b", "c"))
    assert names(classes) == ["background (not coloured)", "a", "c"]
    palette = comparisons.class_colours(4, True)
    assert [tuple(square[8, 8]) for square, _ in classes.entries[1:]] == [
        tuple(palette[1]),
        tuple(palette[3]),
    ]
    assert names(errors) == [
        "missed: an object, called background",
        "false: background, called an object",
        "wrong class",
        "void: does not count",
    ]
    _, (classes, errors) = comparisons.draw(*batch([[0, 1]], [[1, 1]]), ("skin", "vessel"))
    assert names(classes) == ["skin (not coloured)", "vessel"]
    assert names(errors) == ["missed: vessel, called skin", "false: skin, called vessel"]
    _, (classes, errors) = comparisons.draw(*batch([[0, 1]], [[1, 1]]), ("sky", "road", "car"))
    assert names(classes) == ["sky", "road"]
    assert names(errors) == ["wrong class"]


def test_the_most_frequent_of_many_classes_are_named():
    ids = np.repeat(np.arange(30), np.arange(30) + 1)[None]
    _, (classes, _) = comparisons.draw(*batch(ids, ids), tuple(f"c{k}" for k in range(30)))
    assert names(classes) == [*(f"c{k}" for k in range(10, 30)), "and 10 more"]
