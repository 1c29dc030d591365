"""Every image of a size, once."""

import numpy as np
import pytest

from launch.audits import grids


def test_a_grid_lists_every_image_once():
    images = grids.BINARY.images
    assert images.shape == (512, 3, 3, 1)
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(512, -1), axis=0)) == 512
    np.testing.assert_array_equal(np.unique(images), [0, 255])
    assert grids.BINARY.title == "512 images of 3 x 3 in 2 levels"
    # The first value is the last digit.
    np.testing.assert_array_equal(images[1].ravel(), [255] + 8 * [0])
    image = grids.GREY.images[3 + 256 * 7]
    np.testing.assert_array_equal(image.ravel(), [3, 7])
    np.testing.assert_array_equal(grids.ONE_PIXEL.images.ravel(), np.arange(256))


def test_a_sum_over_256_levels_tells_of_a_model_that_knows_fewer():
    (grid,) = grids.coarser(256.00003)
    assert (grid.shape, len(grid.levels)) == ((1, 2, 1), 16)
    assert (grid.levels[0], grid.levels[5], grid.levels[-1]) == (0, 85, 255)
    (grid,) = grids.coarser(4.0)
    # Each is another level of 128, as the softmax likelihood rounds.
    assert sorted(level * 128 // 256 for level in grid.levels) == list(range(128))
    (grid,) = grids.coarser(128.0**2)
    assert grid.levels == (0, 255)


@pytest.mark.parametrize("total", [0.98, 1.0, 1.001, 256.0**2, float("inf"), float("nan")])
def test_other_sums_tell_of_none(total):
    assert grids.coarser(total) == []
