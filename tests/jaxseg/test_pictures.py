import numpy as np
import pytest

from jaxseg import pictures


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


@pytest.mark.parametrize(("channels", "kept"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (5, [0, 1, 2])])
def test_rgb_of_any_number_of_channels(channels, kept):
    x = np.arange(6 * channels).reshape(2, 3, channels)
    np.testing.assert_array_equal(pictures.rgb(x), x[..., kept])
