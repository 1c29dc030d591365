import numpy as np

from launch.data.folders import borders
from launch.data.folders.borders import border_weights


def test_the_weights_are_those_of_the_paper():
    objects = np.zeros((40, 60), np.int32)
    objects[5:20, 4:20], objects[6:30, 24:40], objects[33:36, 50:58] = 1, 2, 3
    y, x = np.mgrid[:40, :60]
    distances = []
    for number in (1, 2, 3):
        places = np.argwhere(objects == number)
        gaps = np.hypot(y[..., None] - places[:, 0], x[..., None] - places[:, 1])
        distances.append(gaps.min(-1))
    first, second = np.sort(distances, axis=0)[:2]
    expected = 1 + 10 * np.exp(-((first + second) ** 2) / (2 * 5**2))
    found = border_weights(objects)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.where(objects == 0, expected, 1), atol=0.01)
    assert found[12, 22] > 6 > found[0, 0]
    assert found[12, 10] == 1
    assert borders.REACH == 20


def test_one_object_or_none_has_no_border():
    objects = np.zeros((9, 9), np.int32)
    assert (border_weights(objects) == 1).all()
    objects[2:4, 2:5] = 7
    assert (border_weights(objects) == 1).all()
