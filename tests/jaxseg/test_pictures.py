import numpy as np
import pytest

from jaxseg import pictures

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (2, 5, 6, 3)).astype(np.uint8)


def test_the_palette_has_black_background_grey_ignored_and_different_neighbours():
    table = pictures.palette()
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert table[0].tolist() == [0, 0, 0]
    assert table[255].tolist() == list(pictures.IGNORED)
    distance = np.abs(table[1:30, None].astype(int) - table[None, 1:30]).sum(-1)
    assert distance[~np.eye(29, dtype=bool)].min() > 15
    assert np.abs(np.diff(table[:60].astype(int), axis=0)).sum(1).min() > 60
    np.testing.assert_array_equal(pictures.palette(7), table[:7])
    np.testing.assert_array_equal(pictures.palette(given=[(1, 2, 3)]), [(1, 2, 3), *table[1:]])
    # Class n: hue .6 + .618 n, saturation .95 or .55, value .8, .6 or 1, to the nearest integer.
    assert table[1:4].tolist() == [[144, 204, 10], [153, 69, 152], [13, 255, 188]]
    assert pictures.palette(257)[256].tolist() != list(pictures.IGNORED)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_colours_of_ids(dtype):
    ids = np.array([[0, 3], [255, 7]]).astype(dtype)
    found = pictures.coloured(ids)
    np.testing.assert_array_equal(found, pictures.palette()[ids.astype(int)])
    ignored = np.asarray(pictures.coloured(ids, ignore=3))
    assert ignored[0, 1].tolist() == list(pictures.IGNORED)
    if dtype == np.int32:
        np.testing.assert_array_equal(pictures.coloured(ids + 256, -1), pictures.coloured(ids, -1))
        # By default 255 alone is ignored.
        beyond = np.array([[256, 510]])
        np.testing.assert_array_equal(pictures.coloured(beyond), [pictures.palette()[[0, 254]]])


def test_overlay_blends_all_but_class_zero():
    ids = RNG.integers(0, 3, (2, 5, 6)).astype(np.int32)
    found = np.asarray(pictures.overlay(IMAGE, ids, alpha=0.25))
    assert found.dtype == np.uint8
    blend = np.round(0.75 * IMAGE.astype(float) + 0.25 * pictures.palette()[ids])
    np.testing.assert_array_equal(found, np.where((ids > 0)[..., None], blend, IMAGE))


def test_overlay_by_default_is_half_opaque_and_ignores_255():
    ids = np.array([[[1, 255, 256, 510, 0, 2]]]).astype(np.int32)
    found = pictures.overlay(IMAGE[:1, :1], ids)
    colours = np.where(ids[..., None] == 255, 128, pictures.palette()[ids % 256])
    blend = np.round(0.5 * IMAGE[:1, :1].astype(float) + 0.5 * colours)
    np.testing.assert_array_equal(found, np.where((ids > 0)[..., None], blend, IMAGE[:1, :1]))


@pytest.mark.parametrize(("channels", "kept"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (5, [0, 1, 2])])
def test_rgb_of_any_number_of_channels(channels, kept):
    x = np.arange(6 * channels).reshape(2, 3, channels)
    np.testing.assert_array_equal(pictures.rgb(x), x[..., kept])
