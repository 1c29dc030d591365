import numpy as np
import pytest

from launch.config.errors import UserError
from launch.data.labels_check import check_labels
from launch.data.sources import Split


def split(last):
    masks = np.full((3, 2, 2, 1), 255, np.uint8)
    masks[2, 1, 1] = last
    arrays = {"segmentation": masks}
    return Split([{"segmentation": mask} for mask in masks], 3, "mine train"), arrays


def test_one_pixel_with_a_class_is_enough():
    opened, arrays = split(1)
    check_labels(opened, arrays, 255)
    check_labels(opened, None, 255)
    check_labels(split(255)[0], arrays, 255)
    check_labels(*split(255), void=254)
    check_labels(opened, {"image": np.zeros((3, 2, 2, 3))}, 255)


def test_void_alone_is_refused():
    opened, arrays = split(255)
    message = r"mine train: every pixel of all 3 masks is void \(id 255\)\. Check the masks"
    for known in (arrays, None):
        with pytest.raises(UserError, match=message):
            check_labels(opened, known, 255)
