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
    assert picture[[59, 60, 61], 0].tolist() == [[0] * 3, [96] * 3, [191] * 3]  # one pixel of grey
    assert not picture[61:, 2 * 51 :].any()  # no image is black
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
            assert file.info["duration"] == (200 if number == 2 else 40)


def test_a_frame_is_shown_for_a_tenth_of_a_second(tmp_path):
    frames = [np.full((192, 150, 3), grey, np.uint8) for grey in (0, 90)]
    image_files.animate(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as file:
        assert (file.size, file.info["duration"]) == ((150, 192), 100)
    image_files.animate(tmp_path / "one.gif", frames[1:])
    with Image.open(tmp_path / "one.gif") as file:
        assert (file.n_frames, file.info["duration"]) == (1, 500)


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
        assert file.n_frames == 40
        shades = []
        for number in range(file.n_frames):
            file.seek(number)
            shades.append(int(np.asarray(file.convert("L"))[30, 30]))
            assert file.info["duration"] == (200 if number < 39 else 1000)
    assert shades[0] <= 3
    assert abs(shades[-1] - 0.98 * 255) <= 3
    assert shades == sorted(shades)
    steps = np.linspace(0, 49, 40).round() * 100  # of 50, spread evenly
    np.testing.assert_allclose(shades, 255 * steps / 5000, atol=3)


def test_two_pictures_are_an_animation_and_one_is_none(tmp_path):
    for step in (1, 2):
        image_files.save(tmp_path / f"x-{step:08d}.png", np.full((1, 60, 60, 1), step / 2))
        assert (image_files.animate_steps(tmp_path, "x") is None) == (step == 1)
