import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxseg.pictures import palette
from launch.reporting import label_files


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_labels_come_back_from_the_file_and_lie_over_their_image(tmp_path, dtype):
    labels = np.arange(300 * 5).reshape(300, 5).astype(dtype) % 7
    label_files.save_labels(tmp_path / "labels.png", labels)
    image = np.full((300, 5, 3), 100, np.uint8)
    label_files.save_overlay(tmp_path / "overlay.png", image, labels)
    with Image.open(tmp_path / "labels.png") as file, Image.open(tmp_path / "overlay.png") as over:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), labels)
        shown = np.asarray(over).astype(int)
    np.testing.assert_array_equal(shown[labels == 0], 100)
    blend = (palette()[3].astype(int) + 100) // 2
    assert (shown[labels == 3] == blend).all()


def test_more_than_255_regions_are_written_with_16_bits(tmp_path):
    labels = np.arange(400, dtype=np.int32).reshape(20, 20)
    label_files.save_labels(tmp_path / "labels.png", labels)
    with Image.open(tmp_path / "labels.png") as file:
        np.testing.assert_array_equal(np.asarray(file), labels)


def test_more_regions_than_16_bits_are_refused(tmp_path):
    labels = np.array([[0, 65_536]])
    with pytest.raises(ValueError, match="65,536 regions"):
        label_files.save_labels(tmp_path / "labels.png", labels)
    label_files.save_labels(tmp_path / "labels.png", labels - 1 + (labels == 0))


def test_values_are_written_as_grey_levels(tmp_path):
    values = np.array([[-1.0, 0.0, 0.5, 2.0]])
    label_files.save_grey(tmp_path / "grey.png", values)
    label_files.save_heat(tmp_path / "heat.png", np.maximum(values, 0.0))
    label_files.save_heat(tmp_path / "blank.png", np.zeros((1, 4)))
    read = lambda name: np.asarray(Image.open(tmp_path / name)).tolist()
    assert read("grey.png") == [[0, 0, 128, 255]]
    assert read("heat.png") == [[0, 0, 64, 255]]
    assert read("blank.png") == [[0, 0, 0, 0]]


def shown(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_classes_that_overlap_are_shown_in_the_mean_of_their_colours(tmp_path):
    present = np.zeros((300, 4, 2), bool)
    present[:, 1:3, 0] = present[:, 2:, 1] = True
    image = np.full((300, 4, 1), 100, np.uint8)
    label_files.save_union(tmp_path / "union.png", image, present)
    first, second = palette()[1:3].astype(float)
    colours = np.array([[100] * 3, first, (first + second) / 2, second])
    expected = np.where(np.arange(4)[:, None] > 0, (colours + 100) / 2, colours)
    found = shown(tmp_path / "union.png")
    assert (found == found[:1]).all()
    np.testing.assert_allclose(found[0], expected, atol=1)


def test_outlines_lie_inside_of_the_objects(tmp_path):
    numbers = np.zeros((12, 20), np.int32)
    numbers[2:8, 2:9], numbers[2:8, 9:15], numbers[11, 19] = 1, 300, 2
    image = np.full((12, 20, 3), 7, np.uint8)
    label_files.save_outlines(tmp_path / "outlines.png", image, numbers)
    found, expected = shown(tmp_path / "outlines.png"), np.full((12, 20, 3), 7)
    for number in (1, 300, 2):
        mask = numbers == number
        inner = ndimage.binary_erosion(mask, border_value=1)
        expected[mask & ~inner] = palette()[1 + (number - 1) % 254]
    np.testing.assert_array_equal(found, expected)


def test_names_of_classes_become_endings_of_files():
    endings = label_files.endings
    assert endings(("sky", "open water", "a/b.c", "Bäume-2")) == [
        ".sky",
        ".open_water",
        ".a_b_c",
        ".Bäume-2",
    ]
    assert endings(("a b", "a/b", "c")) == [".0_a_b", ".1_a_b", ".2_c"]
    assert endings(("Sky", "sky")) == [".0_Sky", ".1_sky"]
