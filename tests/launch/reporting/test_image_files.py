import numpy as np
import pytest
from PIL import Image

from launch.reporting import image_files


def test_images_become_tiles_in_order(tmp_path):
    images = np.linspace(0, 1, 5).reshape(5, 1, 1, 1) * np.ones((5, 60, 50, 1))
    image_files.save(tmp_path / "new" / "grid.png", images)
    picture = image_files.grid(images)
    assert picture.shape == (2 * 61 - 1, 3 * 51 - 1, 3)
    assert [picture[30, 25, 0], picture[30, 76, 0], picture[91, 76, 0]] == [0, 64, 255]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "grid.png")), picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_rows_and_columns_are_kept_and_small_images_enlarged():
    images = np.zeros((2, 3, 8, 8, 3), np.uint8)
    images[1, 2] = [255, 0, 9]
    picture = image_files.grid(images)
    factor = 6
    assert picture.shape == ((2 * 9 - 1) * factor, (3 * 9 - 1) * factor, 3)
    np.testing.assert_array_equal(picture[-1, -1], [255, 0, 9])


def test_values_outside_the_range_are_clipped():
    images = np.array([np.nan, -3.0, 7.0, 0.5]).reshape(4, 1, 1, 1) * np.ones((4, 48, 48, 1))
    picture = image_files.grid(images)
    assert sorted({*picture[::49, ::49, 0].ravel()}) == [0, 128, 255]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_shows_its_frames_in_order(tmp_path, suffix):
    frames = [np.full((20, 30, 1), grey) for grey in (0.0, 0.5, 1.0)]
    image_files.animate(tmp_path / f"a{suffix}", frames, 40)
    with Image.open(tmp_path / f"a{suffix}") as file:
        assert (file.size, file.n_frames, file.info["loop"]) == ((210, 140), 3, 0)
        for number, wanted in enumerate((0, 128, 255)):
            file.seek(number)
            assert np.abs(np.asarray(file.convert("L")).astype(int) - wanted).max() <= 3


def test_what_is_no_animation_is_refused(tmp_path):
    for name, frames in {"a.png": [np.zeros((2, 2, 1))], "a.gif": []}.items():
        with pytest.raises(ValueError, match=r"an animation is a .gif or a .webp file"):
            image_files.animate(tmp_path / name, frames)


def test_the_figures_of_a_training_become_an_animation(tmp_path):
    assert image_files.animate_steps(tmp_path, "samples") is None
    for step in range(0, 5000, 100):
        shade = np.full((1, 60, 60, 1), step / 5000)
        image_files.save(tmp_path / f"samples-{step:08d}.png", shade)
    image_files.save(tmp_path / "samples-other-00000100.png", np.ones((1, 60, 60, 1)))
    assert image_files.animate_steps(tmp_path, "samples") == tmp_path / "samples.webp"
    with Image.open(tmp_path / "samples.webp") as file:
        assert file.n_frames == image_files.MOST_FRAMES
        shades = []
        for number in range(file.n_frames):
            file.seek(number)
            shades.append(int(np.asarray(file.convert("L"))[30, 30]))
    assert shades[0] <= 3
    assert abs(shades[-1] - 0.98 * 255) <= 3
    assert shades == sorted(shades)
