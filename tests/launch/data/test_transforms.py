import numpy as np
import pytest

from launch.data import transforms


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 31), (40, 25), (16, 16), (1, 1), (5, 1)])
def test_square_takes_the_centre(shape, channels):
    image = np.zeros((*shape, channels), np.uint8)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    image[top : top + side, left : left + side] = 200
    found = transforms.square({"image": image, "label": 1}, size=8)
    assert found["label"] == 1
    np.testing.assert_array_equal(found["image"], np.full((8, 8, channels), 200, np.uint8))


def test_keep_drops_the_rest():
    assert transforms.keep({"image": 1, "label": 2}, ("label",)) == {"label": 2}
