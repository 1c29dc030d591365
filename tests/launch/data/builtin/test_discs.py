import functools

import numpy as np
import pytest
from scipy import ndimage

from launch.data.builtin import discs as module


@functools.cache
def pictures():
    drawn = [module.picture("train", number) for number in range(40)]
    return tuple(np.stack(arrays) for arrays in zip(*drawn, strict=True))


def test_a_split_holds_what_picture_draws(monkeypatch):
    monkeypatch.setattr(module, "SIZES", {"train": 5, "val": 2, "test": 3})
    for split, size in module.SIZES.items():
        arrays = module.discs(split, weights=split == "val")
        assert arrays.keys() == {"image", "instances"} | ({"weight"} if split == "val" else set())
        for number in range(size):
            image, numbers = module.picture(split, number)
            np.testing.assert_array_equal(arrays["image"][number, ..., 0], image)
            np.testing.assert_array_equal(arrays["instances"][number, ..., 0], numbers)
    assert module.discs("val", weights=True)["weight"].max() > 5


def test_the_splits_have_their_sizes_and_share_no_picture():
    assert module.SIZES == {"train": 800, "val": 100, "test": 200}
    first = {module.picture(split, 0)[0].tobytes() for split in module.SIZES}
    assert len(first) == 3


def test_every_disc_is_one_piece_and_round():
    for numbers in pictures()[1]:
        for number in np.unique(numbers[numbers > 0]):
            assert ndimage.label(numbers == number)[1] == 1
    numbers = pictures()[1][0]
    for number in np.unique(numbers[numbers > 0]):
        y, x = np.nonzero(numbers == number)
        if min(y.min(), x.min()) > 0 and max(y.max(), x.max()) < 63:
            assert len(y) > 0.8 * np.pi / 4 * np.ptp(y) * np.ptp(x)


def test_most_discs_touch_another_one_so_pieces_of_foreground_are_no_objects():
    touching, total, pieces = 0, 0, 0
    for numbers in pictures()[1]:
        ids = np.unique(numbers[numbers > 0])
        total, pieces = total + len(ids), pieces + ndimage.label(numbers > 0)[1]
        for number in ids:
            near = ndimage.binary_dilation(numbers == number) & (numbers != number)
            touching += (numbers[near] > 0).any()
    assert 5 < total / 40 < 14
    assert touching > 0.7 * total
    assert pieces < 0.6 * total


def test_a_disc_is_brighter_than_the_ground_around_it():
    for image, numbers in zip(*pictures(), strict=True):
        inside, ground = ndimage.binary_erosion(numbers > 0), numbers == 0
        assert image[inside].mean() > image[ground].mean() + 30


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="no split 'all'; it has train, val, test"):
        module.discs("all")
