import numpy as np
import pytest
from scipy import ndimage

from launch.inference import scaling


def bilinear(array, height, width):
    """Interpolation between pixel centres, edges repeated."""
    y = (np.arange(height) + 0.5) * array.shape[0] / height - 0.5
    x = (np.arange(width) + 0.5) * array.shape[1] / width - 0.5
    places = np.meshgrid(y, x, indexing="ij")
    planes = [
        ndimage.map_coordinates(array[..., k], places, order=1, mode="nearest")
        for k in range(array.shape[-1])
    ]
    return np.stack(planes, -1)


@pytest.mark.parametrize("shape", [(11, 13), (40, 9), (1, 1)])
def test_any_rows_of_a_map_at_another_size(shape):
    array = np.random.default_rng(0).random((7, 5, 2)).astype(np.float32)
    whole = bilinear(array, *shape)
    for rows in ((0, shape[0]), (shape[0] // 2, shape[0])):
        found = scaling.enlarged(array, rows, shape)
        np.testing.assert_allclose(found, whole[slice(*rows)], atol=1e-6)
    plane = scaling.enlarged(array[..., 0], (0, shape[0]), shape)
    np.testing.assert_allclose(plane, whole[..., 0], atol=1e-6)


def test_images_are_averaged_and_depth_is_not():
    image = np.array([[0, 100], [0, 100]], np.uint8).repeat(4, 0).repeat(4, 1)
    small = scaling.scaled(image[..., None].repeat(5, -1), (2, 1))
    assert (small.shape, small.dtype) == ((2, 1, 5), np.uint8)
    assert (small == 50).all()
    depth = image[..., None].astype(np.float32)
    assert set(np.unique(scaling.scaled(depth, (3, 3)))) <= {0.0, 100.0}
