import numpy as np
from PIL import Image

from launch import pictures


def test_images_become_tiles_in_order(tmp_path):
    images = np.linspace(0, 1, 5).reshape(5, 1, 1, 1) * np.ones((5, 60, 50, 1))
    picture = pictures.save(tmp_path / "new" / "grid.png", images)
    assert picture.shape == (2 * 61 - 1, 3 * 51 - 1, 3)
    assert [picture[30, 25, 0], picture[30, 76, 0], picture[91, 76, 0]] == [0, 64, 255]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "grid.png")), picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_rows_and_columns_are_kept_and_small_images_enlarged():
    images = np.zeros((2, 3, 8, 8, 3), np.uint8)
    images[1, 2] = [255, 0, 9]
    picture = pictures.grid(images)
    factor = 6
    assert picture.shape == ((2 * 9 - 1) * factor, (3 * 9 - 1) * factor, 3)
    np.testing.assert_array_equal(picture[-1, -1], [255, 0, 9])


def test_values_outside_the_range_are_clipped():
    images = np.array([np.nan, -3.0, 7.0, 0.5]).reshape(4, 1, 1, 1) * np.ones((4, 48, 48, 1))
    picture = pictures.grid(images)
    assert sorted({*picture[::49, ::49, 0].ravel()}) == [0, 128, 255]
