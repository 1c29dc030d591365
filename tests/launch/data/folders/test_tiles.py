"""Images cut into tiles: every pixel counts once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.data.folders import tiles

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(size=SIDES, canvas=SIDES)
def test_every_pixel_counts_in_one_tile(size, canvas):
    ids = np.ones(size, np.uint8)
    counted = np.zeros(size, int)
    cut = tiles.tiles(size, canvas)
    for tile in cut:
        part = tile.cut("segmentation", ids, canvas)
        assert part.shape == tuple(map(min, size, canvas))
        top, left = tile.rows[0], tile.columns[0]
        counted[top : top + part.shape[0], left : left + part.shape[1]] += part == 1
    np.testing.assert_array_equal(counted, 1)
    fewest = np.prod([-(-a // b) for a, b in zip(size, canvas, strict=True)])
    assert len(cut) == fewest


def test_an_image_keeps_the_pixels_that_another_tile_counts():
    image = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)
    first, second = tiles.tiles((6, 10), (8, 7))
    np.testing.assert_array_equal(first.cut("image", image, (8, 7)), image[:, :7])
    np.testing.assert_array_equal(second.cut("image", image, (8, 7)), image[:, 3:])
    ids = np.zeros((6, 10), np.uint8)
    assert (first.cut("segmentation", ids, (8, 7)) == 255).sum() == 6 * 2
    assert (second.cut("segmentation", ids, (8, 7)) == 255).sum() == 6 * 2


@pytest.mark.parametrize(
    ("size", "scale", "expected"), [((100, 51), 0.5, (50, 26)), ((3, 1), 0.1, (1, 1))]
)
def test_sizes_are_rounded_and_never_empty(size, scale, expected):
    assert tiles.scaled(size, scale) == expected
